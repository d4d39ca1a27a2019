"""The `[generator]` table of an experiment: an image autoencoder and a diffusion model of its latents."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, field_validator, model_validator

from qhybrid.data.spec import Transform
from qhybrid.errors import InputError

Place = Literal["bottleneck", "denoiser"]
OF_BOTH = ("train.seed", "train.accelerator", "train.devices", "train.nodes")
"""Settings of a training that a generator's has as well."""
PLACES: tuple[Place, ...] = ("bottleneck", "denoiser")


def _places(value: Any) -> Any:
    return (list(PLACES) if value else []) if isinstance(value, bool) else value


class GeneratorSpec(BaseModel):
    """A latent diffusion model, trained on the training split (after arXiv 2508.09903, our reading)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    quantum: Annotated[list[Place], BeforeValidator(_places)] = ["bottleneck", "denoiser"]
    """Where circuits are: the `bottleneck` of the autoencoder, the `denoiser`'s residual blocks. Written as true: in
    both; false: in neither. Elsewhere a classical branch of the same size is in their place."""
    circuit: str = "angle_4q"
    """Name in the catalog or path of the circuit of every quantum block."""
    latent_channels: int = Field(default=4, ge=1, le=64)
    """Channels of a latent."""
    downsamplings: int = Field(default=2, ge=1, le=5)
    """How often the autoencoder halves the image: 2 makes 32 pixels 8."""
    autoencoder_width: int = Field(default=32, ge=8, le=512, multiple_of=8)
    """Channels of the autoencoder at half the resolution of the image; twice as many below."""
    denoiser_width: int = Field(default=48, ge=8, le=1024, multiple_of=8)
    """Channels of the denoiser at the resolution of the latents; twice as many below."""
    middle_blocks: int = Field(default=2, ge=1, le=16)
    """Residual blocks of the denoiser at its lower resolution."""
    quantum_blocks: int = Field(default=2, ge=1, le=18)
    """Residual blocks of the denoiser that hold a circuit (or the classical branch in its place): first those in the
    middle, then those round them."""
    transforms: list[Transform] = []
    """Random variations of the training images whose latents the denoiser learns, in this order (see data.transforms,
    which a generator does not take); the autoencoder learns the images as they are. What a transform leaves black at
    the border is learnt as well: `affine` gave frames."""
    kl_weight: float = Field(default=1e-4, ge=0, le=100)
    """Factor on the Kullback-Leibler divergence of the latents from a standard normal, a mean over their values."""
    edge_weight: float = Field(default=1.0, ge=0, le=100)
    """Factor on the absolute error of differences between neighbouring pixels, which keeps reconstructions sharp."""
    timesteps: int = Field(default=1000, ge=2, le=10_000)
    """T, the steps of the noise schedule."""
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"
    """As diffusers' DDPMScheduler calls them; `squaredcos_cap_v2` is the cosine schedule."""
    prediction: Literal["epsilon", "v_prediction"] = "v_prediction"
    """What the denoiser predicts: the noise, or the velocity."""
    sampling_steps: PositiveInt = 100
    """Steps that a sample takes, spread over the schedule; at most T."""
    autoencoder_epochs: PositiveInt = 6
    """Passes of the autoencoder over the training images."""
    denoiser_epochs: PositiveInt = 24
    """Passes of the denoiser over their latents."""
    batch_size: int = Field(default=64, ge=2)
    """Images in a step of either."""
    autoencoder_learning_rate: float = Field(default=2e-3, gt=0, lt=10)
    """Of Adam, at the first epoch; it falls to zero along half a cosine."""
    denoiser_learning_rate: float = Field(default=2e-3, gt=0, lt=10)
    """The same for the denoiser."""
    average_decay: float = Field(default=0.995, ge=0, lt=1)
    """Of the exponential moving average of the denoiser's weights, which are those that are validated and kept."""
    copy_quantile: float = Field(default=0.01, ge=0, le=0.5)
    """Samples that lie closer to a training image than this quantile of the distances between training images and
    their nearest training neighbours are copies, and are drawn anew; 0: every sample is kept."""

    @field_validator("quantum")
    @classmethod
    def _in_order(cls, quantum: list[Place]) -> list[Place]:
        return [place for place in PLACES if place in quantum]

    @model_validator(mode="after")
    def _within(self) -> "GeneratorSpec":
        if self.sampling_steps > self.timesteps:
            raise ValueError(f"sampling_steps {self.sampling_steps} must not exceed timesteps {self.timesteps}")
        if self.quantum_blocks > self.middle_blocks + 2:
            raise ValueError(
                f"quantum_blocks {self.quantum_blocks} must not exceed the {self.middle_blocks + 2} residual blocks "
                "(middle_blocks + 2)"
            )
        return self


def check_generator_settings(keys: Iterable[str], name: str) -> None:
    """Refuse settings of a classifier that are given to the training of a generator, which would ignore them.

    Args:
        keys: Dotted keys that the user gave.
        name: Of the experiment.

    Raises:
        InputError: There is one.
    """
    for key in keys:
        if key.startswith(("model.", "train.")) and key not in OF_BOTH:
            raise InputError(
                f"{key} is of a classifier, but experiment {name!r} trains a generator: see its [generator]"
            )
