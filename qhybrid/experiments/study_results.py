"""What a study found: its arms, what they had in common and what not, the comparisons, the verdict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qhybrid.data.augment import synthetic_count
from qhybrid.errors import InputError
from qhybrid.experiments.comparison import CONFIDENCE
from qhybrid.experiments.network_cost import flops_of
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.spec import ExperimentSpec
from qhybrid.experiments.study_arms import BUDGET, Arm, differences, pairs, study_of
from qhybrid.experiments.study_runs import SPLIT, Trained, epochs_of
from qhybrid.experiments.study_spec import Baseline, StudySpec, flat
from qhybrid.experiments.study_tests import ALPHA, Labels, Probabilities, arm_statistics, compare_arms, correct
from qhybrid.experiments.study_verdict import verdict

Predicted = dict[int, Probabilities]
"""Seed -> probabilities (N, C) on the test split."""


def study_results(
    spec: ExperimentSpec, arms: Sequence[Arm], trained: Mapping[str, Sequence[Trained]], folder: Path
) -> dict[str, Any]:
    """Put together what `study.json` holds, but for what it was obtained with.

    Args:
        spec: The experiment with its `[study]` table.
        arms: All of them.
        trained: For each arm what became of each seed.
        folder: Of the study; the paths of runs are relative to it.

    Raises:
        InputError: The runs are of different images, or a file is damaged.
    """
    study = study_of(spec)
    tuned = flat(study.tuning)
    data = _common_data(trained)
    labels, predicted = predictions_of(trained, "head")
    described = [
        _described(arm, trained[arm.name], folder) | {"metrics": _statistics(labels, predicted[arm.name])}
        for arm in arms
    ]
    reference = study.reference_name
    predicted |= predictions_of_baselines(study, trained)
    for each in study.baselines:
        name = study.baseline_arm(each)
        baseline = _baseline(name, each, trained[reference], folder)
        described.append(baseline | {"metrics": _statistics(labels, predicted[name])})
    specs = {arm.name: arm.spec for arm in arms}
    compared = []
    for pair in pairs(study):
        common = [seed for seed in predicted[pair.arm] if seed in predicted[pair.against]]
        if not common or labels is None:
            continue  # said by the numbers of seeds, and by the verdict
        mine, theirs = (np.stack([predicted[name][seed] for seed in common]) for name in (pair.arm, pair.against))
        changed = differences([specs[pair.arm], specs[pair.against]]) if pair.arm in specs else {}
        compared.append(
            {
                "arm": pair.arm,
                "against": pair.against,
                "changed": sorted(key for key in changed if key not in tuned),
                "seeds": common,
                **compare_arms(labels, mine, theirs, margin=study.margin),
            }
        )
    correct(compared)
    differing = {
        key: dict(zip(specs, values, strict=True)) for key, values in differences(list(specs.values())).items()
    }
    first = arms[0].spec.train
    return {
        "name": spec.name,
        "description": spec.description,
        "source": spec.source,
        "split": SPLIT,
        "n_samples": 0 if labels is None else len(labels),
        "seeds": study.seeds,
        "data": data,
        "reference": reference,
        "margin": study.margin,
        "alpha": round(ALPHA, 6),
        "confidence": CONFIDENCE,
        "settings_that_differ": differing,
        "budget": {key: getattr(first, key.partition(".")[2]) for key in BUDGET if key not in differing},
        "unequal_budget": [key for key in BUDGET if key in differing and key not in tuned],
        "arms": described,
        "comparisons": compared,
        "verdict": verdict(described, compared, study, n_samples=0 if labels is None else len(labels)),
    }


def _common_data(trained: Mapping[str, Sequence[Trained]]) -> dict[str, Any]:
    """What all runs were trained on."""
    found: dict[str, Any] = {}
    for each in (one for several in trained.values() for one in several if one.path is not None):
        run = open_run(each.path, incomplete=True)
        if not (run.path / "data.json").is_file():
            continue
        keys = ("source", "fingerprint", "class_names", "counts", "leaks", "leaks_dropped")
        data = {key: run.data[key] for key in keys}
        if found and data["fingerprint"] != found["fingerprint"]:
            raise InputError(
                f"the images of {data['source']!r} changed between the trainings of the study: {each.path} has others; "
                "start again with another --out"
            )
        found = found or data
    return found


def predictions_of(trained: Mapping[str, Sequence[Trained]], which: str) -> tuple[Labels | None, dict[str, Predicted]]:
    """Labels (N,) of the test split, and what each arm predicts with each seed that is complete."""
    labels: Labels | None = None
    ids = np.array([])
    found: dict[str, Predicted] = {name: {} for name in trained}
    for name, several in trained.items():
        for each in several:
            if each.message:
                continue
            arrays = each.predictions(which)
            if labels is None:
                labels, ids = arrays["labels"], arrays["ids"]
            elif not (np.array_equal(labels, arrays["labels"]) and np.array_equal(ids, arrays["ids"])):
                raise InputError(f"run {each.path!r} was tested on other samples than the rest of the study")
            found[name][each.seed] = arrays["probabilities"]
    return labels, found


def predictions_of_baselines(study: StudySpec, trained: Mapping[str, Sequence[Trained]]) -> dict[str, Predicted]:
    """The same for the arms of the baselines, with exact values."""
    reference = study.reference_name
    return {
        study.baseline_arm(each): predictions_of({reference: trained[reference]}, each)[1][reference]
        for each in study.baselines
    }


def _statistics(labels: Labels | None, predicted: Predicted) -> dict[str, dict[str, Any]] | None:
    """Of the seeds that are complete; None where there is none."""
    return None if labels is None or not predicted else arm_statistics(labels, np.stack(list(predicted.values())))


def _described(arm: Arm, trained: Sequence[Trained], folder: Path) -> dict[str, Any]:
    """An arm without its statistics: settings, sizes, images, and what became of each seed."""
    runs, parameters, images, flops = [], None, None, None
    for each in trained:
        row: dict[str, Any] = {"seed": each.seed, "state": each.state, "message": each.message, "run": None}
        if each.path is not None:
            run = open_run(each.path, incomplete=True)
            row["run"] = run.path.relative_to(folder).as_posix()
            if not each.message:
                row |= epochs_of(run) | {"evaluation": each.evaluations["head"], "metrics": _values(each.result())}
                parameters = run.data["parameters"]
                images = training_images(run.data["counts"]["train"], arm.spec)
                if flops is None:
                    flops = flops_of(run.spec, n_classes=len(run.class_names), circuit=run.circuit)
        runs.append(row)
    return {
        "name": arm.name,
        "changes": arm.changes,
        "parameters": parameters,
        "flops": flops,
        "training_images": images,
        "augmentation": arm.spec.augment.kind,
        "transforms": arm.spec.data.transforms,
        "n_seeds": sum(not each.message for each in trained),
        "runs": runs,
    }


def _baseline(name: str, baseline: Baseline, trained: Sequence[Trained], folder: Path) -> dict[str, Any]:
    """The same for a baseline on the features of an arm."""
    runs, parameters = [], None
    for each in trained:
        row: dict[str, Any] = {"seed": each.seed, "state": each.state, "message": each.message, "run": None}
        if each.path is not None:
            row["run"] = Path(each.path).relative_to(folder).as_posix()
        if not each.message:
            result = each.result(baseline)
            row |= {
                "evaluation": each.evaluations[baseline],
                "metrics": _values(result),
                "baseline": result["baseline"],
            }
            parameters = {"head": result["baseline"].get("parameters")}
        runs.append(row)
    n_seeds = sum(not each.message for each in trained)
    return {"name": name, "changes": {}, "parameters": parameters, "n_seeds": n_seeds, "runs": runs}


def _values(result: dict[str, Any]) -> dict[str, float]:
    return {metric: each["value"] for metric, each in result["metrics"].items()}


def training_images(counts: Mapping[str, int], spec: ExperimentSpec) -> dict[str, dict[str, int]]:
    """Real and synthetic training images of each class."""
    largest = max(counts.values())
    made = {
        name: 0 if spec.augment.kind == "none" else synthetic_count(largest, count, spec.augment.rho)
        for name, count in counts.items()
    }
    return {"real": dict(counts), "synthetic": made}


def without_images(arms: Sequence[dict[str, Any]]) -> list[str]:
    """Say which arms were to be augmented and were not; nothing where there is none.

    Args:
        arms: Of `study.json`.
    """
    empty = [
        arm["name"]
        for arm in arms
        if arm.get("training_images")
        and arm["augmentation"] != "none"
        and not any(arm["training_images"]["synthetic"].values())
    ]
    reason = "no class is below augment.rho of the largest; above 1 every class gets some"
    return [f"NO SYNTHETIC IMAGES, though asked for, in {', '.join(empty)}: {reason}."] if empty else []
