"""A generator as augmentation: trained first, found again, waited for; its images in a training, a table, a study."""

import io
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import runner
from rich.console import Console
from tiny_generator import TINY, quiet, tiny_generator
from tiny_study import tiny

from qhybrid.data.augment import augment
from qhybrid.data.preview import augment_sheet
from qhybrid.errors import InputError
from qhybrid.experiments.augmentation_quality import quality_of_run
from qhybrid.experiments.augmentation_table import quality_notes, quality_rows
from qhybrid.experiments.image_quality import backbone_space
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import list_runs, open_run
from qhybrid.experiments.spec import ExperimentSpec, load_experiment, override
from qhybrid.experiments.study import run_study
from qhybrid.experiments.study_arms import resolve_arms
from qhybrid.experiments.synthetic_images import GENERATOR_FILE, cache_folder, generator_key, synthetic_images
from qhybrid.experiments.training import train
from qhybrid.experiments.training_data import load_data
from qhybrid.storage import read_json


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path_factory.getbasetemp() / "generator-cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.getbasetemp()))  # no weights of Inception


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MedMNIST file with more images of class 0."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, counts in (("train", [12, 6]), ("val", [4, 4]), ("test", [6, 5])):
        labels = np.repeat([0, 1], counts)
        pixels = rng.integers(0, 120, size=(len(labels), 28, 28)) + 60 * labels[:, None, None]
        arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": labels[:, None]}
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, **arrays)
    return path


def classifier(images: Path, **settings: Any) -> ExperimentSpec:
    given = {
        "data.source": f"medmnist:{images}",
        "data.image_size": 32,
        "model.backbone": "cnn5",
        "model.feature_dim": 4,
        "device.name": "qhybrid.statevector",
        "augment": {"kind": "latent-diffusion", "rho": 1.0},
        "train.epochs": 1,
        "train.batch_size": 8,
        "generator": TINY,
    }
    given |= {key.replace("__", "."): value for key, value in settings.items()}
    return override(ExperimentSpec(name="tiny"), given)


