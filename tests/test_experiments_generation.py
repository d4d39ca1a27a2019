"""Generators: trained, interrupted, resumed; their samples on devices; and how near these come to training images."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Command, runner
from PIL import Image
from tiny_generator import generator_experiment, quiet, tiny_generator

from qhybrid.data.dataset import ImageDataset
from qhybrid.errors import InputError, Interrupted
from qhybrid.experiments.checkpoints import read_checkpoint
from qhybrid.experiments.generation import Generator, open_generator
from qhybrid.experiments.latent_diffusion import quantum_layers
from qhybrid.experiments.nearest_images import CopyTest
from qhybrid.experiments.progress import Progress
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import list_runs, open_run
from qhybrid.experiments.training import resume, train
from qhybrid.experiments.training_data import load_data
from qhybrid.storage import read_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return runner(monkeypatch, capfd, tmp_path)


def dataset_of(run: Run) -> ImageDataset:
    return load_data(run.spec, quiet())[0]


def opened(run: Run, **options: Any) -> Generator:
    return replace(open_generator(run, dataset_of(run), **options), copy_test=None)


LABELS = torch.tensor([0, 0, 1])


def test_a_run_of_a_generator_has_what_every_run_has(run: Run) -> None:
    assert run.state == "complete"
    assert run.spec.trains_generator
    log = run.training_log()
    assert log["epoch"].tolist() == [1, 2, 3, 4]
    assert log["stage"].tolist() == [1, 1, 2, 2]
    assert (log["validation_loss"] > 0).all()
    assert run.data["parameters"]["classical_twin"] == pytest.approx(run.data["parameters"]["quantum_twin"], rel=0.01)
    assert (run.path / "model.safetensors").is_file()
    assert (run.path / "circuits" / "angle_4q.toml").is_file()


def test_what_is_kept_is_the_best_epoch_with_averaged_weights(run: Run) -> None:
    state = read_checkpoint(run.path / "denoiser" / "checkpoints" / "best.ckpt")["state_dict"]
    kept = opened(run).model.denoiser.state_dict()
    averaged = {name.removeprefix("average.module."): value for name, value in state.items() if "average.mod" in name}
    assert kept.keys() == averaged.keys()
    assert all(torch.equal(value, averaged[name]) for name, value in kept.items())
    assert any(not torch.equal(value, state["generator.denoiser." + name]) for name, value in kept.items())


def test_latents_have_mean_zero_and_variance_one(run: Run) -> None:
    model = opened(run).model
    images = dataset_of(run).splits["train"].batch()[:, :1]
    mean, log_variance = model.autoencoder.encode(images)
    noise = torch.randn((200, *mean.shape), generator=torch.Generator().manual_seed(0))
    scaled = model.scaled(mean + torch.exp(log_variance / 2) * noise)
    torch.testing.assert_close(scaled.mean(dim=(0, 1, 3, 4)), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(scaled.std(dim=(0, 1, 3, 4)), torch.ones(2), atol=0.03, rtol=0)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_training_ends_like_an_uninterrupted_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    said = 0
    original = Progress.on_train_epoch_end

    def stop(self: Progress, *arguments: Any) -> None:
        nonlocal said
        original(self, *arguments)
        said += 1
        if said == epoch + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_train_epoch_end", stop)
        with pytest.raises(Interrupted, match="--resume"):
            train(run.spec, out=tmp_path, console=quiet())
    (begun,) = list_runs(tmp_path)
    assert begun.state == "failed"
    with pytest.raises(InputError, match="incomplete"):
        open_run(begun.path)
    again = resume(begun.path, console=quiet())
    assert again.state == "complete"
    assert (again.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()
    for name in ("train_loss", "validation_loss"):
        np.testing.assert_array_equal(again.training_log()[name], run.training_log()[name])


def test_samples_follow_from_the_seed_and_from_the_device(run: Run) -> None:
    state = torch.random.get_rng_state()
    exact = opened(run)
    images = exact.sample(LABELS, seed=1)
    assert images.shape == (3, 1, 32, 32)
    assert 0 <= images.min() <= images.max() <= 1
    assert torch.equal(exact.sample(LABELS, seed=1), images)
    assert torch.equal(opened(run).sample(LABELS, seed=1), images)
    assert not torch.equal(exact.sample(LABELS, seed=2), images)
    noisy = opened(run, noise="ibm_brisbane", shots=1024)
    assert all(layer.device.name == "qhybrid.density" for layer in quantum_layers(noisy.model))
    differs = noisy.sample(LABELS, seed=1)
    assert torch.equal(noisy.sample(LABELS, seed=1), differs)
    assert 0 < (differs - images).abs().max() < 0.5
    density = opened(run, device="qhybrid.density").sample(LABELS, seed=1)
    torch.testing.assert_close(density, images, atol=1e-4, rtol=0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_all_samples_of_a_step_are_one_call_of_the_device(run: Run) -> None:
    generator = opened(run, steps=3)
    layer = quantum_layers(generator.model.denoiser)[0]
    before = layer.device.tracker.batches
    generator.sample(torch.zeros(50, dtype=torch.int64), seed=0)
    assert layer.device.tracker.batches - before == 3


def test_copies_are_drawn_anew_until_they_are_none(run: Run) -> None:
    plain = opened(run)
    images = plain.sample(LABELS, seed=1)
    training = dataset_of(run).splits["train"].batch()[:, :1]
    near = CopyTest(torch.cat([training, images[1:2]]), 1e-3, 0.01)
    found, n_copies = replace(plain, copy_test=near).images(LABELS, seed=1)
    assert n_copies == 1
    assert torch.equal(found[[0, 2]], images[[0, 2]])
    assert not near.copies(found).any()
    with pytest.raises(InputError, match="by heart"):
        replace(plain, copy_test=CopyTest(training, 10.0, 0.01)).images(LABELS, seed=1)
    assert run.spec.generator is not None
    watchful = run.spec.generator.model_copy(update={"copy_quantile": 0.01})
    test = open_generator(
        replace(run, spec=run.spec.model_copy(update={"generator": watchful})), dataset_of(run)
    ).copy_test
    assert test is not None
    assert test.threshold == CopyTest.of(dataset_of(run).splits["train"], 0.01).threshold > 0


def test_a_generator_is_refused_where_a_classifier_is_wanted_and_the_other_way_round(
    run: Run, command: Command
) -> None:
    answer = command("eval", str(run.path))
    assert answer.returncode == 2
    assert "is of a generator and has no classifier" in answer.stderr
    with pytest.raises(InputError, match="no complete run"):
        open_run(root=run.path.parents[1])
    classifier = replace(run, spec=run.spec.model_copy(update={"generator": None}))
    with pytest.raises(InputError, match="of a classifier"):
        open_generator(classifier, dataset_of(run))


def test_a_classical_denoiser_takes_no_device(tmp_path: Path) -> None:
    classical = tiny_generator(tmp_path, generator__quantum=["bottleneck"], generator__denoiser_epochs=1)
    with pytest.raises(InputError, match="no circuit in its denoiser"):
        opened(classical, noise="ibm_fez")
    assert opened(classical).sample(LABELS, seed=0).shape == (3, 1, 32, 32)


def test_trainings_that_cannot_be_are_refused_before_anything_is_written(tmp_path: Path, run: Run) -> None:
    images = Path(run.spec.data.source.removeprefix("medmnist:"))
    for settings, said in (
        ({"train__devices": 2}, "trains in one process"),
        ({"data__image_size": 40}, "multiples of 16"),
        ({"generator.circuit": "nothing"}, "nothing"),
    ):
        with pytest.raises(InputError, match=said):
            train(generator_experiment(images, **settings), out=tmp_path / "runs", console=quiet())
    assert not (tmp_path / "runs").exists()


def test_generate_writes_images_and_says_what_they_are(run: Run, command: Command, tmp_path: Path) -> None:
    name = run.class_names[1]
    answer = command("generate", str(run.path), "--class", name, "--count", "3", "--out", "some", "--noise", "ibm_fez",
                     "--shots", "100", "--steps", "2", "--json")  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert (said["classes"], said["steps"], said["device"]["shots"]) == ({name: 3}, 2, 100)
    assert read_json(tmp_path / "some" / "samples.json") == said
    files = sorted((tmp_path / "some").glob("*-00*.png"))
    assert len(files) == 3
    with Image.open(files[0]) as image:
        assert (image.size, image.mode) == ((32, 32), "L")
        first = np.asarray(image)
    assert (tmp_path / "some" / "samples.png").stat().st_size > 1000
    again = command("generate", str(run.path), "--class", name, "--count", "3", "--out", "again", "--noise", "ibm_fez",
                    "--shots", "100", "--steps", "2")  # fmt: skip
    assert "3 images in" in again.stdout
    with Image.open(io.BytesIO((tmp_path / "again" / files[0].name).read_bytes())) as image:
        np.testing.assert_array_equal(np.asarray(image), first)
    answer = command("train", "latent_diffusion", "--epochs", "3")
    assert answer.returncode == 2
    assert "train.epochs is of a classifier" in answer.stderr
    for arguments, message in (
        (["--class", "nothing"], "unknown class 'nothing'"),
        (["--count", "0"], "count = 0"),
        (["--steps", "1000"], "from 1 to 20"),
        (["--noise", "ibm_fezz"], "ibm_fez"),
    ):
        answer = command("generate", str(run.path), *arguments)
        assert answer.returncode == 2
        assert message in answer.stderr


def test_a_denoiser_that_learns_varied_images_is_resumed_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny_generator(tmp_path, generator__transforms=["affine", "brightness"])
    plain = tiny_generator(tmp_path, generator__transforms=[])
    assert whole.training_log()["train_loss"][:2].tolist() == plain.training_log()["train_loss"][:2].tolist()
    assert whole.training_log()["train_loss"][2] != plain.training_log()["train_loss"][2]
    original = Progress.on_train_epoch_end

    def stop(self: Progress, trainer: Any, module: Any) -> None:
        original(self, trainer, module)
        if type(module).__name__ == "DenoiserModule":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_train_epoch_end", stop)
        with pytest.raises(Interrupted):
            train(whole.spec, out=tmp_path / "cut", console=quiet())
    again = resume(list_runs(tmp_path / "cut")[0].path, console=quiet())
    assert (again.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
