"""The arms of a study with all their settings: what differs between them, and which are compared."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from qhybrid import catalog
from qhybrid.errors import InputError
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml, override
from qhybrid.experiments.study_spec import StudySpec, flat, slug

BUDGET = ("train.epochs", "train.patience", "train.batch_size", "train.learning_rate", "train.schedule")
"""What makes a comparison unfair where it differs."""
WORDS = {"name", "description", "source", "cost", "quick", "study"}
"""Keys of an experiment that change no training."""
ARM_DATA = ("data.transforms", "data.label_fraction")
"""What of the images arms may differ in: their augmentation, and how many of them are trained on."""
CENTRES = ("domains.centres", "domains.held_out", "domains.seed")
"""Settings of the images in `[domains]`."""


@dataclass(frozen=True)
class Arm:
    """One arm of a study."""

    name: str
    spec: ExperimentSpec
    """All of its settings; those of a run add the seed."""
    changes: dict[str, Any]
    """Dotted key -> value that it lays over the experiment."""
    tuning: dict[str, Any] = field(default_factory=dict)
    """The same for settings that were tuned."""

    def with_seed(self, seed: int) -> ExperimentSpec:
        """The experiment of one of its runs."""
        train = self.spec.train.model_copy(update={"seed": seed})
        return self.spec.model_copy(update={"name": f"{slug(self.name)}-seed{seed}", "train": train})


@dataclass(frozen=True)
class Pair:
    """Two arms that are compared."""

    arm: str
    against: str


def study_of(spec: ExperimentSpec) -> StudySpec:
    """The `[study]` table of an experiment.

    Raises:
        InputError: It has none.
    """
    if spec.study is None:
        raise InputError(f"experiment {spec.name!r} has no [study] table; train it with `qhybrid train {spec.name}`")
    return spec.study


def resolve_arms(spec: ExperimentSpec) -> list[Arm]:
    """Lay the settings of every arm over the experiment.

    Args:
        spec: With a `[study]` table.

    Raises:
        InputError: It has none; a setting of an arm is wrong; an arm has other images; or two arms are the same.
    """
    base = spec.model_copy(update={"study": None})
    arms: list[Arm] = []
    for each in study_of(spec).all_arms:
        where = f"study {spec.name!r}, arm {each.name!r}"
        changed = override(base, each.settings, where=where)
        if changed.model.head != "linear":
            catalog.find("circuits", changed.model.circuit)
        if changed.trains_generator:  # the arm has no use for it: a classifier is trained
            changed = changed.model_copy(update={"generator": None})
        changes = differences([base, changed])
        other = [key for key in changes if (key.startswith("data.") and key not in ARM_DATA) or key in CENTRES]
        if other:
            raise InputError(
                f"{where}: {other[0]} differs; all arms have the same images, only {' and '.join(ARM_DATA)} may differ"
            )
        twin = next((arm for arm in arms if not differences([arm.spec, changed])), None)
        if twin is not None:
            raise InputError(f"{where}: has the same settings as arm {twin.name!r}")
        arms.append(Arm(each.name, changed.model_copy(update={"description": each.name}), each.settings))
    return arms


def pairs(study: StudySpec) -> list[Pair]:
    """Which arms are compared.

    Arms that are listed: each with the reference. Arms of a grid: those that differ in one setting only, of which one
    has the value of the reference; with `study.compare` one of the settings that it lists. Baselines: each with the
    reference, and a quantum kernel with its classical twin.
    """
    baselines = [Pair(study.baseline_arm(each), study.reference_name) for each in study.baselines]
    if {"quantum-kernel", "rbf-kernel"} <= set(study.baselines):
        baselines.append(Pair(study.baseline_arm("quantum-kernel"), study.baseline_arm("rbf-kernel")))
    return [*_trained_pairs(study), *baselines]


def _trained_pairs(study: StudySpec) -> list[Pair]:
    """Those of arms that are trained."""
    reference = study.reference_name
    if study.arms:
        return [Pair(arm.name, reference) for arm in study.arms if arm.name != reference]
    settings = {arm.name: arm.settings for arm in study.all_arms}
    found = []
    for name, values in settings.items():
        for key, value in settings[reference].items():
            if study.compare and key not in study.compare:
                continue
            nearer = {**values, key: value}
            found += [Pair(name, other) for other, theirs in settings.items() if theirs == nearer and other != name]
    return found


def differences(specs: list[ExperimentSpec]) -> dict[str, list[Any]]:
    """Settings that are not the same in all experiments, but for their names and seeds: dotted key -> values."""
    told = [flat(spec.model_dump(mode="json", exclude=WORDS)) for spec in specs]
    keys = [key for key in dict.fromkeys(key for each in told for key in each) if key != "train.seed"]
    values = {key: [each.get(key) for each in told] for key in keys}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def study_hash(spec: ExperimentSpec) -> str:
    """Names the folder of a study: by all that arms and seeds are laid over, so that more of them go on in it."""
    train = spec.train.model_copy(update={"seed": 0})
    base = spec.model_copy(update={"study": None, "description": "", "source": "", "cost": "", "train": train})
    return hashlib.sha256(experiment_toml(base).encode()).hexdigest()[:8]
