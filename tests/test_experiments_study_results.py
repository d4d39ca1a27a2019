"""What a study says: statistics of arms, the verdict, what the shipped studies hold."""

import re
from pathlib import Path

import numpy as np
import pytest
from tiny_study import quiet, study_spec
from tiny_training import write_images

from qhybrid.experiments.spec import ExperimentSpec, load_experiment, override
from qhybrid.experiments.study import run_study
from qhybrid.experiments.study_arms import pairs, resolve_arms
from qhybrid.experiments.study_results import training_images, without_images
from qhybrid.experiments.study_tests import arm_statistics, compare_arms, correct
from qhybrid.experiments.study_verdict import verdict
from qhybrid.statistics import classification_metrics, holm


def made_up(shift: float, n_seeds: int = 4, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 2
    common = rng.normal(size=n)
    scores = [
        np.stack([strength * (2 * labels - 1) + common + 0.3 * rng.normal(size=n) for _ in range(n_seeds)])
        for strength in (1 + shift, 1.0)
    ]
    positive = [1 / (1 + np.exp(-each)) for each in scores]
    mine, theirs = (np.stack([1 - each, each], axis=-1) for each in positive)
    return labels, mine, theirs


def test_statistics_are_over_seeds_and_over_samples() -> None:
    labels, mine, theirs = made_up(1.0)
    arm = arm_statistics(labels, mine)["auc"]
    assert arm["mean"] == pytest.approx(np.mean([classification_metrics(labels, each)["auc"] for each in mine]))
    assert arm["interval"][0] < arm["mean"] < arm["interval"][1]
    found = [compare_arms(labels, mine, theirs, margin=0.02), compare_arms(labels, theirs, theirs, margin=0.02)]
    correct(found)
    for metric in ("accuracy", "auc"):
        tests = [each["metrics"][metric] for each in found]
        assert [test["p_holm"] for test in tests] == pytest.approx(holm([test["p"] for test in tests]).tolist())
        assert tests[0]["verdict"] == "better"
        # Sixty equal predictions do not rule out that the accuracies differ by the margin (Tango).
        assert tests[1]["verdict"] == {"auc": "equivalent", "accuracy": "undecided"}[metric]
        assert tests[0]["difference"] == pytest.approx(
            np.mean([classification_metrics(labels, a)[metric] for a in mine])
            - np.mean([classification_metrics(labels, b)[metric] for b in theirs])
        )
    assert len(found[0]["per_seed"]) == 4
    alone = compare_arms(labels, mine[:1], theirs[:1], margin=0.02)
    assert alone["metrics"]["auc"]["over_seeds"] is None
    assert arm_statistics(labels, mine[:1])["auc"]["over_seeds"] is None


def test_equal_predictions_are_shown_to_be_equivalent_by_enough_images() -> None:
    for n, verdict_of_accuracy in ((60, "undecided"), (400, "equivalent")):
        labels, mine, _ = made_up(1.0, n=n)
        found = [compare_arms(labels, mine, mine, margin=0.02)]
        correct(found)
        assert found[0]["metrics"]["accuracy"]["verdict"] == verdict_of_accuracy


def test_the_verdict_is_told_whichever_way_it_falls() -> None:
    labels, mine, theirs = made_up(1.0)
    study = study_spec(arms=[{"name": "a"}, {"name": "b"}], seeds=[0, 1, 2, 3]).study
    assert study is not None
    names = {"arm": "b", "against": "a"}
    arms = [{"name": name, "runs": []} for name in "ab"]
    better, same, worse = (
        names | compare_arms(labels, *each, margin=0.02) for each in ((mine, theirs), (theirs, theirs), (theirs, mine))
    )
    said = []
    for each in (better, same, worse):
        correct([each])
        said.append(" ".join(verdict(arms, [each], study, n_samples=60)))
    assert "'b' is better than 'a' by" in said[0]
    assert "no arm differs from 'a' in accuracy or AUC at the 5 % level (1 comparison, corrected by Holm)" in said[1]
    assert "Shown to differ by less than 0.02 in AUC: 'b' against 'a'" in said[1]
    room = re.search(r"Parity within 0\.02 in accuracy .* differences from (\S+) to (\S+)\.", said[1])
    assert room is not None
    assert float(room[1]) < -0.02 < 0.02 < float(room[2])
    assert "'a' is better than 'b' by" in said[2]
    assert all("4 seeds say little about other trainings" in each for each in said)


def test_images_are_counted_as_they_are_augmented() -> None:
    paper = ExperimentSpec()
    assert training_images({"negative": 280, "positive": 102}, paper)["synthetic"] == {"negative": 0, "positive": 94}
    plain = override(paper, {"augment.kind": "none"})
    arms = [
        {"name": name, "augmentation": spec.augment.kind, "training_images": training_images(counts, spec)}
        for name, spec, counts in (
            ("paper", paper, {"negative": 280, "positive": 102}),
            ("even", paper, {"negative": 50, "positive": 41}),
            ("plain", plain, {"negative": 50, "positive": 41}),
        )
    ]
    assert without_images(arms[::2]) == []
    (said,) = without_images(arms)
    assert said.startswith("NO SYNTHETIC IMAGES, though asked for, in even: ")
    assert training_images({"negative": 280, "positive": 102}, plain)["synthetic"] == {"negative": 0, "positive": 0}


def test_the_shipped_studies_are_what_they_say() -> None:
    table1 = resolve_arms(load_experiment("sda_qec_table1"))
    assert [arm.spec.model.backbone for arm in table1] == [
        "mobilenet_v2", "resnet18", "mobilenet_v2", "densenet121", "vgg16",
    ]  # fmt: skip
    assert [arm.spec.model.head for arm in table1] == ["quantum", *["linear"] * 4]
    assert {arm.spec.augment.kind for arm in table1} == {"diffusion"}
    paper = load_experiment("sda_qec")
    assert (table1[0].spec.train, table1[0].spec.model) == (paper.train, paper.model)
    ablation = load_experiment("sda_qec_ablation")
    assert len(resolve_arms(ablation)) == 9
    assert ablation.study is not None
    assert len(pairs(ablation.study)) == 12
    for name in ("sda_qec_table1", "sda_qec_ablation"):
        study = load_experiment(name).study
        assert study is not None
        assert len(study.seeds) == 5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_arms"), [("sda_qec_table1", 6), ("sda_qec_ablation", 9), ("hqcnn", 3)])
def test_every_shipped_study_runs_to_its_verdict(name: str, n_arms: int, tmp_path: Path) -> None:
    """In small: one epoch of a few images, a seed, random weights. README's test runs the studies of heads."""
    few = {f"data.angiography.{split}": [12, 8] for split in ("train", "validation", "test")}
    small = {"study.seeds": [0], "train.epochs": 1, "data.image_size": 32, "model.weights": "none"}
    images = {"data.source": f"medmnist:{write_images(tmp_path / 'images.npz')}"} if name == "hqcnn" else few
    study = run_study(override(load_experiment(name), small | images), out=tmp_path / "studies", console=quiet())
    assert len(study.results["arms"]) == n_arms
    assert all(arm["n_seeds"] == 1 for arm in study.results["arms"])
    assert study.results["verdict"]
    assert len(study.results["devices"]) == (3 if name == "hqcnn" else 0)
    assert ("kinds" in study.results["augmentation"]) == (name != "hqcnn")  # two test images of a class are too few
