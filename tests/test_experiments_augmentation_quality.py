"""The quality of augmentation: against held-out images, with the same sources for all kinds, once in a study."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Command, runner
from rich.console import Console
from torch import Tensor, nn

from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.spec import AugmentSpec
from qhybrid.errors import InputError
from qhybrid.experiments.augmentation_quality import KINDS, augmentation_quality, study_augmentation
from qhybrid.experiments.augmentation_table import quality_findings, quality_notes, quality_rows
from qhybrid.experiments.image_quality import FeatureSpace, backbone_space, frechet_distance
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import ExperimentSpec, override
from qhybrid.experiments.study_runs import Trained
from qhybrid.experiments.training import train
from qhybrid.report.augmentation_section import augmentation_section
from qhybrid.report.page import Page, render
from qhybrid.storage import write_json


class Corners(nn.Module):
    """Four features of an image: the mean brightness of each quarter."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)


CORNERS = FeatureSpace("corners", 4, Corners())


def split_of(images: Tensor, labels: list[int], name: str) -> Split:
    ids = tuple(f"{name}/{number}" for number in range(len(labels)))
    return Split(images, torch.tensor(labels), ids, 32)


def dataset(train: list[int], test: list[int], *, seed: int = 0) -> ImageDataset:
    """Noise on a pattern for each class; `train` and `test` are counts of the classes."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(len(train), 1, 32, 32, generator=generator)
    splits = {}
    for name, counts in (("train", train), ("validation", test), ("test", test)):
        labels = [label for label, count in enumerate(counts) for _ in range(count)]
        noise = torch.rand(len(labels), 1, 32, 32, generator=generator)
        splits[name] = split_of((200 * patterns[labels] + 55 * noise).to(torch.uint8), labels, name)
    return ImageDataset("made up", tuple(f"class {label}" for label in range(len(train))), splits)


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    kept = copy.deepcopy(found)
    kept.pop("seconds")
    for each in kept["kinds"]:
        assert each.pop("seconds_per_image") > 0
    return kept


def test_each_kind_is_measured_with_as_many_images_of_each_class() -> None:
    data = dataset([30, 12], [11, 8])
    found = augmentation_quality(data, CORNERS, AugmentSpec())
    assert [each["kind"] for each in found["kinds"]] == list(KINDS)
    assert (found["images_per_class"], found["held_out"]) == (8, {"class 0": 11, "class 1": 8})
    assert augmentation_quality(data, CORNERS, AugmentSpec(), limit=5)["images_per_class"] == 5
    for each in found["kinds"]:
        assert set(each["classes"]) == {"class 0", "class 1"}
        for name in ("fid", "kid", "excess"):
            means = [each["classes"][label][name]["mean"] for label in each["classes"]]
            assert each["mean"][name]["mean"] == pytest.approx(np.mean(means))
    none, _, diffusion = found["kinds"]
    assert none["mean"]["excess"] == {"mean": 0, "stderr": 0}
    above = diffusion["mean"]["kid"]["mean"] - none["mean"]["kid"]["mean"]
    assert diffusion["mean"]["excess"]["mean"] == pytest.approx(above)
    assert json.loads(json.dumps(found)) == found


def test_equal_seeds_give_equal_numbers_and_the_kind_of_the_experiment_does_not_matter() -> None:
    data = dataset([20, 12], [9, 8])
    first = timeless(augmentation_quality(data, CORNERS, AugmentSpec(kind="diffusion")))
    assert timeless(augmentation_quality(data, CORNERS, AugmentSpec(kind="none"))) == first
    assert timeless(augmentation_quality(data, CORNERS, AugmentSpec(), seed=1))["kinds"] != first["kinds"]
    assert timeless(augmentation_quality(data, CORNERS, AugmentSpec(steps=50)))["kinds"][2] != first["kinds"][2]


def test_numbers_are_those_of_the_images_and_equal_images_have_no_distance() -> None:
    """Of each class there is one image, so that what is drawn is known without knowing the draw."""
    data = dataset([1, 1], [1, 1])
    pattern = data.splits["train"].images
    splits = {
        name: split_of(pattern[[0] * count + [1] * count], [0] * count + [1] * count, name)
        for name, count in (("train", 3), ("validation", 3), ("test", 6))
    }
    constant = ImageDataset("made up", data.class_names, splits)
    found = augmentation_quality(constant, CORNERS, AugmentSpec(brightness=(0.5, 0.5), beta_end=1e-4, blur_sigma=0))
    none, geometric, diffusion = (each["classes"]["class 0"] for each in found["kinds"])
    assert none["fid"]["mean"] == pytest.approx(0, abs=1e-9)
    assert none["kid"]["mean"] == pytest.approx(0, abs=1e-9)
    assert geometric["fid"]["mean"] > 0
    feature = CORNERS.features(pattern[:1].float() / 255)
    half_as_bright = frechet_distance(np.repeat(feature, 6, axis=0), np.repeat(feature / 2, 6, axis=0))
    assert diffusion["fid"]["mean"] == pytest.approx(half_as_bright, rel=0.02)
    assert found["copies_in_training"] == 12


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        ([9, 3], {}, r"the test split of 'made up' has 3 images of class 'class 1'; at least 4 are needed"),
        ([9, 9], {"split": "train"}, r"split 'train' is not held out; .*allowed: test, validation"),
        ([9, 9], {"draws": 1}, r"draws = 1, limit = 100: at least 2 draws and 4 images"),
        ([9, 9], {"limit": 3}, r"draws = 5, limit = 3"),
    ],
)
def test_too_little_is_refused(counts: list[int], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        augmentation_quality(dataset([9, 9], counts), CORNERS, AugmentSpec(), **settings)


def test_a_broken_network_is_named() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 4), torch.nan)

    with pytest.raises(InputError, match="features of broken are not finite"):
        augmentation_quality(dataset([9, 9], [5, 5]), FeatureSpace("broken", 4, Broken()), AugmentSpec())


def test_words_and_rows_say_what_was_found() -> None:
    found = augmentation_quality(dataset([30, 12], [11, 8]), CORNERS, AugmentSpec())
    for name, value in (("geometric", 1.0), ("diffusion", -1.0)):
        each = found["kinds"][KINDS.index(name)]
        each["mean"]["excess"] = {"mean": value, "stderr": 0.25}
    assert quality_findings(found) == [
        "Images of geometric augmentation are further from held-out images than training images are (difference of KID "
        "+1.00 ± 0.25).",
        "Images of diffusion augmentation are nearer to held-out images than training images are (difference of KID "
        "-1.00 ± 0.25).",
    ]
    found["kinds"][1]["mean"]["excess"] = {"mean": 0.4, "stderr": 0.25}
    assert "are not shown to be further from" in quality_findings(found)[0]
    rows = quality_rows(found)
    assert [row[0] for row in rows] == ["none", "", "", "geometric", "", "", "diffusion", "", ""]
    assert rows[-1][4] == "-1.00 ± 0.25"
    notes = " ".join(quality_notes(found))
    assert (
        "distances between 8 synthetic images of each class and 8 real ones of that class from the test split" in notes
    )
    assert "in the 4 features of corners" in notes
    assert "(11 class 0, 8 class 1) 8 of each class were drawn with seed 0" in notes
    assert "fewer images than features" not in notes
    assert "was trained on the images" not in notes
    many = {**found, "features": {**found["features"], "width": 8, "trained_on_these": True, "trained_with": {
        "kind": "diffusion", "images": {"class 0": 0, "class 1": 9}}}, "copies_in_training": 2}  # fmt: skip
    notes = " ".join(quality_notes(many))
    assert "fewer images than features" in notes
    assert "also trained with images by diffusion (9 class 1)" in notes
    assert "2 images of the test split are in training as well" in notes


def write_images(path: Path, *, seed: int) -> None:
    """A MedMNIST file with more images of class 0."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, counts in (("train", [12, 6]), ("val", [4, 4]), ("test", [6, 5])):
        labels = np.repeat([0, 1], counts)
        pixels = rng.integers(0, 120, size=(len(labels), 28, 28)) + 60 * labels[:, None, None]
        arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of one epoch that was trained with synthetic images."""
    folder = tmp_path_factory.mktemp("augmentation")
    write_images(folder / "images.npz", seed=0)
    tiny = {"data.source": f"medmnist:{folder / 'images.npz'}", "data.image_size": 32, "model.feature_dim": 4,
            "model.head": "linear", "train.epochs": 1, "train.batch_size": 9}  # fmt: skip
    return train(override(ExperimentSpec(name="tiny"), tiny), out=folder / "runs", console=Console(quiet=True))


def test_a_study_measures_once_in_the_features_of_its_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(run.path))  # no weights of Inception
    folder = run.path.parents[1]
    trained = [Trained("a", 0, None, "Diverged", {}), Trained("a", 1, str(run.path), "", {})]
    console = Console(quiet=True)
    found = study_augmentation(trained, folder, console)
    name = run.path.relative_to(folder).as_posix()
    assert (found["run"], found["features"]["name"]) == (name, f"mobilenet_v2 of {name}")
    assert found["features"]["width"] == 1280
    assert found["features"]["trained_on_these"] is True
    assert found["features"]["trained_with"] == {"kind": "diffusion", "images": {"class 0": 0, "class 1": 3}}
    assert (found["images_per_class"], found["split"]) == (5, "test")
    write_json(folder / "study.json", {"augmentation": found})
    assert study_augmentation(trained, folder, console) == found  # with the seconds: it was not measured again
    write_json(folder / "study.json", {"augmentation": {"not_measured": "no"}})
    assert timeless(study_augmentation(trained, folder, console)) == timeless(found)
    (folder / "study.json").unlink()
    (section,) = augmentation_section({"augmentation": found})
    html = render(Page("title", "", [], [], [section]), {})
    assert f"mobilenet_v2 of {name}" in html
    assert html.count("<tr>") - 1 == len(section.tables[0].rows) == 9
    assert [row[0] for row in section.tables[0].rows[3:6]] == ["geometric"] * 3


def test_what_cannot_be_measured_fails_no_study(run: Run, tmp_path: Path) -> None:
    console = Console(quiet=True)
    failed = study_augmentation([Trained("a", 0, None, "Diverged", {})], tmp_path, console)
    assert failed == {"not_measured": "no training of the reference arm is complete"}
    (section,) = augmentation_section({"augmentation": failed})
    assert section.paragraphs == ["This was not measured: no training of the reference arm is complete."]
    assert augmentation_section({}) == []
    trained = [Trained("a", 0, str(run.path), "", {})]
    images = Path(run.spec.data.source.partition(":")[2])
    kept = images.read_bytes()
    images.unlink()
    try:
        assert "does not exist" in study_augmentation(trained, run.path.parents[1], console)["not_measured"]
        write_images(images, seed=1)
        changed = study_augmentation(trained, run.path.parents[1], console)["not_measured"]
        assert changed == f"the images of 'medmnist:{images}' have changed since the training"
    finally:
        images.write_bytes(kept)


def test_the_features_are_what_the_head_is_fed_from(run: Run) -> None:
    model = run.load_model()
    images = torch.rand(5, 3, 32, 32)
    with torch.inference_mode():
        expected = model.backbone_features(images)
        features = torch.from_numpy(backbone_space(run).features(images)).float()
        assert torch.allclose(model.neck[2:](features), expected, atol=1e-6)


def test_the_command_prints_a_table_and_json(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    command: Command = runner(monkeypatch, capfd, tmp_path)
    shown = command("data", "quality", "--run", str(run.path), "--draws", "2")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"none +class 0 +\S+ ± \S+ +\S+ ± \S+ +[01]\.\d+", shown.stdout)
    assert "in the 1280 features of mobilenet_v2 of" in " ".join(shown.stdout.split())
    asked = ("data", "quality", "--run", str(run.path), "--draws", "2", "--json", "--set", "augment.steps=9")
    found = json.loads(command(*asked).stdout)
    assert (found["draws"], found["augment"]["steps"], found["source"]) == (2, 9, run.spec.data.source)
    assert found["split"] == "validation"  # nothing is chosen by test images
    assert json.loads(command(*asked, "--split", "test").stdout)["split"] == "test"
    for wrong, message in [
        (("--features", "incepton"), "unknown features 'incepton'; did you mean 'inception'"),
        (("--features", "inception"), "no weights of Inception at hand"),
        (("--split", "train"), "split 'train' is not held out"),
        (("--limit", "2"), "limit = 2"),
        (("--set", "augment.step=9"), "did you mean 'steps'"),
    ]:
        answer = command("data", "quality", "--run", str(run.path), *wrong)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert message in answer.stderr
        assert answer.stderr.count("\n") == 1
    answer = command("data", "quality")
    assert (answer.returncode, answer.stderr) == (2, "error: no run under 'runs'; `qhybrid train` makes one\n")
