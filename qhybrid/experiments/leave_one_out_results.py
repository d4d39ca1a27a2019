"""What a leave-one-centre-out study found: the statistics of a study over the test images of all centres."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.centres_spec import centre_of
from qhybrid.experiments.centre_tests import compare_centres, said_of_centres
from qhybrid.experiments.comparison import CONFIDENCE
from qhybrid.experiments.grid import Cell
from qhybrid.experiments.pooled_predictions import Part, adapted_name, evaluated, pool, pooled_samples
from qhybrid.experiments.spec import ExperimentSpec
from qhybrid.experiments.study_arms import Arm, Pair, differences, pairs, study_of
from qhybrid.experiments.study_devices import cell_task, condition_results, correct_conditions
from qhybrid.experiments.study_results import Predicted
from qhybrid.experiments.study_runs import SPLIT, Trained
from qhybrid.experiments.study_spec import slug
from qhybrid.experiments.study_tests import ALPHA, Labels, Probabilities, arm_statistics, compare_arms, correct
from qhybrid.experiments.study_verdict import device_verdict, verdict
from qhybrid.statistics import classification_metrics
from qhybrid.storage import read_arrays, write_arrays

ADAPTED = "adapted at test"


def pooled_results(
    spec: ExperimentSpec,
    arms: Sequence[Arm],
    parts: Sequence[Part],
    adapted: Mapping[tuple[str, int], list[str]],
    cells: Sequence[Cell],
    folder: Path,
) -> dict[str, Any]:
    """Put together what `study.json` of the whole holds, but for what it was obtained with.

    It has the keys of an ordinary study, and `centres`: the metrics of each arm at each centre; `mean_of_centres`:
    their means; `mean_of_centres_auc`: tests of these; `parts`: where the studies of the centres are.

    Args:
        spec: The experiment with `[study]` and `[domains]`.
        arms: All of them.
        parts: The study of each centre that is held out.
        adapted: Run and seed -> evaluations after adaptation at test, as trained and under each condition; or nothing.
        cells: The conditions.
        folder: Of the whole; the predictions of all centres together are written under `pooled/`.

    Raises:
        InputError: In a part no training is complete, or a file is damaged.
    """
    study = study_of(spec)
    labels, ids = pooled_samples(parts)
    trained = [arm["name"] for arm in parts[0].results["arms"]]
    predicted = {name: pool(parts, name, evaluated(lambda each: each.evaluations["head"])) for name in trained}
    asked = [*pairs(study), *(Pair(name, study.reference_name) for name in trained if name not in _names(arms))]
    if adapted:
        for name in _names(arms):
            predicted[f"{name}, {ADAPTED}"] = pool(parts, name, evaluated(adapted_name(adapted, 0)))
            asked.append(Pair(f"{name}, {ADAPTED}", name))
    described = [_described(name, each, parts, labels, ids, folder) for name, each in predicted.items()]
    specs = {arm.name: arm.spec for arm in arms}
    compared = []
    for pair in asked:
        seeds = [seed for seed in predicted[pair.arm] if seed in predicted[pair.against]]
        if not seeds:
            continue  # said by the numbers of seeds, and by the verdict
        mine, theirs = (np.stack([predicted[name][seed] for seed in seeds]) for name in (pair.arm, pair.against))
        changed = differences([specs[pair.arm], specs[pair.against]]) if pair.arm in specs else {}
        tests = compare_arms(labels, mine, theirs, margin=study.margin)
        compared.append({"arm": pair.arm, "against": pair.against, "changed": sorted(changed), "seeds": seeds, **tests})
    correct(compared)
    devices = _devices(spec, arms, parts, adapted, cells, labels, predicted, asked)
    assert spec.domains is not None
    centre_of_each = np.array([centre_of(name, spec.domains.names) for name in ids.tolist()])
    centres = _centres(centre_of_each, labels, predicted)
    within = compare_centres(labels, centre_of_each, predicted, compared)
    first = parts[0].results
    return {
        **{key: first[key] for key in ("margin", "settings_that_differ", "budget", "unequal_budget")},
        "name": spec.name,
        "description": spec.description,
        "source": spec.source,
        "split": SPLIT,
        "n_samples": len(labels),
        "seeds": study.seeds,
        "data": _data(parts),
        "reference": study.reference_name,
        "alpha": round(ALPHA, 6),
        "confidence": CONFIDENCE,
        "arms": described,
        "comparisons": compared,
        "centres": centres,
        "mean_of_centres": mean_of_centres(centres),
        "mean_of_centres_auc": within,
        "parts": {part.name: part.path.relative_to(folder).as_posix() for part in parts},
        "devices": devices,
        "augmentation": None,
        "tuning": None,
        "verdict": [
            *verdict(described, compared, study, n_samples=len(labels)),
            *_said_of_parts(parts),
            *(said_of_centres(within) if len(parts) > 1 else ()),
            *device_verdict(devices),
        ],
    }


def mean_of_centres(centres: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Arm -> metric -> mean over the centres, as `values` of the seeds, their `mean` and `std`.

    An AUC over all images ranks the scores of several networks together; this mean does not.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in centres[0]["arms"]:
        found[name] = {}
        for metric in centres[0]["arms"][name]:
            several = [each["arms"][name][metric]["values"] for each in centres]
            found[name][metric] = _over_seeds(np.mean(several, axis=0).tolist())
    return found


def _over_seeds(values: list[float]) -> dict[str, Any]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"values": values, "mean": float(np.mean(values)), "std": std}


def _names(arms: Sequence[Arm]) -> list[str]:
    return [arm.name for arm in arms]


def _described(
    name: str, predicted: Predicted, parts: Sequence[Part], labels: Labels, ids: NDArray[np.str_], folder: Path
) -> dict[str, Any]:
    """An arm over all centres, and its predictions as a report finds them; adapted ones are of trainings of another."""
    trained_as = name.removesuffix(f", {ADAPTED}")
    first = next(arm for arm in parts[0].results["arms"] if arm["name"] == trained_as)
    several = [part.trained(trained_as) for part in parts]
    seconds = _sums(parts, trained_as, "seconds") if name == trained_as else {}
    runs = []
    for each in several[0]:
        failed = [f"{part.name}: {again.message}" for part, part_of in zip(parts, several, strict=True)
                  for again in part_of if again.seed == each.seed and again.message]  # fmt: skip
        row: dict[str, Any] = {
            "seed": each.seed,
            "state": "failed" if failed else "complete",
            "message": "; ".join(failed),
        }
        run = Path("pooled") / f"{slug(name)}-seed{each.seed}"
        if each.seed in predicted:
            arrays = {"labels": labels, "ids": ids, "probabilities": predicted[each.seed]}
            write_arrays(folder / run / "predictions" / "pooled.npz", arrays)
            row |= {"evaluation": "pooled", "metrics": classification_metrics(labels, predicted[each.seed])}
            row |= {"seconds": seconds[each.seed]} if each.seed in seconds else {}
        runs.append({**row, "run": run.as_posix()})
    statistics = arm_statistics(labels, np.stack(list(predicted.values()))) if predicted else None
    kept = {key: first.get(key) for key in ("changes", "parameters", "augmentation", "transforms")}
    kept["changes"] = kept["changes"] if name == trained_as else {ADAPTED: True}
    return {"name": name, **kept, "training_images": None, "n_seeds": len(predicted), "runs": runs,
            "metrics": statistics}  # fmt: skip


def _sums(parts: Sequence[Part], arm: str, key: str) -> dict[int, float]:
    """Seed -> sum over the parts."""
    found: dict[int, float] = {}
    for part in parts:
        for row in next(each["runs"] for each in part.results["arms"] if each["name"] == arm):
            if row.get(key) is not None:
                found[row["seed"]] = found.get(row["seed"], 0.0) + row[key]
    return found


def _devices(
    spec: ExperimentSpec,
    arms: Sequence[Arm],
    parts: Sequence[Part],
    adapted: Mapping[tuple[str, int], list[str]],
    cells: Sequence[Cell],
    labels: Labels,
    predicted: Mapping[str, Predicted],
    compared: Sequence[Pair],
) -> list[dict[str, Any]]:
    study = study_of(spec)
    found = []
    for place, cell in enumerate(cells, 1):
        noisy: dict[str, Predicted] = {}
        exact: dict[str, Predicted] = {}
        for arm in arms:
            if not arm.spec.model.has_circuit or not predicted[arm.name]:
                continue

            def of_cell(each: Trained, array: str, cell: Cell = cell) -> Probabilities:
                arrays = read_arrays(cell_task(study, each, cell).file.with_suffix(".npz"), (array,))
                return arrays[array]

            noisy[arm.name] = pool(parts, arm.name, lambda each: of_cell(each, "repeated_probabilities")[0])
            exact[arm.name] = pool(parts, arm.name, lambda each: of_cell(each, "reference_probabilities"))
            if adapted:
                name, evaluation = f"{arm.name}, {ADAPTED}", adapted_name(adapted, place)
                noisy[name] = pool(parts, arm.name, evaluated(evaluation))
                exact[name] = pool(parts, arm.name, evaluated(evaluation, "reference_probabilities"))
        if noisy:
            found.append(condition_results(cell, labels, noisy, exact, predicted, compared, margin=study.margin))
    correct_conditions(found)
    return found


def _centres(of: NDArray[np.str_], labels: Labels, predicted: Mapping[str, Predicted]) -> list[dict[str, Any]]:
    """The metrics of each arm on the test images of each centre."""
    found = []
    for centre in dict.fromkeys(of.tolist()):
        rows = of == centre
        arms = {}
        for name, seeds in predicted.items():
            each = [classification_metrics(labels[rows], values[rows]) for values in seeds.values()]
            if each:
                arms[name] = {metric: _over_seeds([one[metric] for one in each]) for metric in each[0]}
        found.append({"name": centre, "n_samples": int(rows.sum()), "arms": arms})
    return found


def _data(parts: Sequence[Part]) -> dict[str, Any]:
    """What is the same in all parts, and the leaks of each."""
    first = parts[0].results["data"]
    leaks = [f"{part.name}: {leak}" for part in parts for leak in part.results["data"]["leaks"]]
    return {key: first[key] for key in ("source", "class_names", "leaks_dropped")} | {"leaks": leaks}


def _said_of_parts(parts: Sequence[Part]) -> list[str]:
    if len(parts) == 1:
        return [f"All of this is of one part, {parts[0].name!r}."]
    return [
        f"Each test image was predicted once by an arm and seed, by that of its {len(parts)} networks that has seen no "
        "image of its centre; an AUC over all images ranks scores of these networks together, the mean of the centres' "
        "own AUCs does not: a difference in the first alone may be one of scale."
    ]
