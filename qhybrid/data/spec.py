"""The `[data]` and `[augment]` tables of an experiment: which images, which split, which synthetic samples."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from qhybrid.errors import InputError, did_you_mean

SPLITS = ("train", "validation", "test")
SOURCE_KINDS = ("angiography", "medmnist", "folder", "dicom")
FORMS = "'angiography', 'medmnist:PATH.npz', 'folder:PATH' or 'dicom:PATH'"

Transform = Literal["affine", "flip", "quarter_turns", "brightness", "contrast"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Counts = tuple[PositiveInt, PositiveInt]


def parse_source(source: str) -> tuple[str, Path | None]:
    """Take a source such as `medmnist:images.npz` apart.

    Args:
        source: `angiography`, `medmnist:PATH.npz`, `folder:PATH` or `dicom:PATH`.

    Returns:
        The kind of source, and its path (None for generated images).

    Raises:
        InputError: The kind is unknown, the path is missing, or a generated source has one.
    """
    kind, colon, path = source.partition(":")
    if kind not in SOURCE_KINDS:
        if Path(source).expanduser().exists():
            guess = "folder" if Path(source).expanduser().is_dir() else "medmnist"
            raise InputError(f"data source {source!r} does not say its kind; did you mean '{guess}:{source}'?")
        raise InputError(f"unknown data source {source!r}; {did_you_mean(kind, SOURCE_KINDS)}; write {FORMS}")
    if kind == "angiography":
        if colon:
            raise InputError(f"data source {source!r} takes no path; write 'angiography'")
        return kind, None
    if not path:
        raise InputError(f"data source {source!r} has no path; write {FORMS}")
    return kind, Path(path).expanduser()


class AngiographySpec(BaseModel):
    """The generated coronary angiographies. Counts are [negative, positive]; the defaults are the paper's."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    view: Literal["patch", "tree", "crop"] = "patch"
    """`patch`: a vessel segment with the region in question near the centre; `tree`: the whole view; `crop`: a square
    cut from one, a sixth of it wide: round the stenosis, or of a view without one anywhere."""
    train: Counts = (280, 102)
    """Training images, [negative, positive]."""
    validation: Counts = (60, 60)
    """Validation images, [negative, positive]."""
    test: Counts = (60, 60)
    """Test images, [negative, positive]."""
    size: Annotated[int, Field(ge=32, le=512)] | None = None
    """Height and width in pixels as generated; None: 64 for `patch`, 224 for `tree`, 32 for `crop`."""
    difficulty: Annotated[float, Field(ge=0, le=1)] = 0.5
    """0 easy to 1 hard. Moves the mildest stenosis, the narrowing that negatives may have, noise and clutter.
    At 0.5 a stenosis in `patch` narrows the lumen by 60-95 % and a negative by at most 20 %."""
    seed: int = Field(default=0, ge=0)
    """Every image is drawn from this seed, its split, its class and its number."""


class DicomSpec(BaseModel):
    """How a folder of DICOM files is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    csv: str = "labels.csv"
    """Table of `file,label[,split]`, relative to the folder of the source (or an absolute path)."""
    frame: Annotated[int, Field(ge=0)] | None = None
    """Which frame of a multi-frame file, counted from 0; None: the middle one."""


class DataSpec(BaseModel):
    """Which images a classifier learns from, and how they are split, resized and varied."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str = "angiography"
    """`angiography` (generated), `medmnist:PATH.npz`, `folder:PATH` or `dicom:PATH`."""
    image_size: int = Field(default=224, ge=32, le=1024)
    """Height and width in pixels of the images that the backbone sees."""
    transforms: list[Transform] = []
    """Random variations of the training images, in this order; none in the paper's experiment."""
    limit: PositiveInt | None = None
    """Only this many images of each split, drawn class by class with `split_seed`; None: all."""
    drop_leaks: bool = False
    """Remove the training copy of every image that recurs in validation or test."""
    label_fraction: float = Field(default=1.0, gt=0, le=1)
    """Only this share of the training images of every class keeps its label and is trained on, one image at least;
    drawn by `train.seed`, a smaller share out of a larger one. Pretraining has all images, without labels."""
    fractions: tuple[Fraction, Fraction, Fraction] = (0.7, 0.15, 0.15)
    """Train, validation, test shares of a source that comes without splits (stratified by class)."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of that split, and of a `limit`."""
    angiography: AngiographySpec = AngiographySpec()
    """Settings of the generated images."""
    dicom: DicomSpec = DicomSpec()
    """Settings of a `dicom:` source."""

    @field_validator("source")
    @classmethod
    def _known_kind(cls, source: str) -> str:
        parse_source(source)
        return source

    @field_validator("transforms")
    @classmethod
    def _each_once(cls, transforms: list[Transform]) -> list[Transform]:
        for name in transforms:
            if transforms.count(name) > 1:
                raise ValueError(f"{name!r} is listed twice")
        return transforms

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(fractions) - 1) > 1e-6:
            raise ValueError(f"train, validation and test must sum to 1, these sum to {sum(fractions):g}")
        return fractions


class AugmentSpec(BaseModel):
    """Synthetic samples for the smaller classes of the training split (SDA-QEC, section 2.2)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Literal["diffusion", "geometric", "latent-diffusion", "none"] = "diffusion"
    """`diffusion`: forward diffusion noise (the paper's); `geometric`: rotation, flip, brightness; `latent-diffusion`:
    samples of a generator that was trained on the training split; `none`."""
    generator: str | None = None
    """Run folder of the generator of `latent-diffusion`; None: one with the settings of `[generator]` is trained
    first, or found where it was trained before."""
    quantum: bool | None = None
    """Whether that generator has circuits: true everywhere, false nowhere; None: as `[generator]` says."""
    rho: float = Field(default=0.7, ge=0, le=100)
    """Every class is filled up to this multiple of the largest: M = max(0, ceil(rho N_maj) - N_min). Above 1 every
    class gets synthetic samples, where all are equally large, too."""
    steps: int = Field(default=5, ge=1, le=1000)
    """T, the length of the noise schedule."""
    beta_start: float = Field(default=1e-4, gt=0, lt=1)
    """beta_1 of the linear schedule."""
    beta_end: float = Field(default=0.02, gt=0, lt=1)
    """beta_T of the linear schedule."""
    include_last_step: bool = False
    """Draw t from 1..T; the paper draws from 0..T-1, which holds a clean copy and never uses beta_T."""
    blur_sigma: float = Field(default=0.5, ge=0, le=20)
    """Standard deviation in pixels of the Gaussian blur after the noise; 0: no blur."""
    brightness: tuple[float, float] = (0.9, 1.1)
    """Range of the uniform brightness factor gamma."""
    composition: Literal["scale", "product"] = "scale"
    """Eq. 4: `scale` is gamma * blur(x); `product` is the literal blur(x) * (gamma * x)."""

    @field_validator("brightness")
    @classmethod
    def _ordered(cls, brightness: tuple[float, float]) -> tuple[float, float]:
        low, high = brightness
        if not 0 < low <= high:
            raise ValueError(f"must be [low, high] with 0 < low <= high, not [{low:g}, {high:g}]")
        return brightness

    @model_validator(mode="after")
    def _rising(self) -> "AugmentSpec":
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start {self.beta_start:g} must not exceed beta_end {self.beta_end:g}")
        return self
