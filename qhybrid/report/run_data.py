"""What a report needs of a run: its exact predictions and their metrics, other evaluations, and a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import InputError, did_you_mean
from qhybrid.experiments.adaptation_fits import DONE
from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS, CONFIDENCE
from qhybrid.experiments.findings import is_bare
from qhybrid.experiments.run_folder import Run
from qhybrid.statistics import (
    BootstrapDistribution,
    Equivalence,
    Interval,
    accuracy_equivalence_of_counts,
    bootstrap_distributions,
    classification_metrics,
    confusion_matrix,
    wilson_intervals,
)
from qhybrid.storage import read_arrays, read_json

USUAL_SHOTS = 1024
"""The shots whose conditions the verdict tells, or the nearest to them."""


@dataclass(frozen=True)
class Condition:
    """One cell of a comparison with its predictions."""

    cell: dict[str, Any]
    """As `cells.compute_cell` wrote it, with `p_holm` beside each tested `p`."""
    path: Path
    """Of its arrays."""

    @property
    def n(self) -> int:
        """Images."""
        return int(self.cell["n_samples"])

    @property
    def noise(self) -> str:
        """Name of the noise model with its strength, and what is done about it; `no noise`."""
        place = self.cell["cell"]
        adaptation = f", {DONE[place['adapt']]}" if self.adapted else ""
        if place["noise"] is None:
            return f"no noise{adaptation}"
        scale = "" if place["noise_scale"] == 1 else f" x{place['noise_scale']:g}"
        mitigation = f", {place['mitigation'].replace(',', ' + ')}" if self.mitigated else ""
        return f"{place['noise']}{scale}{mitigation}{adaptation}"

    @property
    def mitigated(self) -> bool:
        """Whether errors were mitigated."""
        return self.cell["cell"].get("mitigation") not in (None, "none")

    @property
    def adapted(self) -> bool:
        """Whether something was fitted anew under the condition."""
        return self.cell["cell"].get("adapt") is not None

    @property
    def shots(self) -> str:
        """Such as `1024 shots`; `exact`."""
        shots = self.cell["cell"]["shots"]
        return "exact" if shots is None else f"{shots} shots"

    @property
    def where(self) -> str:
        """In a sentence: device, noise with the date of its calibration, shots."""
        place, noise = self.cell["cell"], self.cell["device"]["noise"]
        if noise is None:
            return f"On {place['device']} without noise, {self.shots}"
        date = f" (calibrated {noise['date'][:10]})" if noise.get("date") else ""
        return f"On {place['device']} with the noise of {self.noise}{date}, {self.shots}"

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the cell keeps: of each repeat probabilities (R, N, C), their reference, expectation values (N, M)."""
        names = ("ids", "labels", "expectation_values", "repeated_probabilities")
        return read_arrays(self.path, (*names, "reference_probabilities", "reference_expectation_values"))

    @cached_property
    def flips(self) -> NDArray[np.float64]:
        """Share of the repeats in which the class of each image is not that of the exact reference, (N,)."""
        exact = self.arrays["reference_probabilities"].argmax(axis=-1)
        shares: NDArray[np.float64] = (self.arrays["repeated_probabilities"].argmax(axis=-1) != exact).mean(axis=0)
        return shares

    @cached_property
    def equivalence(self) -> Equivalence:
        """Tango's test that no accuracy of the margin or more is lost, from the mean counts over the repeats.

        The bootstrap knows nothing of changes that did not occur; this test does.
        """
        labels = self.arrays["labels"]
        right = self.arrays["repeated_probabilities"].argmax(axis=-1) == labels
        exact = self.arrays["reference_probabilities"].argmax(axis=-1) == labels
        gained, lost = (right & ~exact).sum(axis=1).mean(), (~right & exact).sum(axis=1).mean()
        return accuracy_equivalence_of_counts(
            float(gained), float(lost), len(labels), float(self.cell["margin"]), claim="non-inferior"
        )

    @property
    def needed(self) -> int | None:
        """Images that would be needed for it even if no diagnosis changed; None: there are as many."""
        margin = float(self.cell["margin"])
        n = self.n
        while not accuracy_equivalence_of_counts(0, 0, n, margin, claim="non-inferior").shown:
            n += 1
        return None if n == self.n else n

    @property
    def ruled_out(self) -> bool:
        """Whether a loss of accuracy of the margin is: both by that test and by the bootstrap of the comparison."""
        return self.equivalence.shown and bool(self.cell["metrics"]["accuracy"]["non_inferior"])

    def draws(self, seed: int) -> dict[str, NDArray[np.float64]]:
        """Bootstrap draws of each metric over images and repeats."""
        repeated = self.arrays["repeated_probabilities"]
        found = bootstrap_distributions(
            self.arrays["labels"], repeated if len(repeated) > 1 else repeated[0], n=BOOTSTRAP_DRAWS, seed=seed
        )
        return {name: each.draws for name, each in found.items()}


