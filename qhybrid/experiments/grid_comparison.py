"""Runs over a grid of devices, noise and shots: what each condition costs the diagnosis, and which part of it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from qhybrid import catalog
from qhybrid.errors import InputError
from qhybrid.experiments.adaptation import training_samples
from qhybrid.experiments.adaptation_fits import FITTED_ON, check_method
from qhybrid.experiments.cells import CellTask, compute_cell, prepare_head, read_cell
from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS
from qhybrid.experiments.environment import command_line, git_commit
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.findings import Attribution, Threshold, attributions, thresholds
from qhybrid.experiments.gains import GainTask, compute_gain, read_gain
from qhybrid.experiments.grid import Cell, parts_of
from qhybrid.experiments.recoveries import Recovery, recoveries, recovery_pairs
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import open_run
from qhybrid.statistics import holm
from qhybrid.storage import write_json

TESTED = ("accuracy", "auc")
"""Metrics whose p-values are corrected together (Holm), over all cells of a comparison."""


@dataclass(frozen=True)
class GridComparison:
    """Every cell of a grid for one or several runs."""

    path: Path
    """Its file."""
    cells: list[dict[str, Any]]
    """What `cells.compute_cell` wrote, in the order of runs and grid; with `p_holm` beside every tested `p`."""
    parts: list[dict[str, Any]]
    """The same for the parts of the noise models, exact."""
    attributions: list[Attribution]
    thresholds: list[Threshold]
    recoveries: list[Recovery]
    left_out: list[str]
    """What no device could do."""
    margin: float
    computed: int
    """Cells that were computed now; the others were there."""

    @property
    def smallest_p(self) -> float:
        """No corrected p-value can be smaller: each is a share of the bootstrap's draws, times the number of tests."""
        return min(1.0, 2 * len(self.cells) / (BOOTSTRAP_DRAWS + 1))

    @property
    def smallest_recovery_p(self) -> float:
        """The same for the p-values of the recoveries."""
        return min(1.0, 2 * len(self.recoveries) / (BOOTSTRAP_DRAWS + 1))

    def to_dict(self) -> dict[str, Any]:
        """What its file holds."""
        return {
            "cells": self.cells,
            "parts": self.parts,
            "attributions": [each.to_dict() for each in self.attributions],
            "thresholds": [each.to_dict() for each in self.thresholds],
            "recoveries": [each.to_dict() for each in self.recoveries],
            "left_out": self.left_out,
            "smallest_p": self.smallest_p,
            "smallest_recovery_p": self.smallest_recovery_p,
            "margin": self.margin,
            "git": git_commit(),
            "command": command_line(),
        }


