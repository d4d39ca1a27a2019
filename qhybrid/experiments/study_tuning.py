"""Tuning of a study: every arm tries the same settings with one seed, and keeps what serves it best on validation.

Controls that run at settings chosen for the quantum head are weak ones (Bowles, Ahmed and Schuld, arXiv 2403.07059).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from qhybrid import catalog
from qhybrid.errors import InputError
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.spec import ExperimentSpec, override
from qhybrid.experiments.study_arms import Arm, study_of
from qhybrid.experiments.study_runs import Trained
from qhybrid.experiments.study_spec import flat


def candidates_of(spec: ExperimentSpec, arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    """What each arm tries: itself with every combination of the values of `[study.tuning]`.

    Args:
        spec: The experiment with its `[study]` table.
        arms: All of them.

    Returns:
        Arm -> its candidates, the `tuning` of each holding its values; where nothing is tuned, the arm alone.

    Raises:
        InputError: A key or a value is wrong, or an arm has a value of its own for a key that is tuned.
    """
    grid = flat(study_of(spec).tuning)
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    found = {}
    for arm in arms:
        where = f"study {spec.name!r}, tuning of arm {arm.name!r}"
        if own := [key for key in arm.changes if key in grid]:
            raise InputError(f"{where}: the arm sets {own[0]} itself; a setting is tuned for all arms or for none")
        found[arm.name] = [
            replace(arm, spec=override(arm.spec, values, where=where), tuning=values) for values in combinations
        ]
        for each in found[arm.name]:
            if each.spec.model.head != "linear":
                catalog.find("circuits", each.spec.model.circuit)
    return found


def by_arm(trained: Sequence[Trained]) -> dict[str, list[Trained]]:
    """What became of trainings, arm by arm in their order."""
    found: dict[str, list[Trained]] = {}
    for each in trained:
        found.setdefault(each.arm, []).append(each)
    return found


def best(trained: Sequence[Trained]) -> int:
    """Which has the lowest validation loss; of equals, and where all failed, the first."""
    return int(np.argmin([np.inf if each.message else validation_loss(each) for each in trained]))


def validation_loss(trained: Trained) -> float:
    """The lowest of a training that is complete, which is that of the weights it kept."""
    assert trained.path is not None
    return float(np.min(open_run(trained.path).training_log()["validation_loss"]))


def tuning_results(
    candidates: Mapping[str, Sequence[Arm]], tried: Mapping[str, Sequence[Trained]], arms: Sequence[Arm], seed: int
) -> dict[str, Any]:
    """What `study.json` says of the tuning.

    Args:
        candidates: Of each arm.
        tried: What became of them, in their order.
        arms: Those that were chosen.
        seed: Of the trainings.

    Returns:
        `seed`; `tried`: arm -> settings, and validation loss (None: it failed) of each candidate; `chosen`:
        arm -> settings.
    """
    told = {
        name: [
            {"settings": arm.tuning, "validation_loss": None if each.message else validation_loss(each)}
            for arm, each in zip(several, tried[name], strict=True)
        ]
        for name, several in candidates.items()
    }
    return {"seed": seed, "tried": told, "chosen": {arm.name: arm.tuning for arm in arms}}


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Such as `train.learning_rate = 0.001`."""
    words = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in settings.items()}
    return ", ".join(f"{key} = {value}" for key, value in words.items())


def tuning_in_words(results: Mapping[str, Any]) -> list[str]:
    """What the reader of `study.json` is told of the tuning: one sentence, or none where there was none."""
    tuning = results.get("tuning")
    if not tuning:
        return []
    tried = [each["settings"] for each in next(iter(tuning["tried"].values()))]
    kept = "; ".join(f"{name}: {settings_in_words(settings)}" for name, settings in tuning["chosen"].items())
    values = "; ".join(settings_in_words(settings) for settings in tried)
    return [
        f"Every arm was tuned alike: it tried {len(tried)} settings ({values}) with seed {tuning['seed']} and kept "
        f"that with the lowest validation loss ({kept})."
    ]
