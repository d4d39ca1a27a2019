"""`qhybrid eval`, `adapt` and `train` under noise, as a stranger types them."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Command, runner
from small_run import COUNTS, small_run

from qhybrid.experiments import evaluation
from qhybrid.noise_models.model import BEST_CASE


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    small_run(folder / "runs")
    small_run(folder / "classical", model__head="linear")
    return folder


@pytest.fixture
def command(workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return runner(monkeypatch, capfd, workplace)


def test_eval_under_noise_shows_the_exact_reference_the_date_and_that_it_is_a_best_case(
    workplace: Path, command: Command
) -> None:
    shown = command("eval", "--noise", "ibm_torino", "--shots", "100", "--repeats", "3", "--layout-seeds", "1")
    assert shown.returncode == 0, shown.stderr
    assert "on qiskit.aer, ibm_torino, 3 x 100 shots" in shown.stdout
    assert "difference [95 %]" in shown.stdout
    assert "calibrated 2025-02-26" in shown.stdout
    assert BEST_CASE in shown.stdout
    (results,) = (workplace / "runs" / "small").glob(
        "*/results/test-qiskit.aer-ibm_torino-100shots-3repeats-seed0.json"
    )
    assert f"results  {results.relative_to(workplace)}" in shown.stdout
    with np.load(results.parents[1] / "predictions" / f"{results.stem}.npz", allow_pickle=False) as arrays:
        assert arrays["repeated_expectation_values"].shape == (3, COUNTS["test"], 4)


def test_scale_and_parts_reach_the_device(command: Command) -> None:
    noise = [
        "--noise",
        "ibm_torino",
        "--noise-scale",
        "0.5",
        "--noise-parts",
        "gates2q, readout",
        "--layout-seeds",
        "1",
    ]
    for device in ("qiskit.aer", "qhybrid.density"):
        shown = command("eval", "--device", device, *noise, "--json")
        assert shown.returncode == 0, shown.stderr
        result = json.loads(shown.stdout)
        assert result["device"]["name"] == device
        assert result["device"]["noise"]["label"] == "ibm_torino x0.5 (gates2q, readout)"
        assert result["reference"]["rms_difference_of_expectation_values"] > 0


@pytest.mark.parametrize("method", ["head", "rescale"])
def test_adapt_shows_before_and_after(workplace: Path, command: Command, method: str) -> None:
    noise = ["--noise", "ibm_torino", "--noise-scale", "10", "--layout-seeds", "1"]
    shown = command("adapt", *noise, "--method", method, "--limit", "50")
    assert shown.returncode == 0, shown.stderr
    assert "adapted - noisy [95 %]" in shown.stdout
    assert "50 training samples" in shown.stdout
    assert BEST_CASE in shown.stdout
    fitted = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith(("fit ", "noisy ", "adapted "))]
    assert all((workplace / path).is_file() for path in fitted if path.endswith(".json"))
    result = json.loads(command("adapt", *noise, "--method", method, "--limit", "50", "--json").stdout)
    assert result["method"] == method
    assert {"exact", "noisy", "adapted"} <= result["metrics"]["accuracy"].keys()


def test_help_says_what_is_chosen_and_what_is_fitted_on(command: Command) -> None:
    shown = " ".join(command("eval", "--help").stdout.split())
    assert "--noise alone runs on qiskit.aer" in shown
    assert "--device alone has no noise" in shown
    shown = " ".join(command("adapt", "--help").stdout.replace("│", " ").split())
    assert "never looked at" in shown
    assert "without labels" in shown


BAD_INPUT = [
    (["eval", "--noise", "ibm_turino"], "did you mean 'ibm_torino'?"),
    (["eval", "--noise", "ibm_torino", "--device", "lightning.qubit"], "qhybrid.density and qiskit.aer take one"),
    (["eval", "--noise", "ibm_torino", "--noise-parts", "gates1q,reedout"], "'reedout'; did you mean 'readout'?"),
    (["eval", "--noise", "ibm_torino", "--noise-parts", ""], "unknown noise part ''"),
    (["eval", "--noise", "ibm_torino", "--noise-scale", "-1"], "noise scale -1"),
    (["eval", "--noise", "ibm_torino", "--noise-scale", "nan"], "noise scale nan"),
    (["eval", "--noise", "ibm_torino", "--shots", "0"], "shots = 0"),
    (["eval", "--noise", "ibm_torino", "--shots", "1000000000000"], "shots = 1000000000000"),
    (["eval", "--noise", "ibm_torino", "--repeats", "0"], "repeats = 0"),
    (["eval", "--noise", "ibm_torino", "--repeats", "5"], "give shots"),
    (["eval", "--noise-scale", "0.5"], "give --noise"),
    (["eval", "--noise-parts", "readout"], "give --noise"),
    (["eval", "--runs", "classical", "--noise", "ibm_torino"], "linear head without a quantum layer"),
    (["adapt", "--runs", "classical", "--noise", "ibm_torino"], "linear head without a quantum layer"),
    (["adapt"], "nothing to adapt to"),
    (["adapt", "--noise", "ibm_torino", "--method", "heads"], "did you mean 'head'?"),
    (["adapt", "--noise", "ibm_torino", "--split", "train"], "fitted on 'train'"),
    (["train", "--noise", "ibm_torino"], "lightning.qubit takes no noise model"),
    (["train", "--noise-scale", "-1"], "'device.noise_scale' is -1"),
    (["train", "--noise-parts", "reedout"], "did you mean 'readout'?"),
    (["train", "--set", "train.noise_scale=[0, 1]", "--image-size", "32"], "train.noise_scale"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT, ids=[" ".join(a) for a, _ in BAD_INPUT])
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, workplace: Path, command: Command
) -> None:
    before = sorted(workplace.rglob("*"))
    if arguments[0] == "train":
        arguments = [*arguments, "--set", "data.angiography.train=[4,4]"]
    shown = command(*arguments)
    assert shown.returncode == 2
    assert message in shown.stderr
    assert shown.stderr.count("\n") == 1, "one line, no traceback"
    assert shown.stderr.startswith("error: ")
    assert sorted(workplace.rglob("*")) == before, "nothing half written"


def test_an_interrupt_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "predict_split", interrupted)
    shown = command("eval", "--noise", "ibm_torino", "--layout-seeds", "1")
    assert (shown.returncode, shown.stderr) == (130, "error: interrupted\n")
