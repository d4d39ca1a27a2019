"""What devices do to a study: every arm with a circuit under each condition, and what differs there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from qhybrid.errors import InputError
from qhybrid.experiments.cells import CellTask
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.grid import Cell, grid
from qhybrid.experiments.grid_comparison import search_layouts
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.study_arms import Pair, pairs
from qhybrid.experiments.study_kernels import KernelTask
from qhybrid.experiments.study_results import Predicted, predictions_of, predictions_of_baselines
from qhybrid.experiments.study_runs import SPLIT, Trained
from qhybrid.experiments.study_spec import StudySpec
from qhybrid.experiments.study_tests import Labels, arm_statistics, compare_arms, correct
from qhybrid.storage import read_arrays

DeviceTask = CellTask | KernelTask
SAID_EVERY = 10
"""Of so many evaluations one line is said."""


def conditions_of(study: StudySpec) -> list[Cell]:
    """The conditions of `[study.devices]`; none without it. Exact values without noise are what all is compared with.

    Raises:
        InputError: There is no such device or noise model, or nothing is left that a device can do.
    """
    asked = study.devices
    if asked is None:
        return []
    cells, left_out = grid(
        asked.device,
        [None if name.lower() == "none" else name for name in asked.noise],
        asked.noise_scale,
        [None if shots == "exact" else shots for shots in asked.shots],
        repeats=1,
        mitigations=[way.replace("+", ",") for way in asked.mitigation] or [None],
    )
    cells = [cell for cell in cells if cell.noise is not None or cell.shots is not None]
    if left_out or not cells:
        raise InputError(f"[study.devices]: {'; '.join(left_out) or 'exact values without noise are the reference'}")
    return cells


def device_results(
    study: StudySpec, trained: Mapping[str, Sequence[Trained]], executor: Executor, console: Console
) -> list[dict[str, Any]]:
    """Evaluate every complete run with a circuit under every condition, and test what that does.

    Each run gets one draw of the shots of its own, so that what shots do is part of what differs between seeds. A cell
    is kept in its run's folder, where `qhybrid compare` finds it.

    Args:
        study: The `[study]` table.
        trained: For each arm what became of each seed.
        executor: Where cells are computed.
        console: Where progress goes.

    Returns:
        For each condition `label`, `cell`, `arms` (metrics of those with a circuit), `losses` (each of them against
        itself with exact values) and `comparisons` (the pairs of the study with at least one of them, as they are on
        this device). Losses are one family of tests, comparisons another, over all conditions (Holm).

    Raises:
        InputError: As `conditions_of`, or a file is damaged.
    """
    cells = conditions_of(study)
    with_circuit = [
        each
        for several in trained.values()
        for each in several
        if cells and not each.message and open_run(str(each.path)).spec.model.has_circuit
    ]
    tasks: dict[tuple[Cell, str, int], DeviceTask] = {
        (cell, each.arm, each.seed): cell_task(study, each, cell) for cell in cells for each in with_circuit
    }
    if "quantum-kernel" in study.baselines:
        name = study.baseline_arm("quantum-kernel")
        of_reference = [each for each in trained[study.reference_name] if not each.message]
        tasks |= {
            (cell, name, each.seed): KernelTask(str(each.path), cell, each.seed)
            for cell in cells
            for each in of_reference
        }
    if not tasks:
        return []
    todo = list(dict.fromkeys(task for task in tasks.values() if not task.file.exists()))
    search_layouts([task for task in todo if isinstance(task, CellTask)], executor, console)
    for done, _ in enumerate(executor.run(_compute, todo), 1):
        if done in (1, len(todo)) or done % SAID_EVERY == 0:
            console.print(f"[{done}/{len(todo)}] evaluations on devices", highlight=False, markup=False)
    labels, predicted = predictions_of(trained, "head")
    predicted |= predictions_of_baselines(study, trained)
    assert labels is not None
    found: list[dict[str, Any]] = []
    for cell in cells:
        noisy, exact = predicted_on_device({place[1:]: task for place, task in tasks.items() if place[0] == cell})
        found.append(condition_results(cell, labels, noisy, exact, predicted, pairs(study), margin=study.margin))
    correct_conditions(found)
    return found


def _compute(task: DeviceTask) -> str:
    return task.compute()


def cell_task(study: StudySpec, trained: Trained, cell: Cell) -> CellTask:
    """The evaluation of one training of a study under one condition."""
    return CellTask(str(trained.path), cell, SPLIT, None, trained.seed, study.margin)


def condition_results(
    cell: Cell,
    labels: Labels,
    noisy: Mapping[str, Predicted],
    exact: Mapping[str, Predicted],
    elsewhere: Mapping[str, Predicted],
    compared: Sequence[Pair],
    *,
    margin: float,
) -> dict[str, Any]:
    """What `device_results` says of one condition, not yet corrected.

    Args:
        cell: The condition.
        labels: True classes, (N,).
        noisy: Arm -> what it predicts under the condition.
        exact: The same arms -> with exact values.
        elsewhere: Arm -> what it predicts where no device runs it.
        compared: Pairs of arms; those of which neither is on the device are left out.
        margin: Difference of a metric that would matter.
    """
    there = {**elsewhere, **noisy}
    return {
        "label": cell.label,
        "cell": cell.to_dict(),
        "arms": [
            {"name": name, "metrics": arm_statistics(labels, np.stack(list(each.values())))}
            for name, each in noisy.items()
        ],
        "losses": [_test(labels, Pair(name, f"{name}, exact"), noisy[name], exact[name], margin) for name in noisy],
        "comparisons": [
            _test(labels, pair, there[pair.arm], there[pair.against], margin)
            for pair in compared
            if {pair.arm, pair.against} & noisy.keys() and there[pair.arm].keys() & there[pair.against].keys()
        ],
    }


def correct_conditions(found: Sequence[dict[str, Any]]) -> None:
    """Correct losses and comparisons over all conditions (Holm), each a family of its own; changed in place."""
    for family in ("losses", "comparisons"):
        correct([each for condition in found for each in condition[family]])


def predicted_on_device(
    tasks: Mapping[tuple[str, int], DeviceTask],
) -> tuple[dict[str, Predicted], dict[str, Predicted]]:
    """What each arm predicts with each seed under one condition, and with exact values."""
    noisy: dict[str, Predicted] = {}
    exact: dict[str, Predicted] = {}
    for (name, seed), task in tasks.items():
        file = task.file.with_suffix(".npz")
        arrays = read_arrays(file, ("repeated_probabilities", "reference_probabilities"))
        noisy.setdefault(name, {})[seed] = arrays["repeated_probabilities"][0]
        exact.setdefault(name, {})[seed] = arrays["reference_probabilities"]
    return noisy, exact


def _test(labels: Labels, pair: Pair, mine: Predicted, theirs: Predicted, margin: float) -> dict[str, Any]:
    """Of the seeds that both have."""
    seeds = [seed for seed in mine if seed in theirs]
    arm, against = (np.stack([each[seed] for seed in seeds]) for each in (mine, theirs))
    return {
        "arm": pair.arm,
        "against": pair.against,
        "seeds": seeds,
        **compare_arms(labels, arm, against, margin=margin),
    }