@dataclass(frozen=True)
class RunData:
    """A run, read. `read_run` makes it."""

    run: Run
    split: str
    result: dict[str, Any]
    """The evaluation whose exact predictions these are."""
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    """(N, C), exact and without noise where the run has that."""
    exact: bool
    distributions: Mapping[str, BootstrapDistribution]
    results: Sequence[dict[str, Any]]
    """All evaluations."""
    comparison: dict[str, Any] | None
    conditions: Sequence[Condition]
    """Of the comparison, those of this run."""

    @property
    def generated(self) -> bool:
        """Whether the images are made by a computer."""
        return str(self.run.data["source"]) == "angiography"

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Of the exact predictions."""
        return classification_metrics(self.labels, self.probabilities)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, true class by predicted class."""
        return confusion_matrix(self.labels, self.probabilities)

    @cached_property
    def wilson(self) -> dict[str, Interval]:
        """Intervals of the proportions."""
        return wilson_intervals(self.confusion, CONFIDENCE)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Wilson's of proportions, the bootstrap's of all else."""
        return {name: each.interval(CONFIDENCE) for name, each in self.distributions.items()} | self.wilson

    @property
    def margin(self) -> float:
        """Loss of a metric that would matter."""
        return float(self.comparison["margin"]) if self.comparison else 0.02

    def place(self, condition: Condition) -> str:
        """The noise of a condition, with its device where there are several."""
        device = condition.cell["cell"]["device"]
        several = any(each.cell["cell"]["device"] != device for each in self.conditions)
        return f"{device}, {condition.noise}" if several else condition.noise

    def label(self, condition: Condition) -> str:
        """The same with its shots."""
        return f"{self.place(condition)}, {condition.shots}"

    @property
    def plain(self) -> list[Condition]:
        """Conditions without mitigation and adaptation."""
        return [each for each in self.conditions if is_bare(each.cell)]

    @cached_property
    def usual(self) -> list[Condition]:
        """Conditions at full noise and usual shots, one for each device and noise, nothing done about it."""
        full = [each for each in self.plain if each.cell["cell"]["noise_scale"] == 1]
        sampled = [each.cell["cell"]["shots"] for each in full if each.cell["cell"]["shots"] is not None]
        nearest = min(sampled, key=lambda shots: abs(np.log(shots / USUAL_SHOTS)), default=None)
        chosen: dict[tuple[str, str | None], Condition] = {}
        for each in full:
            place = each.cell["cell"]
            key = place["device"], place["noise"]
            if place["shots"] == nearest or key not in chosen:
                chosen[key] = each
        return list(chosen.values())


def read_run(run: Run, *, split: str = "test", comparison: str | None = None) -> RunData:
    """Read what a report shows of a run.

    Args:
        run: A complete run.
        split: Whose predictions.
        comparison: Its name or file; None: the newest.

    Raises:
        InputError: It has no evaluation of that split or not this comparison, or a file is damaged.
    """
    results = [read_json(path) for path in sorted((run.path / "results").glob("*.json"))]
    n = len(run.features(split).labels)
    whole = [
        each
        for each in results
        if each.get("split") == split and each.get("n_samples") == n and "baseline" not in each
        and "-adapted-" not in str(each.get("name")) and "adapted_at_test" not in each
    ]  # fmt: skip
    if not whole:
        raise InputError(
            f"run {str(run.path)!r} has no evaluation of its {split} split: `qhybrid eval {run.path}` makes one"
        )
    result = min(whole, key=lambda each: (each.get("reference") is not None, str(each["name"])))
    file = run.path / "predictions" / f"{Path(str(result['name'])).name}.npz"
    noisy = result.get("reference") is not None
    source = "reference_probabilities" if noisy else "probabilities"
    arrays = read_arrays(file, ("labels", source))
    labels, probabilities = arrays["labels"], arrays[source]
    compared, conditions = _comparison(run, split, comparison)
    return RunData(
        run=run,
        split=split,
        result=result,
        labels=labels,
        probabilities=probabilities,
        exact=run.spec.model.is_quantum,
        distributions=bootstrap_distributions(labels, probabilities, n=BOOTSTRAP_DRAWS, seed=int(result["seed"])),
        results=results,
        comparison=compared,
        conditions=conditions,
    )


def _comparison(run: Run, split: str, name: str | None) -> tuple[dict[str, Any] | None, list[Condition]]:
    """A comparison with cells of this run and split, and these; what is the reference itself is none.

    Args:
        run: The run.
        split: Whose predictions.
        name: The comparison's, as `qhybrid compare` prints it; None: the newest.
    """
    folder = run.path / "comparison"
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    if name is not None:
        wanted = Path(name).name.removesuffix(".json")
        names = [file.stem for file in files]
        if wanted not in names:
            raise InputError(f"run {str(run.path)!r} has no comparison {wanted!r}; {did_you_mean(wanted, names)}")
        files = [folder / f"{wanted}.json"]
    for file in reversed(files):
        comparison = read_json(file)
        conditions = [
            Condition(cell, folder / "cells" / f"{Path(str(cell['key'])).name}.npz")
            for cell in comparison["cells"]
            if cell["split"] == split and (cell["cell"]["noise"], cell["cell"]["shots"]) != (None, None)
        ]
        conditions = [each for each in conditions if each.path.is_file()]
        if conditions:
            return comparison | {"file": file.name}, conditions
    if name is not None:
        raise InputError(f"comparison {files[0].stem!r} has no condition of the {split} split")
    return None, []
