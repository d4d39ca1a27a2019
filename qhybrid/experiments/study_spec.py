"""The `[study]` table of an experiment: which arms are trained, with which seeds, and what they are compared with."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from qhybrid.data.centres_spec import TestTimeSpec
from qhybrid.errors import did_you_mean
from qhybrid.noise_models.model import MAX_SCALE

Overrides = dict[str, Any]
"""Settings of one table of the experiment, such as `{"head": "linear"}` of `[model]`."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Scale = Annotated[float, Field(ge=0, le=MAX_SCALE, allow_inf_nan=False)]
Baseline = Literal["logistic", "quantum-kernel", "rbf-kernel"]
ARM_TABLES = ("data", "pretrain", "augment", "model", "device", "train", "domains")
"""Tables whose settings an arm can change."""
TUNED = ("augment.", "model.", "train.")
"""Tables whose settings can be tuned."""


class ArmSpec(BaseModel):
    """One arm: a name, and the settings that it changes, written as `model.head = "linear"`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(min_length=1, max_length=60)
    """As tables show it; also names the folders of its runs."""
    data: Overrides = {}
    """Only `transforms` and `label_fraction`: all arms have the same images."""
    pretrain: Overrides = {}
    augment: Overrides = {}
    model: Overrides = {}
    device: Overrides = {}
    train: Overrides = {}
    domains: Overrides = {}
    """All but the centres, which of them is held out, and `seed`: all arms have the same images."""

    @field_validator("name")
    @classmethod
    def _nameable(cls, name: str) -> str:
        if not slug(name):
            raise ValueError(f"{name!r} has no letter and no digit")
        return name.strip()

    @property
    def settings(self) -> dict[str, Any]:
        """Dotted key -> value."""
        return flat({table: getattr(self, table) for table in ARM_TABLES})


class DeviceGrid(BaseModel):
    """Conditions under which every arm with a circuit is evaluated as well: all combinations of the lists."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    device: list[str] = Field(default=["qhybrid.density"], min_length=1)
    """Names or paths of devices."""
    noise: list[str] = Field(default=["none"], min_length=1)
    """Names or paths of noise models, or `none`."""
    noise_scale: list[Scale] = Field(default=[1.0], min_length=1)
    """Factors on their rates."""
    shots: list[PositiveInt | Literal["exact"]] = Field(default=["exact"], min_length=1)
    """Of every circuit."""
    mitigation: list[str] = []
    """Ways to mitigate errors, such as `readout+zne`, or `none`."""


class StudySpec(BaseModel):
    """Arms that are trained with the same seeds and compared with one of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    seeds: list[Seed] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    """Each arm is trained once with each, as `train.seed`."""
    arms: list[ArmSpec] = []
    """The arms one by one; each is compared with the reference."""
    grid: dict[str, Overrides] = {}
    """Or lists of values of settings: an arm for each combination, compared where they differ in one thing only."""
    reference: str | None = None
    """Name of the arm that others are compared with; None: the first."""
    compare: list[str] = []
    """Settings of the grid whose changes are tested; none listed: all of them."""
    margin: float = Field(default=0.02, gt=0, lt=1)
    """Difference of a metric that would matter."""
    tuning: dict[str, Overrides] = {}
    """Lists of values of settings of `[augment]`, `[model]` or `[train]`. Every arm tries all combinations with the
    first seed and keeps that with the lowest validation loss."""
    devices: DeviceGrid | None = None
    """Where every arm with a circuit is evaluated as well."""
    baselines: list[Baseline] = []
    """What is fitted to the features of the reference, arms of their own that take no training: `logistic` regression,
    `quantum-kernel` (a support vector machine with the kernel of its circuit, on the devices as well), `rbf-kernel`."""
    adapt_at_test: TestTimeSpec | None = None
    """Where centres are left out: every arm is also adapted to the test images without their labels, an arm of its own
    that takes no training; None: none is."""

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed is listed twice: {seeds}")
        return seeds

    @model_validator(mode="after")
    def _arms_or_grid(self) -> "StudySpec":
        if bool(self.arms) == bool(self.grid):
            raise ValueError("a study has either [[study.arms]] or a [study.grid]")
        for table, settings in (("grid", self.grid), ("tuning", self.tuning)):
            for key, values in flat(settings).items():
                if not isinstance(values, list) or len(values) < 2:
                    raise ValueError(f"study.{table}.{key} must be a list of two values at least, not {values!r}")
        for key in self.compare:
            if key not in flat(self.grid):
                raise ValueError(f"study.compare names {key!r}, which the grid does not vary; "
                                 f"{did_you_mean(key, flat(self.grid))}")  # fmt: skip
        if other := [key for key in flat(self.tuning) if not key.startswith(TUNED) or key == "train.seed"]:
            raise ValueError(f"study.tuning.{other[0]} cannot be tuned; settings of augment, model, train can")
        names: dict[str, str] = {}
        for arm in self.all_arms:
            if slug(arm.name) in names:
                raise ValueError(f"arms {names[slug(arm.name)]!r} and {arm.name!r} need names that differ in letters")
            names[slug(arm.name)] = arm.name
        if self.reference is not None and self.reference not in names.values():
            raise ValueError(f"no arm is called {self.reference!r}; {did_you_mean(self.reference, names.values())}")
        return self

    @property
    def all_arms(self) -> list[ArmSpec]:
        """The arms, or those that the grid spans, named by their values, such as `none, linear`."""
        if self.arms:
            return self.arms
        combinations: list[dict[str, Any]] = [{}]
        for key, values in flat(self.grid).items():
            combinations = [{**each, key: value} for each in combinations for value in values]
        return [_grid_arm(each) for each in combinations]

    @property
    def reference_name(self) -> str:
        """Name of the arm that others are compared with."""
        return self.reference or self.all_arms[0].name

    def baseline_arm(self, baseline: Baseline) -> str:
        """What the arm of a baseline is called."""
        return f"{baseline.replace('-', ' ').replace('rbf', 'RBF')} on {self.reference_name} features"


def slug(name: str) -> str:
    """A name in letters, digits, dots and hyphens, for folders."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.").lower()


def flat(tables: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys -> values."""
    found: dict[str, Any] = {}
    for key, value in tables.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found


def _grid_arm(settings: dict[str, Any]) -> ArmSpec:
    tables: dict[str, Overrides] = {}
    for key, value in settings.items():
        table, _, rest = key.partition(".")
        tables.setdefault(table, {})[rest] = value
    name = ", ".join(str(value) if value or value == 0 else "nothing" for value in settings.values())
    return ArmSpec.model_validate({"name": name, **tables})
