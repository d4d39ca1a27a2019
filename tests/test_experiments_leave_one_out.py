"""Leave one centre out: what is trained, what the whole says, and that the same again trains nothing."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import runner
from tiny_centres import CENTRES, across_centres, write_images
from tiny_study import heard, quiet

from qhybrid.errors import InputError
from qhybrid.experiments.leave_one_out import part_of, run_leave_one_out
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml, load_experiment, override
from qhybrid.experiments.study import Study, open_study
from qhybrid.experiments.study_arms import resolve_arms
from qhybrid.experiments.study_tests import arm_statistics
from qhybrid.report.study_report import study_page
from qhybrid.statistics import classification_metrics
from qhybrid.storage import read_arrays

STUDY: dict[str, Any] = {
    "seeds": [0],
    "adapt_at_test": {"steps": 2, "learning_rate": 0.01},
    "devices": {"noise": ["ibm_fez"], "shots": [50]},
    "arms": [
        {"name": "whole"},
        {"name": "mlp, plain", "model": {"head": "mlp"}, "domains": {"adversarial": 0.0, "consistency": 0.0}},
    ],
}


def _spec(images: Path, **study: Any) -> ExperimentSpec:
    spec = across_centres(images, {"held_out": "each"}, train__epochs=1)
    return ExperimentSpec.model_validate(spec.model_dump(exclude_none=True) | {"study": STUDY | study})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, ExperimentSpec, Path]:
    folder = tmp_path_factory.mktemp("centres")
    spec = _spec(write_images(folder / "images.npz"))
    return run_leave_one_out(spec, out=folder / "studies", console=quiet()), spec, folder / "studies"


def test_every_test_image_is_predicted_once_by_networks_that_have_not_seen_its_centre(
    done: tuple[Study, ExperimentSpec, Path],
) -> None:
    study, _, _ = done
    found = study.results
    assert found["n_samples"] == 12
    assert list(found["parts"]) == ["without-A", "without-B", "without-C"]
    arrays = read_arrays(study.path / "pooled/whole-seed0/predictions/pooled.npz", ("ids", "probabilities", "labels"))
    assert len(set(arrays["ids"].tolist())) == 12
    row = 0
    for part, path in found["parts"].items():
        centre = part[-1]
        each = open_study(study.path / path)
        run = Run(each.path / each.results["arms"][0]["runs"][0]["run"], load_experiment("quickstart"))
        assert {image_id[0] for image_id in read_arrays(run.path / "features/train.npz", ("ids",))["ids"]} == set(
            "ABC"
        ) - {centre}
        name = each.results["arms"][0]["runs"][0]["evaluation"]
        mine = read_arrays(run.path / "predictions" / f"{name}.npz", ("ids", "probabilities"))
        assert all(image_id.startswith(f"{centre}:test/") for image_id in mine["ids"])
        n = len(mine["ids"])
        np.testing.assert_array_equal(arrays["probabilities"][row : row + n], mine["probabilities"])
        row += n
    metrics = found["arms"][0]["metrics"]
    assert metrics == arm_statistics(arrays["labels"], arrays["probabilities"][None])
    centres = np.array([image_id[0] for image_id in arrays["ids"]])
    for each in found["centres"]:
        rows = centres == each["name"]
        expected = classification_metrics(arrays["labels"][rows], arrays["probabilities"][rows])
        assert each["arms"]["whole"]["auc"]["mean"] == pytest.approx(expected["auc"])
    aucs = [each["arms"]["whole"]["auc"]["mean"] for each in found["centres"]]
    assert found["mean_of_centres"]["whole"]["auc"]["mean"] == pytest.approx(np.mean(aucs))


def test_arms_are_compared_exactly_adapted_and_on_devices(done: tuple[Study, ExperimentSpec, Path]) -> None:
    found = done[0].results
    pairs = [(each["arm"], each["against"]) for each in found["comparisons"]]
    assert pairs == [
        ("mlp, plain", "whole"), ("whole, adapted at test", "whole"), ("mlp, plain, adapted at test", "mlp, plain"),
    ]  # fmt: skip
    assert all("p_holm" in each["metrics"]["auc"] for each in found["comparisons"])
    assert found["comparisons"][0]["changed"] == ["domains.adversarial", "domains.consistency", "model.head"]
    (device,) = found["devices"]
    assert [arm["name"] for arm in device["arms"]] == ["whole", "whole, adapted at test"]
    assert [each["arm"] for each in device["losses"]] == ["whole", "whole, adapted at test"]
    assert ("whole, adapted at test", "whole") in [(each["arm"], each["against"]) for each in device["comparisons"]]
    assert any("has seen no image of its centre" in sentence for sentence in found["verdict"])


def test_the_same_again_trains_and_adapts_nothing_and_says_the_same(
    done: tuple[Study, ExperimentSpec, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, spec, out = done
    weights = {path: path.stat().st_mtime_ns for path in study.path.rglob("model.safetensors")}
    assert len(weights) == 6

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it was adapted already")

    monkeypatch.setattr("qhybrid.experiments.pooled_predictions.adapt_to_images", refuse)
    console = quiet()
    again = run_leave_one_out(spec, out=out, console=console)
    assert {path: path.stat().st_mtime_ns for path in study.path.rglob("model.safetensors")} == weights
    assert "2 of 2 trainings were there already" in heard(console)
    for key in ("arms", "comparisons", "centres", "devices", "verdict"):
        assert again.results[key] == study.results[key]


def test_the_whole_and_its_parts_have_reports(done: tuple[Study, ExperimentSpec, Path]) -> None:
    study = done[0]
    whole = study_page(open_study(study.path))
    scores, differences = next(each for each in whole.sections if each.title == "Centres").tables
    auc = study.results["centres"][2]["arms"]["whole"]["auc"]["mean"]
    assert scores.rows[0][0] == "whole"
    assert scores.rows[0][3].endswith(f" / {auc:.3f}")
    assert [row[0].split(" against ") for row in differences.rows] == [
        ["mlp, plain", "whole"], ["whole, adapted at test", "whole"], ["mlp, plain, adapted at test", "mlp, plain"],
    ]  # fmt: skip
    part = study.path / study.results["parts"]["without-B"]
    assert study_page(open_study(part)).title == "without-B: report of a study"


def test_the_command_prints_the_centres(
    done: tuple[Study, ExperimentSpec, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    _, spec, out = done
    (tmp_path / "tiny.toml").write_text(experiment_toml(spec), encoding="utf-8")
    run = runner(monkeypatch, capfd, tmp_path)
    answer = run("study", "tiny.toml", "--out", str(out), "--executor", "serial")
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"A \(4\)\s+B \(4\)\s+C \(4\)\s+mean of centres", answer.stdout)
    assert re.search(r"^centres\s", answer.stdout, re.MULTILINE)
    assert "differences of the mean of the centres' AUCs" in answer.stdout
    answer = run("data", "preview", "--centres", "tiny.toml", "--out", "sheet.png")
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    answer = run("data", "preview", "--centres", "quickstart")
    assert (answer.returncode, "has no [domains] table" in answer.stderr) == (2, True)


def test_arms_may_change_how_domains_are_trained_and_not_which_there_are(tmp_path: Path) -> None:
    spec = _spec(tmp_path / "images.npz")
    assert [arm.spec.domains.adversarial for arm in resolve_arms(spec) if arm.spec.domains] == [0.5, 0.0]
    for key, value in (("held_out", "A"), ("seed", 1), ("centres", CENTRES[:2])):
        wrong = {
            **STUDY,
            "arms": [{"name": "x"}, {"name": "y", "domains": {key: value, "adversarial": 0, "consistency": 0}}],
        }
        with pytest.raises(InputError, match=f"domains.{key} differs"):
            resolve_arms(ExperimentSpec.model_validate(spec.model_dump(exclude_none=True) | {"study": wrong}))


def test_a_named_centre_is_the_only_one_that_is_left_out(tmp_path: Path) -> None:
    spec = override(_spec(tmp_path / "images.npz"), {"domains.held_out": "C"})
    assert spec.domains is not None
    assert spec.domains.parts == ["C"]
    part = part_of(spec, "C")
    assert part.name == "without-C"
    assert part.study is not None
    assert part.study.adapt_at_test is None


def test_what_cannot_be_adapted_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    spec = override(_spec(tmp_path / "images.npz"), {"model.backbone": "vgg16"})
    with pytest.raises(InputError, match=r"arm 'whole': vgg16 has no batch normalisation"):
        run_leave_one_out(spec, out=tmp_path / "studies", console=quiet())
    assert not (tmp_path / "studies").exists()
    with pytest.raises(InputError, match=r"study\.adapt_at_test is for studies that leave centres out"):
        override(ExperimentSpec(name="x"), {"study": STUDY})
