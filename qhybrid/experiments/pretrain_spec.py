"""The `[pretrain]` table of an experiment: how the CNN learns before it is trained with labels."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, field_validator, model_validator

from qhybrid.catalog import none_as_text
from qhybrid.data.spec import FORMS, SOURCE_KINDS, AngiographySpec, parse_source
from qhybrid.errors import InputError, did_you_mean

Share = Annotated[float, Field(ge=0, le=1)]
IMAGES = "images"
"""Kind of a source of images without labels, `images:PATH`."""


class PretrainSpec(BaseModel):
    """Pretraining of the CNN: SimCLR, which needs no labels (arXiv 2002.05709), or the labels of other images.

    Where the paper (arXiv 2601.16608) leaves a setting open, the default is our reading.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    method: Literal["simclr", "supervised"] = "simclr"
    """`simclr`: two views of an image are to be alike, those of others not; `supervised`: the labels of `source`."""
    source: Annotated[str | None, BeforeValidator(none_as_text)] = None
    """Whose training images: `images:PATH` (a folder of images without labels, at any depth), or one of those of
    `data.source`; None: all training images of the experiment, without their labels."""
    angiography: AngiographySpec = AngiographySpec()
    """Settings of the generated images, where `source` is `angiography`."""
    epochs: PositiveInt = 200
    """Passes over the images."""
    batch_size: int = Field(default=64, ge=2)
    """Images in a step; with `simclr` all others of the step are what an image is to differ from."""
    learning_rate: float = Field(default=1e-3, gt=0, lt=10)
    """Of Adam, at the first epoch."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """`cosine`: the learning rate falls to zero over all epochs, along half a cosine."""
    weight_penalty: float = Field(default=1e-4, ge=0)
    """lambda of: loss + lambda * (sum of the squares of all parameters)."""
    temperature: float = Field(default=0.5, gt=0, le=100)
    """tau of the NT-Xent loss (SimCLR, Eq. 1)."""
    projection: tuple[PositiveInt, PositiveInt] = (512, 128)
    """Hidden and last width of the projection head, which is dropped afterwards."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.4
    """A view shows at least this share of the image's area, resized. Findings are small: SimCLR's .08 may miss them."""
    brightness: Share = 0.4
    """A view is brighter or darker by up to this factor. There is no jitter of colours and no change to grey."""
    contrast: Share = 0.4
    """The same for contrast."""
    blur: Share = 0.2
    """How often a view is blurred."""
    blur_sigma: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=20)]] = (0.1, 1.0)
    """Smallest and largest standard deviation of the blur, in pixels."""

    @field_validator("source")
    @classmethod
    def _known_kind(cls, source: str | None) -> str | None:
        if source is not None and unlabelled_folder(source) is None:
            kind = source.partition(":")[0]
            if kind not in SOURCE_KINDS and not Path(source).expanduser().exists():
                near = did_you_mean(kind, [*SOURCE_KINDS, IMAGES])
                raise InputError(f"unknown data source {source!r}; {near}; write '{IMAGES}:PATH', {FORMS}")
            parse_source(source)
        return source

    @field_validator("blur_sigma")
    @classmethod
    def _rising(cls, sigma: tuple[float, float]) -> tuple[float, float]:
        if sigma[0] > sigma[1]:
            raise ValueError(f"must be [low, high] with low <= high, not [{sigma[0]:g}, {sigma[1]:g}]")
        return sigma

    @model_validator(mode="after")
    def _labels_of_others(self) -> "PretrainSpec":
        if self.method == "supervised" and (self.source is None or unlabelled_folder(self.source) is not None):
            raise ValueError(
                "method 'supervised' learns from the labels of other images: give a source that has labels, such as "
                "'angiography'"
            )
        return self


def unlabelled_folder(source: str) -> Path | None:
    """The folder of `images:PATH`; None for a source of another kind.

    Raises:
        InputError: It has no path.
    """
    kind, _, path = source.partition(":")
    if kind != IMAGES:
        return None
    if not path:
        raise InputError(f"data source {source!r} has no path; write '{IMAGES}:PATH'")
    return Path(path).expanduser()
