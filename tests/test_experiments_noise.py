"""Training through noise: on the devices that simulate it, with a factor of its own for each step."""

import io
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_training import write_images

from qhybrid.errors import InputError, Interrupted
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.runs import Run, open_run
from qhybrid.experiments.spec import ExperimentSpec, TrainSpec, override
from qhybrid.experiments.training import resume, train
from qhybrid.experiments.training_module import TrainingModule, noise_factor
from qhybrid.noise_models.spec import load_noise_model


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "images.npz", 8, 4)


def _spec(images: Path, **settings: Any) -> ExperimentSpec:
    tiny = {
        "data.source": f"medmnist:{images}",
        "data.image_size": 32,
        "model.feature_dim": 4,
        "device.name": "qhybrid.density",
        "device.noise": "ibm_torino",
        "device.layout_seeds": 1,
        "train.epochs": 1,
        "train.batch_size": 4,
        "train.learning_rate": 1e-3,
    }
    return override(
        ExperimentSpec(name="tiny"), tiny | {key.replace("__", "."): value for key, value in settings.items()}
    )


def _train(spec: ExperimentSpec, out: Path) -> Run:
    return train(spec, out=out, console=Console(file=io.StringIO()))


def test_each_step_draws_a_factor_of_its_own_from_the_seed_and_its_number() -> None:
    spec = TrainSpec(noise_scale=(0.5, 1.5), seed=3)
    factors = [noise_factor(spec, step) for step in range(2000)]
    assert factors == [noise_factor(spec, step) for step in range(2000)]
    assert factors != [noise_factor(spec.model_copy(update={"seed": 4}), step) for step in range(2000)]
    assert sorted(set(factors)) == pytest.approx(np.linspace(0.5, 1.5, 17))  # few enough to keep what is compiled
    counts = np.unique(factors, return_counts=True)[1]
    assert counts.min() > 0.6 * 2000 / 17
    assert {noise_factor(TrainSpec(), step) for step in range(50)} == {1.0}
    assert {noise_factor(TrainSpec.model_validate({"noise_scale": 0.25}), step) for step in range(50)} == {0.25}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.noise_scale", [1, 0], r"'train.noise_scale': must be \[low, high\] with low <= high, not \[1, 0\]"),
        ("train.noise_scale", -1, "greater than or equal to 0"),
        ("train.noise_scale", float("nan"), "finite"),
        ("train.noise_scale", "much", "'train.noise_scale' is 'much'"),
        ("device.noise_scale", -0.5, "greater than or equal to 0"),
        ("device.noise_scale", float("inf"), "finite"),
        ("device.noise_parts", ["readot"], "unknown noise part 'readot'; did you mean 'readout'"),
        ("device.layout_seeds", 0, "greater than or equal to 1"),
    ],
)
def test_settings_that_are_wrong_are_one_line(key: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        override(ExperimentSpec(), {key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"device__name": "qhybrid.statevector", "device__noise": "none", "train__noise_scale": [0, 1]},
            "train.noise_scale",
        ),
        ({"device__name": "qhybrid.statevector"}, "qhybrid.statevector takes no noise model"),
        ({"device__noise": "ibm_turino"}, "did you mean 'ibm_torino'"),
        ({"device__noise": "none", "device__noise_scale": 0.5}, "without a noise model"),
    ],
)
def test_noise_that_cannot_be_is_said_before_a_run_is_made(
    settings: dict[str, Any], said: str, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        _train(_spec(images, **settings), tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_training_through_noise_keeps_where_the_noise_is_from_and_is_evaluated_under_it(
    images: Path, tmp_path: Path
) -> None:
    run = _train(_spec(images, device__noise_scale=0.5, device__noise_parts=["gates2q", "readout"]), tmp_path / "runs")
    model = load_noise_model("ibm_torino").scaled(0.5).with_parts(["gates2q", "readout"])
    assert open_run(run.path).data["noise"] == model.provenance()
    evaluation = evaluate(run)
    assert evaluation.device["noise"]["fingerprint"] == model.fingerprint
    assert evaluation.name == "test-qhybrid.density-ibm_torino_x0.5_gates2q_readout-analytic-seed0"
    assert evaluation.reference is not None
    assert evaluation.reference.rms > 0
    assert evaluate(run, device="qhybrid.statevector").reference is None


@pytest.mark.parametrize(
    ("device", "settings"),
    [
        ("qhybrid.density", {}),
        ("qhybrid.density", {"device__shots": 20, "device__diff_method": "parameter-shift"}),
        pytest.param("qiskit.aer", {"device__diff_method": "parameter-shift"}, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_training_with_noise_injection_equals_an_uninterrupted_one(
    device: str, settings: dict[str, Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _spec(images, device__name=device, train__epochs=2, train__noise_scale=[0, 2], **settings)
    whole = _train(spec, tmp_path / "whole")
    constant = _train(override(spec, {"train.noise_scale": 1.0}), tmp_path / "constant")
    weights = [(run.path / "model.safetensors").read_bytes() for run in (whole, constant)]
    assert weights[0] != weights[1]

    validated: list[float] = []
    step = TrainingModule.validation_step

    def interrupt_in_the_second_epoch(self: TrainingModule, batch: Any, index: int) -> Any:
        layer = self.classifier.head.layer
        assert layer is not None
        validated.append(layer.noise_factor)
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingModule, "validation_step", interrupt_in_the_second_epoch)
        with pytest.raises(Interrupted):
            _train(spec, tmp_path / "cut")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it after an interrupt
    assert set(validated) == {1.0}
    (cut,) = (tmp_path / "cut" / "tiny").iterdir()
    resumed = resume(cut, console=Console(file=io.StringIO()))
    assert (resumed.path / "model.safetensors").read_bytes() == weights[0]


def test_a_training_is_not_resumed_under_another_noise(images: Path, tmp_path: Path) -> None:
    run = _train(_spec(images), tmp_path / "runs")
    run.set_state("failed", "interrupted")
    config = run.path / "config.toml"
    config.write_text(config.read_text().replace('noise = "ibm_torino"', 'noise = "ibm_fez"'))
    with pytest.raises(InputError, match="noise model 'ibm_fez' has changed since it began"):
        resume(run.path, console=Console(file=io.StringIO()))
