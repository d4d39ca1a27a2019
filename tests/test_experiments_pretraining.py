"""Pretraining: once for the same settings, images and seed; gone on with; what the training then starts from."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from command_line import runner
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_training import experiment, metrics, quiet, write_images

from qhybrid.data.sources import load_dataset
from qhybrid.errors import InputError
from qhybrid.experiments.backbones import build_backbone, normalisation, write_backbone
from qhybrid.experiments.baselines import logistic_regression
from qhybrid.experiments.pretrain_spec import PretrainSpec
from qhybrid.experiments.pretraining import Pretrained, pretrain
from qhybrid.experiments.progress import EpochTable
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import list_runs
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml, load_experiment, override
from qhybrid.experiments.training import resume, train
from qhybrid.experiments.training_module import TrainingModule
from qhybrid.storage import read_json

PRETRAIN = {
    "model__backbone": "cnn5",
    "device__name": "qhybrid.statevector",
    "device__shots": "none",
    "device__diff_method": "best",
    "pretrain__epochs": 2,
    "pretrain__batch_size": 4,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "images.npz", n_validation=6)


def pretrained(spec: ExperimentSpec, root: Path, console: Console | None = None) -> Pretrained:
    return pretrain(spec, load_dataset(spec.data), root=root, console=console or quiet())


def spec_of(images: Path, **settings: Any) -> ExperimentSpec:
    return experiment(images, **(PRETRAIN | settings))


def test_the_folder_holds_what_was_done_and_the_weights_fit_the_backbone(images: Path, tmp_path: Path) -> None:
    found = pretrained(spec_of(images), tmp_path)
    assert found.path.parent == tmp_path
    names = {"config.toml", "environment.json", "metrics.csv", "pretraining.json", "backbone.safetensors"}
    assert names == {path.name for path in found.path.iterdir()} - {".lock"}
    assert load_experiment(str(found.path / "config.toml")) == spec_of(images)
    told = found.description
    assert (told["method"], told["n_images"], told["epochs"], told["seed"]) == ("simclr", 10, 2, 0)
    rows = metrics(Run(found.path, spec_of(images)))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert set(rows[0]) == {"epoch", "train_loss", "train_accuracy"}
    assert float(rows[-1]["train_loss"]) == pytest.approx(told["train_loss"])
    cnn, _ = build_backbone("cnn5", str(found.weights))
    first, _ = build_backbone("cnn5", "none")
    assert not torch.equal(next(cnn.parameters()), next(first.parameters()))
    again = pretrained(spec_of(images), tmp_path)
    assert again == found
    assert list(tmp_path.iterdir()) == [found.path]


def test_all_that_changes_the_weights_changes_the_folder(images: Path, tmp_path: Path) -> None:
    first = pretrained(spec_of(images), tmp_path)
    same = spec_of(images, data__label_fraction=0.3, train__epochs=7, model__head="linear", model__angle_spread=0.4)
    assert pretrained(same, tmp_path) == first
    for settings in ({"train__seed": 1}, {"pretrain__temperature": 0.4}, {"data__transforms": []}):
        assert pretrained(spec_of(images, **settings), tmp_path).path != first.path


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet18", "cnn5"])
def test_weights_have_the_names_that_torchvision_gives_them(backbone: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    cnn, _ = build_backbone(backbone, "none")
    write_backbone(backbone, cnn, tmp_path / "a.safetensors", normalisation("none"))
    names = set(load_file(tmp_path / "a.safetensors"))
    if backbone != "cnn5":
        whole = getattr(torchvision.models, backbone)(weights=None).state_dict()
        assert names == {name for name in whole if not name.startswith(("classifier.", "fc."))}
    again, _ = build_backbone(backbone, str(tmp_path / "a.safetensors"))
    for name, value in cnn.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_images_are_normalised_in_training_as_in_pretraining(images: Path, tmp_path: Path) -> None:
    found = pretrained(spec_of(images), tmp_path)
    for mine, theirs in zip(normalisation(str(found.weights)), normalisation("none"), strict=True):
        assert torch.equal(mine, theirs)
    state = load_file(found.weights)
    save_file(state, tmp_path / "plain.safetensors")
    assert torch.allclose(
        normalisation(str(tmp_path / "plain.safetensors"))[0].flatten(), torch.tensor([0.485, 0.456, 0.406])
    )
    save_file(state, tmp_path / "odd.safetensors", metadata={"normalisation": '{"mean": [0, 0, 0], "std": [1, 0, 1]}'})
    with pytest.raises(InputError, match=r"odd.safetensors: damaged, its normalisation"):
        normalisation(str(tmp_path / "odd.safetensors"))
    with safe_open(found.weights, framework="pt") as file:
        assert set(file.metadata()) == {"normalisation"}


class Stopped(Exception):
    pass


def test_what_was_interrupted_goes_on_and_ends_the_same(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, method in enumerate(("simclr", "supervised")):
        spec = spec_of(images, pretrain__epochs=3, pretrain__method=method, pretrain__source=f"medmnist:{images}")
        whole = pretrained(spec, tmp_path / f"whole{number}")
        with monkeypatch.context() as patch:
            patch.setattr(EpochTable, "on_train_epoch_start", stop_at(2))
            with pytest.raises(Stopped):
                pretrained(spec, tmp_path / f"parts{number}")
        parts = pretrained(spec, tmp_path / f"parts{number}")
        assert parts.weights.read_bytes() == whole.weights.read_bytes()
        assert metrics(Run(parts.path, spec)) == metrics(Run(whole.path, spec))


def stop_at(epoch: int) -> Any:
    def stop(_self: EpochTable, trainer: Any, _module: Any) -> None:
        if trainer.current_epoch == epoch:
            raise Stopped

    return stop


@pytest.mark.slow
def test_killed_or_beside_another_process_it_is_made_once(images: Path, tmp_path: Path) -> None:
    spec = spec_of(images, pretrain__epochs=12)
    (tmp_path / "e.toml").write_text(experiment_toml(spec))
    code = f"""
