"""The `[domains]` table of an experiment: the centres that images come from, and how a network learns across them."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from qhybrid.data.spec import parse_source
from qhybrid.errors import did_you_mean

EACH, NOTHING = "each", "none"
"""What `held_out` says besides the name of a centre."""
REFERENCE_SIZE = 224
"""Pixels a side of the image that the blur of a centre is given for."""


class CentreSpec(BaseModel):
    """One centre: the images of a source of its own, or a share of `[data]` seen through its transforms.

    The transforms are applied at `data.image_size` to grey values in [0, 1], in the order of the settings below; after
    each of them values are cut to [0, 1]. 0 is off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=40)
    """As tables show it; it begins the names of its images."""
    source: str | None = None
    """Its images, in the forms of `data.source`, which is then not read; None: a share of the images of `[data]`."""
    resolution: float = Field(default=0, ge=0, le=1)
    """Share of the pixels a side that is left: resized down to it with antialiasing, and up again bilinearly."""
    blur: float = Field(default=0, ge=0, le=100)
    """Standard deviation of a Gaussian blur in pixels of an image of 224; it shrinks with the image."""
    sharpness: float = Field(default=0, ge=-1, le=50)
    """s: x + s * (x - smoothed x), with torchvision's 3 x 3 smoothing; -1 is that smoothing itself."""
    gamma: float = Field(default=0, ge=0, le=20)
    """Exponent: x ^ gamma, above 1 darker."""
    contrast: float = Field(default=0, ge=-1, le=50)
    """c: mean + (1 + c) * (x - mean), with the mean grey value of the image; -1 leaves nothing but that."""
    brightness: float = Field(default=0, ge=-1, le=1)
    """Added to every pixel."""
    noise: float = Field(default=0, ge=0, le=10)
    """Standard deviation of Gaussian noise, the same in every epoch: it is seeded by image and centre."""

    @field_validator("name")
    @classmethod
    def _not_a_word(cls, name: str) -> str:
        if name in (EACH, NOTHING):
            raise ValueError(f"{name!r} is a word of domains.held_out; give the centre another name")
        return name

    @model_validator(mode="after")
    def _either_or(self) -> "CentreSpec":
        if self.source is not None:
            parse_source(self.source)
            if self.strengths:
                key = next(iter(self.strengths))
                raise ValueError(f"centre {self.name!r} has a source of its own, and takes no {key}")
        return self

    @property
    def strengths(self) -> dict[str, float]:
        """The transforms that are on, in the order in which they apply."""
        names = ("resolution", "blur", "sharpness", "gamma", "contrast", "brightness", "noise")
        return {name: value for name in names if (value := getattr(self, name)) != 0}


class DomainsSpec(BaseModel):
    """Images of several centres, of which one is left out of the training and tested on."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    centres: list[CentreSpec] = Field(min_length=2)
    """Two at least. Either all have a source, or none: then every image of `[data]` belongs to exactly one of them,
    drawn so that each has its share of every class of every split."""
    held_out: str = EACH
    """Name of the centre whose test images are the test split; train and validation are of the others. `none`: no
    centre is left out, all are in all splits; `each`: for `qhybrid study`, each centre in turn."""
    adversarial: float = Field(default=0, ge=0, le=1000)
    """Largest factor on the reversed gradient of a domain classifier, which learns to tell the training centres from
    the features that the head receives (Ganin and Lempitsky, ICML 2015); 0: no such classifier."""
    adversarial_schedule: Literal["rising", "constant"] = "rising"
    """`rising`: that factor times 2 / (1 + exp(-10 p)) - 1, p from 0 to 1 over all steps, as there; or `constant`."""
    domain_units: int = Field(default=64, ge=1, le=65536)
    """Hidden units of the domain classifier."""
    consistency: float = Field(default=0, ge=0, le=1000)
    """Weight of a loss between the predictions for a training image as its own centre sees it and as another training
    centre would, drawn anew in every epoch; 0: no second view. Not for centres with sources."""
    consistency_loss: Literal["jensen-shannon", "symmetric-kl"] = "jensen-shannon"
    """Divergence of the two predictions; `symmetric-kl`: mean of both Kullback-Leibler divergences."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the share of each centre, and of its noise."""

    @model_validator(mode="after")
    def _fitting(self) -> "DomainsSpec":
        names = [centre.name for centre in self.centres]
        for name in names:
            if [each.lower() for each in names].count(name.lower()) > 1:
                raise ValueError(f"two centres are called {name!r}")
        if self.held_out not in (EACH, NOTHING, *names):
            near = did_you_mean(self.held_out, [*names, EACH, NOTHING])
            raise ValueError(f"held_out is {self.held_out!r}, which is no centre; {near}")
        without = [centre.name for centre in self.centres if centre.source is None]
        if without and len(without) < len(names):
            raise ValueError(f"centre {without[0]!r} has no source, others have: either all centres have one or none")
        if self.consistency and not without:
            raise ValueError(
                "consistency needs a second view, and centres with sources have no transforms: set it to 0"
            )
        for key in ("adversarial", "consistency"):
            if getattr(self, key) and self.held_out != NOTHING and len(names) < 3:
                raise ValueError(f"{key} needs two training centres, so three centres with the one that is held out")
        return self

    @property
    def names(self) -> list[str]:
        """Of all centres."""
        return [centre.name for centre in self.centres]

    @property
    def simulated(self) -> bool:
        """Whether the centres share the images of `[data]`."""
        return self.centres[0].source is None

    @property
    def training(self) -> list[int]:
        """Which centres are trained on."""
        return [number for number, name in enumerate(self.names) if name != self.held_out]

    @property
    def tested(self) -> list[int]:
        """Which centres are tested on."""
        everything = self.held_out in (EACH, NOTHING)
        return [number for number, name in enumerate(self.names) if everything or name == self.held_out]

    @property
    def parts(self) -> list[str]:
        """What `held_out` is in turn in a study."""
        return self.names if self.held_out == EACH else [self.held_out]

    @property
    def changes_training(self) -> bool:
        """Whether the training is another one than without centres."""
        return self.adversarial > 0 or self.consistency > 0


class TestTimeSpec(BaseModel):
    """How a network adapts to images without their labels when it is tested (Tent)."""

    __test__ = False  # pytest takes classes of this name for tests
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    steps: int = Field(default=10, ge=0, le=10_000)
    """Passes over the images, each batch one step of Adam on the mean entropy of the predictions; 0: only the
    statistics of the normalisation are those of the images."""
    learning_rate: Annotated[float, Field(gt=0, lt=10)] = 1e-3
    """Of Adam."""
    batch_size: int = Field(default=64, ge=2, le=65536)
    """Images whose statistics are taken together, at most."""


def centre_of(image_id: str, names: Sequence[str]) -> str:
    """Name of the centre that an image is from, which begins its id.

    Args:
        image_id: Such as `B:test/17`.
        names: Of all centres.
    """
    name = image_id.partition(":")[0]
    assert name in names, image_id
    return name
