"""A complete study without any training: small runs as its arms, compared with the study's own statistics."""

from pathlib import Path

import numpy as np
from rich.console import Console
from small_run import small_run

from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.study import Study, open_study
from qhybrid.experiments.study_spec import StudySpec
from qhybrid.experiments.study_tests import arm_statistics, compare_arms, correct
from qhybrid.experiments.study_verdict import verdict
from qhybrid.storage import read_arrays, read_json, write_json, write_text


def small_study(folder: Path, heads: dict[str, str], seeds: tuple[int, ...] = (0, 1), n_classes: int = 2) -> Study:
    """Write a study under `folder`.

    Args:
        folder: Of the study.
        heads: Arm -> kind of its head.
        seeds: Of the features, too, so that seeds differ.
        n_classes: Number of classes.
    """
    runs = {
        name: [
            small_run(folder / "runs" / str(k), n_classes=n_classes, model__head=head, train__seed=seed)
            for seed in seeds
        ]
        for k, (name, head) in enumerate(heads.items())
    }  # fmt: skip
    return study_of_runs(folder, runs)


def study_of_runs(folder: Path, runs: dict[str, list[Run]]) -> Study:
    """Write the study whose arms are these runs, which lie under `folder`; one that was not evaluated is."""
    predicted, described, labels = {}, [], np.array([])
    for name, several in runs.items():
        rows, probabilities = [], []
        for run in several:
            files = sorted(run.path.glob("results/test-*-analytic-seed0.json")) or sorted(
                run.path.glob("results/*.json")
            )
            result = read_json(files[0]) if files else evaluate(run, console=Console(quiet=True)).to_dict()
            arrays = read_arrays(run.path / "predictions" / f"{result['name']}.npz", ("labels", "probabilities"))
            labels = arrays["labels"]
            probabilities.append(arrays["probabilities"])
            values = {metric: each["value"] for metric, each in result["metrics"].items()}
            rows.append({"seed": run.spec.train.seed, "state": "complete", "message": "", "best_epoch": 1,
                         "run": run.path.relative_to(folder).as_posix(), "metrics": values,
                         "evaluation": result["name"]})  # fmt: skip
        predicted[name] = np.stack(probabilities)
        described.append({
            "name": name, "changes": {}, "parameters": run.data.get("parameters"), "training_images": None,
            "transforms": [], "n_seeds": len(rows), "runs": rows, "metrics": arm_statistics(labels, predicted[name]),
        })  # fmt: skip
    reference, *others = runs
    compared = [
        {"arm": name, "against": reference, "changed": ["model.head"], "seeds": [row["seed"] for row in rows],
         **compare_arms(labels, predicted[name], predicted[reference], margin=0.02)}
        for name in others
    ]  # fmt: skip
    correct(compared)
    first = runs[reference][0]
    study = StudySpec(seeds=[run.spec.train.seed for run in runs[reference]], arms=[{"name": name} for name in runs])
    write_text(folder / "study.toml", "")
    write_json(folder / "progress.json", {"state": "complete", "done": 1, "of": 1})
    write_json(
        folder / "study.json",
        {
            "name": first.spec.name, "description": "", "source": "", "split": "test", "n_samples": len(labels),
            "seeds": study.seeds, "data": first.data, "reference": reference, "margin": 0.02, "alpha": 0.05,
            "confidence": 0.95, "budget": {"train.epochs": first.spec.train.epochs}, "unequal_budget": [],
            "settings_that_differ": {"model.head": {name: each[0].spec.model.head for name, each in runs.items()}},
            "arms": described, "comparisons": compared,
            "verdict": verdict(described, compared, study, n_samples=len(labels)),
            "versions": {"qhybrid": "0"}, "git": None, "command": "qhybrid study small",
        },
    )  # fmt: skip
    return open_study(folder)
