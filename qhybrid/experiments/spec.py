"""The format of `experiments/*.toml`: data, augmentation, model, device, training."""

import re
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, field_validator, model_validator

from qhybrid import catalog
from qhybrid.catalog import none_as_text
from qhybrid.data.centres_spec import DomainsSpec
from qhybrid.data.spec import AugmentSpec, DataSpec
from qhybrid.errors import InputError, did_you_mean
from qhybrid.experiments.generator_spec import GeneratorSpec
from qhybrid.experiments.model_spec import Attention, Backbone, Fusion, Head, ModelSpec
from qhybrid.experiments.pretrain_spec import PretrainSpec
from qhybrid.experiments.study_spec import Scale, StudySpec, flat
from qhybrid.noise_models.model import PARTS

__all__ = [
    "Attention", "Backbone", "DeviceChoice", "ExperimentSpec", "Fusion", "Head", "ModelSpec", "TrainSpec",
    "experiment_toml", "load_experiment", "override", "parse_setting", "pretrain_spec",
]  # fmt: skip

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")

LATER: dict[tuple[str, str], Any] = {
    ("model", "attention"): "none",
    ("model", "fusion"): "replace",
    ("data", "label_fraction"): 1.0,
}
"""Settings that came after the first runs. Runs and studies are named by their experiment's text, so it leaves these
out where they have the values that they had before they could be set."""


def _twice(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) else value


Shots = Annotated[PositiveInt | None, BeforeValidator(none_as_text)]


class DeviceChoice(BaseModel):
    """Which device runs the quantum layer, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = "lightning.qubit"
    """Name or path of the device (`qhybrid ls devices`)."""
    diff_method: Literal["best", "backprop", "adjoint", "parameter-shift", "spsa"] = "best"
    """Gradient method; `best` is the device's own default."""
    shots: Shots = None
    """Shots per circuit; None: analytic."""
    noise: Annotated[str | None, BeforeValidator(none_as_text)] = None
    """Name or path of a noise model (`qhybrid ls noise-models`); None: no noise."""
    noise_scale: Scale = 1.0
    """Factor on all rates of the noise model."""
    noise_parts: Annotated[list[str] | None, BeforeValidator(none_as_text)] = None
    """Which parts of the noise model are on, of gates1q, gates2q, thermal, readout, idle; None: all."""
    backend: Annotated[str | None, BeforeValidator(none_as_text)] = None
    """Machine of a device that has several, such as ibm_fez of `qiskit.remote`; None: that in the device's file."""
    mitigation: str | None = None
    """How errors are mitigated, such as `readout` or `readout,zne`; `none`: not at all; None: as the device's file
    says."""
    layout_seeds: Annotated[int | None, Field(ge=1, le=1000), BeforeValidator(none_as_text)] = None
    """Transpiler seeds tried for the layout on the machine of the noise model; None: the device's default."""

    @field_validator("noise_parts")
    @classmethod
    def _known_parts(cls, parts: list[str] | None) -> list[str] | None:
        for part in parts or ():
            if part not in PARTS:
                raise ValueError(f"unknown noise part {part!r}; {did_you_mean(part, PARTS)}")
        return parts


