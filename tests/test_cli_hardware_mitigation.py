"""`qhybrid estimate`, `submit` and `jobs collect` with error mitigation, against the loopback QPU."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Command, runner
from loopback import emulated, in_haste, ran
from numpy.typing import NDArray
from qiskit_ibm_runtime import RuntimeDecoder
from small_run import COUNTS, copied, small_run

from qhybrid.devices import runtime_program
from qhybrid.devices.job_row import JobRow
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.mitigation import MitigatedJobs
from qhybrid.devices.runtime_client import Client
from qhybrid.devices.runtime_raw import read_estimates, read_readout
from qhybrid.emulator.running import RunningEmulator
from qhybrid.experiments.evaluation import evaluate, open_head
from qhybrid.experiments.run_folder import Run
from qhybrid.storage import read_arrays, read_json

pytestmark = pytest.mark.filterwarnings("ignore:The RuntimeOptions class is deprecated")  # the client's own

ON_FEZ = ("--backend", "ibm_fez", "--layout-seeds", "2")
BOTH = ("--mitigation", "readout+zne")
LABEL = "readout:inverse, zne:linear 1 3 5"
N = COUNTS["test"]
FEW = ("--limit", "20", "--shots", "500")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    with emulated(backends=["ibm_fez"], seed=5, state=tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(original: Run, tmp_path: Path) -> Run:
    return copied(original, tmp_path / "run")


@pytest.fixture
def qhybrid(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    in_haste(monkeypatch, tmp_path / "data")
    yield runner(monkeypatch, capfd, tmp_path)
    emulator.set_faults(queue_seconds=0.0, run_seconds=0.0)


def probabilities(row: JobRow, number: int) -> NDArray[np.float64]:
    """How often each outcome was counted by a PUB of a job, (rows, 2, ..., 2), the last axis bit 0."""
    result = json.loads((Ledger().files(row.tag) / "result.json").read_text(), cls=RuntimeDecoder)[number]
    bits = result.data.c
    table = [[bits.get_counts(index).get(format(word, f"0{bits.num_bits}b"), 0) for word in range(2**bits.num_bits)]
             for index in np.ndindex(bits.shape)]  # fmt: skip
    return np.array(table).reshape(-1, *(2,) * bits.num_bits) / bits.num_shots


def by_hand(row: JobRow) -> NDArray[np.float64]:
    """<Z0> to <Z3> of the counts: their confusion matrices inverted, a straight line through three factors, (N, 4)."""
    zeros, ones = (probabilities(row, number)[0] for number in (0, 1))
    at_factors = []
    for number in (2, 3, 4):
        found = probabilities(row, number)
        for axis in range(4):
            others = tuple(other for other in range(4) if other != axis)
            confusion = np.stack([zeros.sum(axis=others), ones.sum(axis=others)], axis=1)  # [read, true]
            found = np.moveaxis(np.tensordot(np.linalg.inv(confusion), found, (1, axis + 1)), 0, axis + 1)
        marginals = [found.sum(axis=tuple(other + 1 for other in range(4) if other != axis)) for axis in (3, 2, 1, 0)]
        at_factors.append(np.stack([each[:, 0] - each[:, 1] for each in marginals], axis=1))
    return np.polynomial.polynomial.polyfit([1, 3, 5], np.stack(at_factors).reshape(3, -1), 1)[0].reshape(-1, 4)


def test_from_estimate_to_mitigated_metrics_in_one_job(qhybrid: Command, run: Run, emulator: RunningEmulator) -> None:
    before = emulator.counters()
    plain = json.loads(qhybrid("estimate", "run", *ON_FEZ, *FEW, "--json").stdout)
    cost = json.loads(qhybrid("estimate", "run", *ON_FEZ, *BOTH, *FEW, "--json").stdout)
    assert (cost["jobs"], cost["circuits"], cost["mitigation"]) == (1, 3 * 20 + 2, LABEL)
    assert (cost["readout_circuits"], cost["readout_shots"], cost["noise_factors"]) == (2, 10_000, [1, 3, 5])
    assert cost["executions"] == 3 * 20 * 500 + 2 * 10_000
    assert cost["qpu_seconds"] == pytest.approx(2 + cost["executions"] * (250e-6 + cost["circuit_seconds"]))
    assert cost["unmitigated"].items() <= plain.items()
    assert (plain["mitigation"], plain["unmitigated"], plain["executions"]) == (None, None, 20 * 500)
    assert cost["isa"] == plain["isa"]
    assert cost["folded"]["gates2q"] == 5 * plain["isa"]["gates2q"]
    assert cost["training_step"]["circuits"] == 3 * plain["training_step"]["circuits"]  # the readout is known by then
    assert ran(emulator, before) == (0, 0)

    sent = qhybrid("submit", "run", *ON_FEZ, *BOTH, *FEW, "--yes")
    assert sent.returncode == 0, sent.stderr
    assert (
        f"1 job: {3 * 20} circuits (20 at each of the noise factors 1, 3, 5), 500 shots each, and 2 that" in sent.stderr
    )
    assert f"mitigation: 1 job, 20 circuits, {20 * 500} executions" in sent.stderr
    assert "at noise factor 5 with 30 CZ: " in sent.stderr
    (row,) = Ledger().find()
    assert (row.circuits, row.executions, row.estimate) == (3 * 20 + 2, cost["executions"], cost["qpu_seconds"])
    assert LABEL in row.circuit

    collected = qhybrid("jobs", "collect", "--wait")
    assert collected.returncode == 0, collected.stderr
    assert f"mitigation: {LABEL}" in collected.stdout
    after = emulator.counters()
    assert ran(emulator, before) == (1, 3 * 20 + 2)
    assert after["shots"] - before["shots"] == cost["executions"]
    (row,) = Ledger().find()
    assert row.usage == pytest.approx(cost["qpu_seconds"], abs=0.01)

    name = "test-limit20-qiskit.remote-ibm_fez-500shots-readout_inverse_zne_linear_1_3_5-seed0"
    kept = read_json(run.path / "results" / f"{name}.json")
    values = read_arrays(run.path / "predictions" / f"{name}.npz", ("expectation_values",))["expectation_values"]
    np.testing.assert_allclose(values, by_hand(row), atol=1e-12)
    assert kept["device"]["mitigation"] == LABEL
    assert kept["device"]["tracker"]["shots"] == cost["executions"]
    assert kept["device"]["isa"] == [plain["isa"]]
    assert kept["device"]["verdict"] == plain["verdict"]

    again = qhybrid("submit", "run", *ON_FEZ, *BOTH, *FEW, "--yes")
    assert "was sent before" in again.stderr
    assert ran(emulator, before) == (1, 3 * 20 + 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["readout:mthree 800,zne:exponential 1 3", "readout:800", "zne:richardson 1 3 5 global"]
)
def test_the_row_alone_gives_what_the_device_makes_of_the_same_counts(
    qhybrid: Command, run: Run, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """In as few jobs as the limits allow, the calibration in the first; all repeats together."""
    if "mthree" in words:
        pytest.importorskip("mthree")
    before = emulator.counters()
    options: Any = {"backend": "ibm_fez", "layout_seeds": 2, "shots": 100, "mitigation": words}
    with monkeypatch.context() as patch:
        patch.setattr(runtime_program, "MAX_EXECUTIONS", 4000)
        asked = ("--shots", "100", "--mitigation", words, "--limit", "10", "--repeats", "2")
        answer = qhybrid("submit", "run", *ON_FEZ, *asked, "--yes")
    assert answer.returncode == 0, answer.stderr
    rows = Ledger().find(batch=Ledger().find()[0].batch)
    assert len(rows) == (1 if words == "readout:800" else 2)
    assert all(row.executions <= 4000 for row in rows)
    assert ["readout" in row.layout for row in rows] == [("readout" in words), False][: len(rows)]
    assert qhybrid("jobs", "collect", "--wait").returncode == 0
    accepted, circuits = ran(emulator, before)
    assert (accepted, circuits) == (len(rows), sum(row.circuits for row in rows))
    evaluation = evaluate(run, **options, limit=10, repeats=2)
    assert ran(emulator, before) == (accepted, circuits)

    layer = open_head(run, options, repeats=2, seed=0).layer
    assert layer is not None
    assert isinstance(layer.device, MitigatedJobs)
    readout, main = read_readout(Ledger(), Client(), rows), read_estimates(Ledger(), Client(), rows)
    found = layer.device.combine(layer.program, [main] if readout is None else [readout, main], 100)
    drawn = found.values.reshape(2, 10, -1)
    np.testing.assert_array_equal(evaluation.predictions.repeated_expectation_values, drawn)
    assert evaluation.device["remark"] == layer.device.remark(layer.program)
    shots, calibration = found.stderr.square(), torch.zeros_like(found.stderr)
    if (known := layer.program.compiled.known) is not None:
        layer.program.compiled.known = replace(known, variances=0 * known.variances)
        shots = layer.device.combine(layer.program, [main], 100).stderr.square()
        calibration = found.stderr.square() - shots
        assert float(calibration.min()) > 0
    variance = shots.reshape(2, 10, -1).mean(dim=0) / 2 + calibration.reshape(2, 10, -1).mean(dim=0)
    torch.testing.assert_close(torch.from_numpy(evaluation.predictions.stderr), variance.sqrt())


def start(run: Run, emulator: RunningEmulator, *words: str) -> "subprocess.Popen[str]":
    environment = os.environ | emulator.environment | {"QHYBRID_DATA": str(run.path.parent / "data")}
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "qhybrid"), *words],
        cwd=run.path.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def until(reached: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(
    "state",
    [pytest.param(state, marks=pytest.mark.slow) for state in ("prepared", "submitting", "queued", "running", "done")],
)
def test_submit_is_killed_and_another_process_collects(
    qhybrid: Command, run: Run, emulator: RunningEmulator, state: str
) -> None:
    before = emulator.counters()
    emulator.set_faults(queue_seconds=0.3, run_seconds=0.3)
    ledger = Ledger()
    process = start(run, emulator, "submit", "run", *ON_FEZ, *BOTH, "--shots", "100", "--yes", "--wait")
    until(lambda: process.poll() is not None or any(row.state == state for row in ledger.find()))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    emulator.set_faults(queue_seconds=0.0, run_seconds=0.0)
    emulator.restart()
    collected = qhybrid("jobs", "collect", "--all", "--wait")
    assert collected.returncode == 0, collected.stderr
    assert ran(emulator, before) == (1, 3 * N + 2)
    (row,) = ledger.find()
    name = "test-qiskit.remote-ibm_fez-100shots-readout_inverse_zne_linear_1_3_5-seed0"
    values = read_arrays(run.path / "predictions" / f"{name}.npz", ("expectation_values",))["expectation_values"]
    np.testing.assert_allclose(values, by_hand(row), atol=1e-12)
    assert read_json(run.path / "results" / f"{name}.json")["device"]["mitigation"] == LABEL


@pytest.mark.slow
def test_the_estimator_extrapolates_too(qhybrid: Command, run: Run, tmp_path: Path, emulator: RunningEmulator) -> None:
    before = emulator.counters()
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "fez.toml").write_text(
        'driver = "runtime"\nshots = 200\n[options]\nbackend = "ibm_fez"\nlayout_seeds = 2\nprimitive = "estimator"\n'
        "resilience_level = 0\nmitigation = {zne = {factors = [1, 3]}}\n"
    )
    answer = qhybrid("submit", "run", "--device", "fez", "--limit", "6", "--yes", "--wait", "--json")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert (found["name"], found["device"]["mitigation"]) == (
        "test-limit6-fez-ibm_fez-200shots-zne_linear_1_3-seed0",
        "zne:linear 1 3",
    )
    assert ran(emulator, before) == (1, 2 * 6)
    values = read_arrays(
        run.path / "predictions" / f"{found['name']}.npz", ("expectation_values", "reference_expectation_values")
    )
    assert np.abs(np.subtract(*values.values())).max() < 5 * 1.6 / np.sqrt(200)  # (9 + 1)**.5 / 2 = 1.6 of an error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("submit", "run", *ON_FEZ, "--mitigation", "redout"), "unknown mitigation 'redout'; did you mean 'readout'"),
        (("submit", "run", *ON_FEZ, "--mitigation", "readout:model"), "has no noise model that says its readout"),
        (("submit", "run", *ON_FEZ, "--mitigation", "readout:200000", "--yes"), "calibration_shots = 200000: ibm_fez"),
        (("submit", "run", *ON_FEZ, *BOTH), "nothing was sent: a script must say --yes"),
        (("submit", "run", *ON_FEZ, *BOTH, "--max-seconds", "20", "--yes"), "over --max-seconds 20; nothing was sent"),
        (("estimate", "run", *ON_FEZ, "--mitigation", "zne:1 2"), "factors [1, 2]"),
        (("estimate", "angle_4q", *ON_FEZ, *BOTH), f"mitigation ({LABEL}) is estimated for a run folder"),
        (("estimate", "angle_4q", "--noise", "ibm_fez", *BOTH), "--mitigation: a noise model sends no jobs"),
        (("estimate", "run", "--device", "lightning.qubit", "--mitigation", "readout"), "is no machine of IBM"),
    ],
)
def test_wrong_input_is_one_line_and_sends_nothing(
    qhybrid: Command, run: Run, emulator: RunningEmulator, words: tuple[str, ...], message: str
) -> None:
    before = emulator.counters()
    shots = () if "--noise" in words or "--device" in words else ("--shots", "500")
    shown = qhybrid(*words, *shots)
    assert shown.returncode == 2
    assert message in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith("error: ")
    assert not Ledger().find()
    assert not list(run.path.glob("results/*"))
    assert ran(emulator, before) == (0, 0)