def test_a_classifier_is_trained_with_samples_of_a_generator_that_is_found_again(images: Path, tmp_path: Path) -> None:
    spec = classifier(images)
    assert not spec.trains_generator
    run = train(spec, out=tmp_path, console=quiet())
    told = read_json(run.path / GENERATOR_FILE)
    names = run.class_names
    assert told["images"] == {names[0]: 0, names[1]: 6}
    assert told["quantum"] == ["bottleneck", "denoiser"]
    assert told["training_seconds"] > 0
    again = train(spec, out=tmp_path, console=(console := quiet()))
    assert "is trained first" not in console.file.getvalue()  # type: ignore[attr-defined]
    assert read_json(again.path / GENERATOR_FILE)["run"] == told["run"]
    assert (again.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()
    classical = train(classifier(images, augment__quantum=False), out=tmp_path, console=quiet())
    assert read_json(classical.path / GENERATOR_FILE)["quantum"] == []
    given = train(classifier(images, augment__generator=told["run"], generator=None), out=tmp_path, console=quiet())
    assert (given.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()


def test_samples_are_of_the_class_that_lacks_images(images: Path, tmp_path: Path) -> None:
    spec = classifier(images)
    dataset, _ = load_data(spec, quiet())
    made = synthetic_images(Run(tmp_path / "none", spec), dataset, dataset.splits["train"], quiet())
    assert made is not None
    assert made.labels.tolist() == [1] * 6
    assert made.images.shape == (6, 1, 32, 32)
    assert made.batch().shape == (6, 3, 32, 32)
    assert len(set(made.ids)) == 6
    even = spec.augment.model_copy(update={"rho": 0.0})
    nothing = Run(tmp_path / "none", spec.model_copy(update={"augment": even}))
    assert synthetic_images(nothing, dataset, dataset.splits["train"], quiet()) is None


@pytest.mark.parametrize("kind", ["diffusion", "latent-diffusion"])
def test_an_augmentation_that_makes_no_image_says_so(images: Path, tmp_path: Path, kind: str) -> None:
    spec = classifier(images, augment__kind=kind, augment__rho=0.2)
    dataset, _ = load_data(spec, quiet())
    said = io.StringIO()
    made = synthetic_images(Run(tmp_path / "run", spec), dataset, dataset.splits["train"], Console(file=said))
    assert made is None
    assert said.getvalue() == (
        f"warning: augment.kind = '{kind}' makes no image: every class has at least 0.2 (augment.rho) of the largest; "
        "above 1 every class gets some\n"
    )


def test_a_generator_is_named_by_all_that_it_is_made_from(images: Path) -> None:
    from qhybrid.experiments.synthetic_images import generator_experiment as of

    spec = classifier(images)
    dataset, _ = load_data(spec, quiet())
    fewer = replace(dataset, splits=dataset.splits | {"train": dataset.splits["train"].subset(range(10))})
    others = [
        classifier(images, augment__quantum=False),
        classifier(images, train__seed=1),
        classifier(images, **{"generator.timesteps": 19}),
        classifier(images, device__shots=100),
    ]
    keys = [generator_key(of(each), dataset) for each in [spec, *others]] + [generator_key(of(spec), fewer)]
    assert len(set(keys)) == len(keys)
    same = [
        classifier(images, train__epochs=2),
        classifier(images, model__head="linear"),
        classifier(images, augment__rho=0.5),
    ]
    assert {generator_key(of(each), dataset) for each in same} == {keys[0]}


def _make(images: Path, cache: str) -> None:
    import os

    os.environ["QHYBRID_CACHE"] = cache
    torch.set_num_threads(1)
    spec = classifier(images, train__seed=7)
    dataset, _ = load_data(spec, quiet())
    synthetic_images(Run(images.parent / "none", spec), dataset, dataset.splits["train"], quiet())


@pytest.mark.slow
def test_two_processes_that_want_the_same_generator_train_one(images: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_make, args=(images, str(tmp_path))) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    (run,) = list_runs(tmp_path)
    assert run.state == "complete"


def test_a_training_that_was_cut_off_in_the_cache_goes_on(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qhybrid.experiments import latent_training

    spec = classifier(images, train__seed=8)
    dataset, _ = load_data(spec, quiet())
    none = Run(images.parent / "none", spec)

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(latent_training, "DenoiserModule", dies)
        with pytest.raises(KeyboardInterrupt):
            synthetic_images(none, dataset, dataset.splits["train"], quiet())
    (begun,) = [run for run in list_runs(cache_folder()) if run.state != "complete"]
    assert synthetic_images(none, dataset, dataset.splits["train"], quiet()) is not None
    assert open_run(begun.path).state == "complete"


def test_generators_that_do_not_fit_are_refused(images: Path, tmp_path: Path) -> None:
    other = tiny_generator(tmp_path, generator__denoiser_epochs=1, generator__autoencoder_epochs=1)
    for settings, said in (
        ({"augment__generator": str(other.path)}, "trained on other images"),
        ({"augment__generator": str(tmp_path / "nothing")}, "does not exist"),
        ({"augment__generator": str(other.path), "augment__quantum": False}, "is quantum"),
    ):
        with pytest.raises(InputError, match=said):
            train(classifier(images, **settings), out=tmp_path / "none", console=quiet())
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match=r"give augment.generator, the folder of its run, or a \[generator\] table"):
        classifier(images, generator=None)
    dataset, _ = load_data(other.spec, quiet())
    spec = classifier(images).augment
    with pytest.raises(InputError, match="takes a generator"):
        augment(dataset.splits["train"], spec, seed=0)
    with pytest.raises(InputError, match="nothing to show"):
        augment_sheet(dataset, spec, tmp_path / "sheet.png", seed=0)


def test_generators_have_rows_in_the_table_of_augmentation(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train(classifier(images, augment__kind="none", generator=None), out=tmp_path, console=quiet())
    spec = classifier(images, augment__kind="none")
    assert spec.trains_generator
    generator = train(spec.model_copy(update={"name": "generator"}), out=tmp_path, console=quiet())
    space = backbone_space(run)
    found = quality_of_run(run.spec, space, generators=[generator], noise=["ibm_fez"], shots=50, draws=2, figures=True)
    kinds = ["none", "geometric", "diffusion", "latent-diffusion quantum", "latent-diffusion quantum, ibm_fez"]
    assert [each["kind"] for each in found["kinds"]] == kinds
    for each in found["kinds"]:
        for values in (*each["classes"].values(), each["mean"]):
            assert all(0 <= values[share]["mean"] <= 1 for share in ("precision", "recall", "as_asked"))
    exact, noisy = found["kinds"][-2:]
    assert exact["mean"]["fid"] != noisy["mean"]["fid"]
    # What was there without generators is the same.
    without = quality_of_run(run.spec, space, draws=2)
    assert without["neighbours"] is None
    for before, now in zip(without["kinds"], found["kinds"], strict=False):
        assert before["classes"] == now["classes"]
    counts = {each["kind"]: each for each in found["neighbours"]["pixels"]["kinds"]}
    assert (counts["none"]["closer"], counts["none"]["smallest"]) == (10, 0)
    assert counts["latent-diffusion quantum"]["smallest"] > 0
    test = load_data(run.spec, quiet())[0].splits["test"]
    predicted = run.load_model()(test.batch()).argmax(1)[test.labels == 1]  # all of class 1 are compared with
    assert found["real_as_asked"][run.class_names[1]] == (predicted == 1).float().mean()
    assert len(quality_rows(found)) == 15
    assert "nearer to a training image than" in " ".join(quality_notes(found))
    assert len(list((generator.path / "figures").glob("nearest-latent-diffusion-quantum*.png"))) == 2
    command = runner(monkeypatch, capfd, tmp_path)
    answer = command("data", "quality", "--run", str(run.path), "--generator", str(generator.path), "--draws", "2")
    assert answer.returncode == 0, answer.stderr
    assert "latent-diffusion quantum" in answer.stdout
    answer = command("data", "quality", "--run", str(run.path), "--noise", "ibm_fez")
    assert (answer.returncode, "give --generator RUN" in answer.stderr) == (2, True)


STUDY = """
[data]
source = "medmnist:IMAGES"
image_size = 32
[augment]
kind = "none"
rho = 1.0
[model]
backbone = "cnn5"
feature_dim = 4
[device]
name = "qhybrid.statevector"
[train]
epochs = 1
batch_size = 4
[generator]
GENERATOR
[study]
seeds = [0]
[[study.arms]]
name = "none"
[[study.arms]]
name = "quantum generator"
augment.kind = "latent-diffusion"
augment.quantum = true
[[study.arms]]
name = "classical generator"
augment.kind = "latent-diffusion"
augment.quantum = false
"""


def test_a_study_compares_generators_with_other_augmentation(images: Path, tmp_path: Path) -> None:
    settings = "\n".join(f"{key} = {str(value).lower()}" for key, value in TINY.items())
    path = tiny(tmp_path, STUDY.replace("GENERATOR", settings).replace("IMAGES", str(images)))
    spec = load_experiment(str(path))
    none, quantum, _ = resolve_arms(spec)
    assert none.spec.generator is None
    assert quantum.spec.generator is not None
    study = run_study(spec, out=tmp_path / "studies", console=quiet())
    found = study.results["augmentation"]
    kinds = [each["kind"] for each in found["kinds"]]
    assert kinds == ["none", "geometric", "diffusion", "quantum generator", "classical generator"]
    assert found["generators"].keys() == {"quantum generator", "classical generator"}
    assert [each["name"] for each in study.results["arms"]][:3] == ["none", "quantum generator", "classical generator"]