class TrainSpec(BaseModel):
    """Training; the defaults are the paper's (section 2.5)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    epochs: PositiveInt = 30
    """Passes over the training images at most."""
    batch_size: int = Field(default=16, ge=2)
    """Images per step; batch normalisation needs two."""
    learning_rate: float = Field(default=1e-4, gt=0, lt=10)
    """Of Adam, at the first epoch."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine`: the learning rate falls to zero over all epochs, along half a cosine."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Of Adam."""
    weight_penalty: float = Field(default=1e-4, ge=0)
    """lambda of the loss: cross entropy + lambda * (sum of the squares of all parameters)."""
    noise_scale: Annotated[tuple[Scale, Scale], BeforeValidator(_twice)] = (1.0, 1.0)
    """Noise injection: each training step scales the device's noise by a factor of its own, drawn uniformly from
    [low, high] in 16 steps, so that what was compiled for a factor is used again. A single number is that factor in
    every step. Validation and results always have factor 1."""
    patience: int = Field(default=5, ge=0)
    """Stop after this many epochs without a lower validation loss; 0: never."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Draws the first weights, the synthetic samples, the order of the images and their transforms."""
    workers: int = Field(default=0, ge=0, le=256)
    """Processes that prepare batches; 0: the training process itself. Results do not depend on it."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where the CNN runs; `auto`: a CUDA GPU where there is one."""
    devices: PositiveInt = 1
    """Processes of one node, each on a GPU of its own, or on the CPU; they share the images of every step."""
    nodes: PositiveInt = 1
    """Computers; with several, srun or torchrun starts the processes."""
    strategy: str = "auto"
    """How Lightning keeps the processes in step: `ddp`, or `ddp_find_unused_parameters_true`; `auto`: `ddp` where there
    are several."""
    loggers: list[Literal["csv", "tensorboard", "mlflow"]] = ["csv"]
    """Besides `metrics.csv`, which is always written."""

    @property
    def n_processes(self) -> int:
        """All processes that train together."""
        return self.devices * self.nodes

    @field_validator("strategy")
    @classmethod
    def _known_strategy(cls, strategy: str) -> str:
        if strategy not in STRATEGIES:
            raise ValueError(f"unknown strategy {strategy!r}; {did_you_mean(strategy, STRATEGIES)}")
        return strategy

    @field_validator("noise_scale")
    @classmethod
    def _rising(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError(f"must be [low, high] with low <= high, not [{scale[0]:g}, {scale[1]:g}]")
        return scale


class ExperimentSpec(BaseModel):
    """A whole experiment, as in `experiments/*.toml` and in the `config.toml` of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(default="experiment", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the folder of the runs; the stem of the file unless it is given."""
    description: str = ""
    """What the experiment shows, in one or two sentences."""
    source: str = ""
    """Where its settings come from: a paper, with its section."""
    cost: str = ""
    """What it takes: how many trainings, on what, for how long."""
    quick: dict[str, Any] = {}
    """Settings that `--quick` lays over all others of the file, so that the whole of it runs in seconds."""
    data: DataSpec = DataSpec()
    augment: AugmentSpec = AugmentSpec()
    model: ModelSpec = ModelSpec()
    device: DeviceChoice = DeviceChoice()
    train: TrainSpec = TrainSpec()
    pretrain: PretrainSpec | None = None
    """How the CNN is pretrained by `qhybrid pretrain`, and for `model.weights = "pretrained"`; None: the defaults."""
    domains: DomainsSpec | None = None
    """Images of several centres, one of them held out; None: images are just images."""
    generator: GeneratorSpec | None = None
    """A generator of images instead of a classifier; with augment.kind `latent-diffusion` the classifier's
    augmentation. None: no generator is trained."""
    study: Annotated[StudySpec | None, BeforeValidator(none_as_text)] = None
    """Arms that change single settings of this experiment, for `qhybrid study`; None: one training."""

    @model_validator(mode="after")
    def _adapts_across_centres(self) -> "ExperimentSpec":
        if self.study is not None and self.study.adapt_at_test is not None and self.domains is None:
            raise ValueError("study.adapt_at_test is for studies that leave centres out: give [domains]")
        return self

    @model_validator(mode="after")
    def _generator_at_hand(self) -> "ExperimentSpec":
        if self.augment.kind == "latent-diffusion" and self.generator is None and self.augment.generator is None:
            raise ValueError(
                "augment.kind 'latent-diffusion' takes a generator: give augment.generator, the folder of its run, or "
                "a [generator] table"
            )
        return self

    @property
    def trains_generator(self) -> bool:
        """Whether a generator is what is trained, and no classifier."""
        return self.generator is not None and self.augment.kind != "latent-diffusion"


def load_experiment(
    name_or_path: str, overrides: Mapping[str, Any] | None = None, *, quick: bool = False
) -> ExperimentSpec:
    """Read an experiment and lay single settings over it.

    Args:
        name_or_path: A name in the catalog (`quickstart`) or the path of a TOML file.
        overrides: Dotted key -> value, as from `--set train.epochs=3`; None changes nothing.
        quick: Lay its `[quick]` table over it first, and add `-quick` to its name.

    Returns:
        The experiment, without that table.

    Raises:
        InputError: There is no such experiment, or a key or a value is wrong; names the file or the command
            line, the key, and the nearest that is right.
    """
    path = catalog.find("experiments", name_or_path)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-") or "experiment"
    values = {"name": name} | catalog.load_toml(path)
    spec = catalog.parse(ExperimentSpec, values, str(path))
    if quick and not spec.quick:
        raise InputError(f"{path}: has no [quick] table, which says what --quick makes smaller")
    shortened = override(spec, flat(spec.quick), where=f"{path}, [quick]")
    spec = shortened.model_copy(update={"name": f"{spec.name}-quick"}) if quick else spec
    spec = spec.model_copy(update={"quick": {}})
    if overrides:
        spec = override(spec, overrides)
    if spec.model.head != "linear":
        catalog.find("circuits", spec.model.circuit)
    if spec.generator is not None:
        catalog.find("circuits", spec.generator.circuit)
    if spec.study is not None:
        from qhybrid.experiments.study_arms import resolve_arms

        resolve_arms(spec)
    return spec


def pretrain_spec(spec: ExperimentSpec) -> PretrainSpec:
    """The `[pretrain]` table of an experiment, or the defaults where it has none."""
    return spec.pretrain or PretrainSpec()


def override(spec: ExperimentSpec, overrides: Mapping[str, Any], *, where: str = "command line") -> ExperimentSpec:
    """Lay single settings over an experiment.

    Args:
        spec: The experiment.
        overrides: Dotted key -> value.
        where: They come from, for the error.

    Returns:
        The changed experiment.

    Raises:
        InputError: A key or a value is wrong.
    """
    values = spec.model_dump(exclude_none=True)
    for key, value in overrides.items():
        _assign(values, key, value, where)
    return catalog.parse(ExperimentSpec, values, where)


def parse_setting(text: str) -> tuple[str, Any]:
    """Take `train.epochs=3` apart.

    Args:
        text: A dotted key, an equals sign and a value: a TOML value (`3`, `0.1`, `true`, `["flip"]`), or else
            taken as a string.

    Returns:
        The key and the value.

    Raises:
        InputError: There is no key or no equals sign.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text!r}: write key=value, such as train.epochs=3")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def experiment_toml(spec: ExperimentSpec) -> str:
    """Every setting of an experiment, defaults included, as the text of a TOML file.

    But for those of `LATER` at their defaults, and for how many processes train it where that is one: runs and studies
    are named by this text.
    """
    import tomli_w

    values = spec.model_dump(mode="json", exclude_none=True, exclude={"quick"})
    if not spec.cost:
        del values["cost"]
    for (table, key), default in LATER.items():
        if values[table][key] == default:
            del values[table][key]
    if spec.train.n_processes == 1:
        for key in ("devices", "nodes", "strategy"):
            del values["train"][key]
    return tomli_w.dumps(values)


def _assign(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key in nested tables; tables on the way that do not exist are left to the validation."""
    *tables, last = key.split(".")
    for table in tables:
        inner = values.setdefault(table, {})
        if not isinstance(inner, dict):
            raise InputError(f"{where}: unknown key {key!r}; {table!r} is a single value")
        values = inner
    values[last] = deepcopy(value)
