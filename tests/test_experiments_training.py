import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from qhybrid.data.dataset import Split
from qhybrid.data.transforms import training_transforms
from qhybrid.errors import InputError, Interrupted, QHybridError
from qhybrid.experiments.batches import EpochOrder, TrainingImages
from qhybrid.experiments.checkpoints import read_checkpoint
from qhybrid.experiments.model import build_classifier
from qhybrid.experiments.runs import Run, create_run, open_run
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml, override
from qhybrid.experiments.training import resume, train
from qhybrid.experiments.training_module import TrainingModule

Images = Callable[..., Path]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Writes a MedMNIST file of tiny images, darker or brighter by class."""

    def write(*, n_classes: int = 2, train: int = 20, test: int = 8, copies: int = 0) -> Path:
        rng = np.random.default_rng(0)
        arrays = {}
        for split, count in (("train", train), ("val", test), ("test", test)):
            labels = np.arange(count) % n_classes
            pixels = rng.integers(0, 120, size=(count, 28, 28)) + 60 * labels[:, None, None] // n_classes
            arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": labels[:, None]}
        arrays["train_images"][:copies] = arrays["test_images"][:copies]
        path = tmp_path / f"images{n_classes}-{copies}.npz"
        np.savez(path, **arrays)
        return path

    return write


def _spec(path: Path, **settings: Any) -> ExperimentSpec:
    tiny = {
        "data.source": f"medmnist:{path}",
        "data.image_size": 32,
        "data.transforms": ["affine", "flip"],
        "model.feature_dim": 16,
        "device.name": "qhybrid.statevector",
        "train.epochs": 2,
        "train.learning_rate": 1e-3,
    }
    return override(
        ExperimentSpec(name="tiny"), tiny | {key.replace("__", "."): value for key, value in settings.items()}
    )


def _train(spec: ExperimentSpec, out: Path) -> tuple[Run, str]:
    said = io.StringIO()
    return train(spec, out=out, console=Console(file=said, width=200)), said.getvalue()


def _weights(run: Run) -> bytes:
    return (run.path / "model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(images: Images, tmp_path: Path) -> None:
    path = images()
    first, said = _train(_spec(path), tmp_path / "runs")
    torch.rand(3)  # what was drawn before must not matter
    again, _ = _train(_spec(path), tmp_path / "runs")
    other, _ = _train(_spec(path, train__seed=1), tmp_path / "runs")
    assert _weights(first) == _weights(again)
    assert _weights(first) != _weights(other)
    assert "epoch   2/2" in said
    assert first.state == "complete"
    log = first.training_log()
    assert log["epoch"].tolist() == [1, 2]
    assert np.isfinite(log["validation_loss"]).all()


def test_a_run_holds_all_that_later_steps_need(images: Images, tmp_path: Path) -> None:
    run, _ = _train(_spec(images(), train__epochs=1), tmp_path / "runs")
    assert run == open_run(run.path)
    model = run.load_model()
    for split, count in (("train", 20), ("validation", 8), ("test", 8)):
        stored = run.features(split)
        assert stored.features.shape == (count, 16)
        with torch.no_grad():
            head = run.load_head()(torch.from_numpy(stored.features))
            torch.testing.assert_close(head, model.head(torch.from_numpy(stored.features)))
    assert run.class_names == ("0", "1") or len(run.class_names) == 2
    assert run.data["parameters"]["head"] == 16 * 4 + 4 + 8 + 10
    assert Path(run.circuit).parent == run.path / "circuits"
    assert {file.name for file in run.path.iterdir()} >= {"config.toml", "environment.json", "metrics.csv"}
    for name in ("best.ckpt", "last.ckpt"):
        assert read_checkpoint(run.path / "checkpoints" / name)["epoch"] == 0


def test_one_epoch_ends_in_the_same_loss_on_every_device(images: Images, tmp_path: Path) -> None:
    path = images()
    losses = []
    for device in ("qhybrid.statevector", "default.qubit", "lightning.qubit"):
        run, _ = _train(_spec(path, device__name=device, train__epochs=1), tmp_path / "runs")
        losses.append([run.training_log()[name][0] for name in ("train_loss", "validation_loss")])
    np.testing.assert_allclose(losses, [losses[0]] * 3, atol=1e-3)


@pytest.mark.parametrize("shots", [None, pytest.param(50, marks=pytest.mark.slow)])
def test_an_interrupted_training_resumed_equals_one_that_was_not(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shots: int | None
) -> None:
    spec = _spec(images(), train__epochs=3, **({"device__shots": shots, "train__workers": 1} if shots else {}))
    whole, _ = _train(spec, tmp_path / "whole")
    step = TrainingModule.training_step

    def stop_in_second_epoch(self: TrainingModule, batch: Any, index: int) -> torch.Tensor:
        if self.current_epoch == 1 and index == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stop_in_second_epoch)
        with pytest.raises(Interrupted, match=r"interrupted; go on with `qhybrid train --resume"):
            _train(spec, tmp_path / "cut")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it after an interrupt
    cut = open_run(root=tmp_path / "cut", incomplete=True)
    assert cut.status["state"] == "failed"
    assert cut.status["message"] == "interrupted"
    resumed = resume(cut.path, console=Console(file=io.StringIO()))
    assert resumed.state == "complete"
    assert _weights(resumed) == _weights(whole)
    assert resumed.training_log()["epoch"].tolist() == [1, 2, 3]
    assert resume(cut.path) == resumed


def test_a_killed_training_is_marked_and_resumable_and_touches_no_other_run(images: Images, tmp_path: Path) -> None:
    path = images()
    earlier, _ = _train(_spec(path), tmp_path / "runs")
    before = {file: file.read_bytes() for file in earlier.path.rglob("*") if file.is_file()}
    program = (
        "import sys; from pathlib import Path\n"
        "from qhybrid.experiments.spec import load_experiment\n"
        "from qhybrid.experiments.training import train\n"
        "train(load_experiment(sys.argv[1]), out=Path(sys.argv[2]))"
    )
    endless = _spec(path, train__epochs=3, train__learning_rate=1e-3)
    config = tmp_path / "killed.toml"
    config.write_text(experiment_toml(endless).replace("epochs = 3", "epochs = 100000"), encoding="utf-8")
    folder = tmp_path / "runs" / "tiny"
    command = [sys.executable, "-c", program, str(config), str(tmp_path / "runs")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not list(folder.glob("*/checkpoints/last.ckpt"))[1:]:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    killed = open_run(root=tmp_path / "runs", incomplete=True)
    assert killed.path != earlier.path
    assert killed.state == "running"
    with pytest.raises(InputError, match=r"still running, or killed.*--resume"):
        open_run(killed.path)
    assert open_run(root=tmp_path / "runs").path == earlier.path
    # Let it end soon, with epochs that the killed process may have reached already.
    epochs = read_checkpoint(killed.last_checkpoint)["epoch"] + 2
    text = (killed.path / "config.toml").read_text(encoding="utf-8")
    text = text.replace("epochs = 100000", f"epochs = {epochs}")
    (killed.path / "config.toml").write_text(text, encoding="utf-8")
    resumed = resume(killed.path, console=Console(file=io.StringIO()))
    assert resumed.state == "complete"
    assert resumed.training_log()["epoch"].tolist() == list(range(1, epochs + 1))
    assert {file: file.read_bytes() for file in before} == before


def test_a_training_that_had_stopped_early_does_not_go_on(images: Images, tmp_path: Path) -> None:
    spec = _spec(images(), train__epochs=30, train__patience=1, train__learning_rate=0.05)
    run, _ = _train(spec, tmp_path / "runs")
    log, weights = run.training_log(), _weights(run)
    assert len(log["epoch"]) == int(np.argmin(log["validation_loss"])) + 2 < 30
    (run.path / "model.safetensors").unlink()
    run.set_state("running")  # as if killed between the last epoch and the features
    resumed = resume(run.path, console=Console(file=io.StringIO()))
    assert _weights(resumed) == weights
    assert resumed.training_log()["epoch"].tolist() == log["epoch"].tolist()


def test_the_best_epoch_is_kept(images: Images, tmp_path: Path) -> None:
    run, _ = _train(_spec(images(), train__epochs=4, train__learning_rate=0.02), tmp_path / "runs")
    best = read_checkpoint(run.best_checkpoint)
    assert best["epoch"] == int(np.argmin(run.training_log()["validation_loss"]))
    layer = run.load_model().head.layer
    assert layer is not None
    assert torch.equal(layer.weights, best["state_dict"]["classifier.head.layer.weights"])


@pytest.mark.parametrize("head", ["linear", "mlp", "quantum"])
def test_every_head_learns_more_than_two_classes(images: Images, tmp_path: Path, head: str) -> None:
    spec = _spec(images(n_classes=3, train=21, test=9), model__head=head, train__epochs=1)
    run, _ = _train(spec, tmp_path / "runs")
    features = torch.from_numpy(run.features("test").features)
    with torch.no_grad():
        assert run.load_head()(features).shape == (9, 3)


def test_leaks_are_reported_and_dropped_on_request(images: Images, tmp_path: Path) -> None:
    path = images(copies=3)
    run, said = _train(_spec(path, train__epochs=1), tmp_path / "runs")
    assert "warning: 3 test images recur in train" in said
    assert "--drop-leaks" in said
    assert len(run.features("train").labels) == 20
    run, said = _train(_spec(path, train__epochs=1, data__drop_leaks=True), tmp_path / "runs")
    assert "dropped 3 training images" in said
    assert len(run.features("train").labels) == 17
    assert run.data["leaks_dropped"] is True


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device__name": "lightning.qubitt"}, "unknown device 'lightning.qubitt'; did you mean"),
        ({"model__circuit": "angel_4q"}, "unknown circuit 'angel_4q'; did you mean 'angle_4q'"),
        ({"data__source": "medmnist:missing.npz"}, "missing.npz"),
        ({"device__diff_method": "backprop", "device__name": "lightning.qubit"}, "lightning.qubit"),
        ({"model__weights": "missing.pth"}, "missing.pth"),
        ({"train__loggers": ["mlflow"]}, r"pip install 'qhybrid\[mlflow\]'"),
    ],
)
def test_bad_input_leaves_no_run_behind(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    spec = _spec(images(), **settings)
    with pytest.raises(InputError, match=said) as caught:
        _train(spec, tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("head", ["linear", "quantum"])
def test_a_training_that_diverges_is_an_error_and_a_failed_run(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    step = TrainingModule.training_step
    monkeypatch.setattr(TrainingModule, "training_step", lambda *args: step(*args) * float("nan"))
    with pytest.raises(QHybridError, match=r"diverged in epoch 1: try a smaller train\.learning_rate"):
        _train(_spec(images(), model__head=head), tmp_path / "runs")
    assert open_run(root=tmp_path / "runs", incomplete=True).state == "failed"


def test_a_run_whose_images_changed_is_not_resumed(images: Images, tmp_path: Path) -> None:
    path = images()
    run, _ = _train(_spec(path, train__epochs=1), tmp_path / "runs")
    run.set_state("failed", "interrupted")
    with np.load(path) as file:
        arrays = dict(file)
    arrays["test_images"][0] += 1
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="have changed since it began"):
        resume(run.path, console=Console(file=io.StringIO()))


def test_a_run_that_had_not_begun_is_not_resumed(images: Images, tmp_path: Path) -> None:
    run = create_run(_spec(images()), tmp_path)
    with pytest.raises(InputError, match="cannot be resumed: it had not begun: start again with `qhybrid train tiny`"):
        resume(run.path)


def test_a_damaged_checkpoint_is_named_and_never_unpickled(images: Images, tmp_path: Path) -> None:
    run, _ = _train(_spec(images(), train__epochs=1), tmp_path / "runs")
    run.set_state("failed", "interrupted")
    run.last_checkpoint.write_bytes(run.last_checkpoint.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"last\.ckpt: damaged"):
        resume(run.path, console=Console(file=io.StringIO()))
    torch.save({"state_dict": {}, "epoch": 0, "callbacks": {}, "evil": Path}, run.last_checkpoint)
    with pytest.raises(InputError, match=r"last\.ckpt: damaged"):
        resume(run.path, console=Console(file=io.StringIO()))


def test_adam_gets_twice_the_penalty_of_the_loss() -> None:
    spec = override(ExperimentSpec(), {"train.weight_penalty": 3e-4, "train.betas": [0.8, 0.9], "model.head": "linear"})
    model = build_classifier(spec.model, n_classes=2, circuit=spec.model.circuit, device=spec.device)
    group = TrainingModule(model, spec.train).configure_optimizers()["optimizer"].param_groups[0]
    assert group["weight_decay"] == pytest.approx(6e-4)
    assert group["betas"] == (0.8, 0.9)
    # One step of that optimiser on the bare penalty is one step on its own gradient, 2 * lambda * theta.
    theta = torch.tensor([2.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(3e-4 * (theta**2).sum(), theta)
    assert float(gradient) == pytest.approx(group["weight_decay"] * 2.0)


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    def split(count: int, offset: int) -> Split:
        pixels = torch.arange(offset, offset + count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 32, 32)
        ids = tuple(f"{offset + number}" for number in range(count))
        return Split(pixels * 20, torch.arange(count) % 2, ids, 32)

    parts = [split(5, 0), split(3, 5)]
    plain = TrainingImages(parts, None, seed=1)
    pixels, labels = plain.__getitems__([7, 0, 4, 5, 8 + 7])
    assert (pixels[:, 0, 0, 0] * 255 / 20).round().int().tolist() == [7, 0, 4, 5, 7]
    assert labels.tolist() == [0, 0, 0, 0, 0]
    varied = TrainingImages(parts, training_transforms(["brightness", "affine"]), seed=1)
    together, _ = varied.__getitems__([3, 6, 11])
    torch.rand(7)
    alone, _ = varied.__getitems__([6])
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[2])  # the same image in the next epoch


def test_the_order_is_new_in_every_epoch_and_the_same_after_a_resume() -> None:
    order, other = EpochOrder(10, seed=1), EpochOrder(10, seed=1)
    first = list(order)
    order.set_epoch(1)
    other.set_epoch(1)
    second = list(order)
    assert sorted(first) == list(range(10))
    assert sorted(second) == list(range(10, 20))
    assert [key - 10 for key in second] != first
    assert list(other) == second


def test_a_cosine_schedule_takes_the_learning_rate_to_zero_over_all_epochs() -> None:
    spec = override(ExperimentSpec(), {"train.schedule": "cosine", "train.epochs": 4, "model.head": "linear"})
    model = build_classifier(spec.model, n_classes=2, circuit="angle_4q", device=spec.device)
    configured = TrainingModule(model, spec.train).configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"] / spec.train.learning_rate)
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1, 0.8536, 0.5, 0.1464], abs=1e-4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)