def compare_runs(
    runs: Sequence[Run],
    cells: Sequence[Cell],
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    margin: float = 0.02,
    attribute: bool = True,
    left_out: Sequence[str] = (),
    executor: Executor | None = None,
    console: Console | None = None,
) -> GridComparison:
    """Evaluate runs under every condition of a grid, each once and for all: what is there is not computed again.

    Args:
        runs: Complete runs with a quantum layer, all of the same data.
        cells: From `grid.grid`.
        split: `train`, `validation` or `test`.
        limit: Only so many samples, drawn class by class; None: all.
        seed: Of the shots, of that draw and of the bootstrap.
        margin: Loss of a metric that would matter.
        attribute: Also compute what tells apart the parts of each noise model.
        left_out: What the grid had to leave out, for the record.
        executor: Where cells are computed; None: here.
        console: Where progress goes; None: standard error.

    Returns:
        The comparison; it is written into the first run as `comparison/<hash>.json`.

    Raises:
        InputError: A run has no quantum layer, the runs are of different data, the margin is not positive, or the
            split is one that an adaptation is fitted on.
    """
    _check(runs, cells, split, margin, seed)
    parts = parts_of(cells) if attribute else []
    asked = [CellTask(str(run.path), cell, split, limit, seed, margin) for run in runs for cell in [*cells, *parts]]
    tasks = list(dict.fromkeys(asked))
    todo = [task for task in tasks if not task.file.exists()]
    executor, console = executor or Executor(), console or Console(stderr=True)
    search_layouts(todo, executor, console)
    _compute(compute_cell, todo, [task.cell.label for task in todo], executor, console)
    found = {task: read_cell(task) for task in tasks}
    of_grid, of_parts = set(cells), set(parts)
    measured = [found[task] for task in asked if task.cell in of_grid]
    apart = [found[task] for task in asked if task.cell in of_parts]
    measured, apart = _once(measured), _once(apart)
    for metric in TESTED:
        tests = [cell["metrics"][metric] for cell in measured]
        for test, corrected in zip(tests, holm([test["p"] for test in tests]), strict=True):
            test["p_holm"] = float(corrected)
    pairs = recovery_pairs(measured, runs)
    gains = [GainTask(*pair.files, seed) for pair in pairs]
    new = {task: pair.what for task, pair in zip(gains, pairs, strict=True) if not task.file.exists()}
    _compute(compute_gain, list(new), list(new.values()), executor, console)
    name = hashlib.sha256(json.dumps([task.key for task in tasks]).encode()).hexdigest()[:12]
    comparison = GridComparison(
        path=runs[0].path / "comparison" / f"{name}.json",
        cells=measured,
        parts=apart,
        attributions=attributions(measured, apart),
        thresholds=thresholds(measured, margin),
        recoveries=recoveries(pairs, [read_gain(task) for task in gains]),
        left_out=list(left_out),
        margin=margin,
        computed=len(todo),
    )
    write_json(comparison.path, comparison.to_dict())
    return comparison


def _check(runs: Sequence[Run], cells: Sequence[Cell], split: str, margin: float, seed: int) -> None:
    if not 0 < margin < 1:
        raise InputError(f"margin = {margin:g}: a loss between 0 and 1 is needed")
    if not runs:
        raise InputError("no run to compare")
    for run in runs:
        if not run.spec.model.has_circuit:
            raise InputError(f"run {str(run.path)!r} has a {run.spec.model.head} head: no device runs it")
        if not run.spec.model.is_quantum and any(cell.adapt is not None for cell in cells):
            raise InputError(f"run {str(run.path)!r} has {run.spec.model.without_quantum_layer}: nothing to adapt")
        run.features(split)
        for method in {cell.adapt for cell in cells if cell.adapt is not None}:
            training_samples(run, None, seed)
            for needed in FITTED_ON[check_method(method, split)]:
                run.features(needed)
        if run.data["fingerprint"] != runs[0].data["fingerprint"]:
            raise InputError(
                f"runs of different data cannot be compared: {str(runs[0].path)!r} ({runs[0].data['source']}) and "
                f"{str(run.path)!r} ({run.data['source']})"
            )


def search_layouts(tasks: Sequence[CellTask], executor: Executor, console: Console) -> None:
    """Search the layouts that cells need, each once: cells that run at the same time would each search for it.

    A layout is kept on disk, where the cells find it. Cells that run one after another need no such beginning.

    Args:
        tasks: Cells to be computed.
        executor: Where they are.
        console: Where progress goes.
    """
    if executor.kind == "serial":
        return
    runs = {name: open_run(name) for name in {task.run for task in tasks}}
    circuits = {
        name: (run.spec.model.head, catalog.find("circuits", run.circuit).read_bytes()) for name, run in runs.items()
    }
    needed: dict[tuple[object, ...], CellTask] = {}
    for task in tasks:
        cell = task.cell
        if cell.noise is not None:
            needed.setdefault((*circuits[task.run], cell.device, cell.noise, cell.layout_seeds), task)
    first = list(needed.values())
    _compute(prepare_head, first, [f"layout on {task.cell.noise}" for task in first], executor, console)


def _compute(
    function: Callable[[Any], object], tasks: Sequence[Any], labels: Sequence[str], executor: Executor, console: Console
) -> None:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        shown = bar.add_task("cells", total=len(tasks))
        for number, _ in executor.run(function, tasks):
            bar.update(shown, advance=1, description=labels[number])


def _once(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({cell["key"]: cell for cell in cells}.values())