import torch, io; torch.set_num_threads(1)
from pathlib import Path; from rich.console import Console
from qhybrid.experiments.spec import load_experiment; from qhybrid.experiments.pretraining import pretrain
from qhybrid.data.sources import load_dataset
spec = load_experiment({str(tmp_path / "e.toml")!r})
print("begun", flush=True)
pretrain(spec, load_dataset(spec.data), root=Path({str(tmp_path / "out")!r}), console=Console(file=io.StringIO()))
print("done", flush=True)
"""
    child = [sys.executable, "-c", code]
    with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "begun\n"
        while not list((tmp_path / "out").glob("*/checkpoints/last.ckpt")):
            assert killed.poll() is None
        os.kill(killed.pid, signal.SIGKILL)
    with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as other:
        found = pretrained(spec, tmp_path / "out")
        assert other.communicate()[0] == "begun\ndone\n"
    assert list((tmp_path / "out").iterdir()) == [found.path]
    assert [row["epoch"] for row in metrics(Run(found.path, spec))] == [str(epoch) for epoch in range(1, 13)]
    assert found.weights.read_bytes() == pretrained(spec, tmp_path / "alone").weights.read_bytes()


def test_supervised_pretraining_learns_the_labels_of_generated_images(tmp_path: Path, images: Path) -> None:
    small = {"view": "crop", "train": [6, 6], "validation": [2, 2], "test": [1, 1]}
    spec = spec_of(images, pretrain__method="supervised", pretrain__source="angiography", pretrain__angiography=small)
    found = pretrained(spec, tmp_path)
    assert found.description["n_images"] == 12
    assert set(metrics(Run(found.path, spec))[0]) > {"validation_loss", "validation_accuracy"}


def test_a_folder_of_images_is_enough_and_held_out_ones_in_it_are_told(tmp_path: Path, images: Path) -> None:
    pixels = np.load(images)
    (tmp_path / "some" / "deep").mkdir(parents=True)
    for number, image in enumerate([*pixels["train_images"][:3], pixels["test_images"][0]]):
        Image.fromarray(image).save(tmp_path / "some" / "deep" / f"{number}.png")
    console = quiet()
    found = pretrained(spec_of(images, pretrain__source=f"images:{tmp_path / 'some'}"), tmp_path / "out", console)
    assert found.description["n_images"] == 4
    said = console.file.getvalue()
    assert "warning: 1 test image recurs in the images of pretraining" in said
    assert "validation" not in said
    assert found.description["leaks"] == ["1 test image recurs in the images of pretraining"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "simcrl"}, r"'pretrain.method' is 'simcrl': input should be 'simclr' or 'supervised'"),
        ({"method": "supervised"}, r"learns from the labels of other images: give a source that has labels"),
        ({"method": "supervised", "source": "images:x"}, r"learns from the labels of other images"),
        ({"source": "image:x"}, r"unknown data source 'image:x'; did you mean 'images'"),
        ({"source": "images:"}, r"data source 'images:' has no path; write 'images:PATH'"),
        ({"source": "folder"}, r"data source 'folder' has no path"),
        ({"blur_sigma": [2.0, 1.0]}, r"\[low, high\] with low <= high"),
        ({"epoch": 3}, r"unknown key 'pretrain.epoch'; did you mean 'epochs'"),
        ({"crop": 0}, r"pretrain.crop"),
    ],
)
def test_a_wrong_table_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        override(ExperimentSpec(), {"pretrain": settings})
    assert "\n" not in str(error.value)


def test_old_experiments_keep_the_text_that_names_them() -> None:
    text = experiment_toml(ExperimentSpec())
    assert "pretrain" not in text
    assert "label_fraction" not in text
    assert "label_fraction = 0.5" in experiment_toml(override(ExperimentSpec(), {"data.label_fraction": 0.5}))
    assert ExperimentSpec.model_validate({"pretrain": {}}).pretrain == PretrainSpec()


def test_a_training_starts_from_its_own_pretraining_and_is_independent_of_it_afterwards(
    images: Path, tmp_path: Path
) -> None:
    spec = spec_of(images, model__weights="pretrained", train__learning_rate=1e-9, train__weight_penalty=0.0)
    run = train(spec, out=tmp_path / "runs", console=quiet())
    (made,) = (tmp_path / "pretrained" / "tiny").iterdir()
    assert run.data["pretrained"]["path"] == str(made)
    assert run.data["pretrained"]["method"] == "simclr"
    assert 'weights = "pretrained"' in (run.path / "config.toml").read_text()
    expected = load_file(made / "backbone.safetensors")
    found = {name.removeprefix("cnn."): value for name, value in load_file(run.path / "model.safetensors").items()}
    for name, value in expected.items():
        if name.endswith("weight"):  # batch normalisation's means have moved
            assert torch.allclose(found[name], value, atol=1e-6), name
    other = train(spec, out=tmp_path / "runs", console=quiet())
    assert (other.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()
    assert list((tmp_path / "pretrained" / "tiny").iterdir()) == [made]
    (made / "backbone.safetensors").unlink()
    features = run.load_model().eval().backbone_features(load_dataset(spec.data).splits["test"].batch())
    assert np.allclose(features.detach().numpy(), run.features("test").features, atol=1e-5)


def test_a_pretrained_training_that_was_cut_off_goes_on(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(images, model__weights="pretrained")
    whole = train(spec, out=tmp_path / "runs", console=quiet())
    for epoch in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(TrainingModule, "on_train_epoch_start", _stopping(epoch))
            with pytest.raises(Stopped):
                train(spec, out=tmp_path / "runs", console=quiet())
        cut_off = next(run for run in list_runs(tmp_path / "runs") if run.state == "failed")
        again = resume(cut_off.path, console=quiet())
        assert (again.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
        assert metrics(again) == metrics(whole)


def _stopping(epoch: int) -> Any:
    def stop(self: TrainingModule) -> None:
        if self.current_epoch == epoch:
            raise Stopped

    return stop


def test_few_labels_are_trained_on_kept_and_counted(images: Path, tmp_path: Path) -> None:
    spec = spec_of(images, data__label_fraction=0.4, augment__kind="geometric", model__head="linear")
    run = train(spec, out=tmp_path, console=quiet())
    assert run.data["counts"]["train"] == {"class 0": 2, "class 1": 2}
    assert run.data["fingerprint"] == load_dataset(spec.data).fingerprint()
    kept = run.features("train")
    assert kept.labels.tolist().count(0) == kept.labels.tolist().count(1) == 2
    assert len(run.features("test").labels) == 4
    assert logistic_regression(run).to_dict()["n_samples"] == 4
    more = train(override(spec, {"data.label_fraction": 0.8}), out=tmp_path, console=quiet())
    assert set(kept.ids) < set(more.features("train").ids)
    other = train(override(spec, {"train.seed": 1}), out=tmp_path, console=quiet())
    assert set(other.features("train").ids) != set(kept.ids)


def test_the_command_says_where_the_weights_are_and_what_comes_next(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "e.toml").write_text(experiment_toml(spec_of(images)))
    qhybrid = runner(monkeypatch, capfd, tmp_path)
    answer = qhybrid("pretrain", "e.toml", "--epochs", "1", "--seed", "3", "--set", "pretrain.crop=0.5")
    assert answer.returncode == 0, answer.stderr
    (made,) = (tmp_path / "pretrained" / "tiny").iterdir()
    weights = made.relative_to(tmp_path) / "backbone.safetensors"
    assert f"weights  {weights}" in answer.stdout
    settings = f"--set pretrain.crop=0.5 --set pretrain.epochs=1 --set model.weights={weights}"
    assert f"next     qhybrid train e.toml {settings}" in answer.stdout
    assert read_json(made / "pretraining.json")["seed"] == 3
    answer = qhybrid("pretrain", "e.toml", "--epochs", "1", "--seed", "3", "--set", "pretrain.crop=0.5", "--json")
    assert f'"weights": "{weights}"' in answer.stdout
    assert "epoch " not in answer.stderr
    answer = qhybrid("pretrain", "e.toml", "--source", "images:nowhere")
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1].startswith("error: images 'images:nowhere': folder does not exist")
