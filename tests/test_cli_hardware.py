"""`qhybrid submit`, `jobs`, `estimate` and `eval` on a machine: the unmodified client against the loopback QPU."""

import io
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
from command_line import Answer, Command, runner
from loopback import MACHINE, NOISE, in_haste, ran
from rich.console import Console
from small_run import COUNTS, copied, small_run

from qhybrid.devices.job_row import JobRow
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime_messages import Waiting
from qhybrid.emulator.running import RunningEmulator, running_emulator
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.waiting import StatusLine
from qhybrid.storage import read_arrays, read_json

pytestmark = pytest.mark.filterwarnings("ignore:The RuntimeOptions class is deprecated")  # the client's own

TOKEN = "MARKEDtokenMARKEDtokenMARKEDtoken0123456789"
ON_MACHINE = ("--backend", MACHINE, "--layout-seeds", "2")
SIGMAS = 5.0
N = COUNTS["test"]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    state = tmp_path_factory.mktemp("emulator")
    with running_emulator(backends=[MACHINE, "ibm_lima"], seed=5, api_key=TOKEN, state=state) as running:
        yield running


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(original: Run, tmp_path: Path) -> Run:
    """A run of the test's own."""
    return copied(original, tmp_path / "run")


@pytest.fixture
def qhybrid(
    emulator: RunningEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Command]:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    in_haste(monkeypatch, tmp_path / "data")
    yield runner(monkeypatch, capfd, tmp_path)
    emulator.set_faults(queue_seconds=0.0, calibration_date=None)


def check_against_aer(run: Run, name: str, shots: int) -> None:
    """Expectation values and metrics of a machine against Aer with the same noise on the same layout."""
    on_machine = read_json(run.path / "results" / f"{name}.json")
    (values,) = read_arrays(run.path / "predictions" / f"{name}.npz", ("expectation_values",)).values()
    options: Any = {"device": "qiskit.aer", "noise": NOISE, "layout_seeds": 2}
    exact = evaluate(run, **options).predictions.expectation_values
    assert (np.abs(values - exact) / np.sqrt((1 - exact**2) / shots)).max() < SIGMAS
    aer = evaluate(run, **options, shots=shots, repeats=20, seed=1)
    for metric in on_machine["metrics"]:
        mean, deviation = aer.spread(metric)
        assert abs(on_machine["metrics"][metric]["value"] - mean) <= SIGMAS * deviation * 1.03 + 1e-9, metric
    assert on_machine["device"]["machine"] == "ibm_perth"
    assert on_machine["reference"] is not None


def test_from_estimate_to_metrics(qhybrid: Command, run: Run, emulator: RunningEmulator) -> None:
    before = emulator.counters()
    estimated = qhybrid("estimate", "run", *ON_MACHINE, "--shots", "1000", "--json")
    assert estimated.returncode == 0, estimated.stderr
    cost = json.loads(estimated.stdout)
    assert (cost["jobs"], cost["circuits"], cost["shots"], cost["queue"]) == (1, N, 1000, 0)
    assert cost["qpu_seconds"] == pytest.approx(2 + 1000 * N * (250e-6 + cost["circuit_seconds"]))
    assert cost["cost"] is None
    assert (cost["training_step"]["jobs"], cost["training_step"]["circuits"]) == (1, 16 * 17)
    assert cost["verdict"].startswith("angle_4q on ibm_perth: 6 CX")

    refused = qhybrid("submit", "run", *ON_MACHINE, "--shots", "1000")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "nothing was sent: a script must say --yes" in refused.stderr
    assert ran(emulator, before) == (0, 0)
    assert not Ledger().find()

    sent = qhybrid("submit", "run", *ON_MACHINE, "--shots", "1000", "--yes")
    assert sent.returncode == 0, sent.stderr
    assert f"1 job: {N} circuits, 1000 shots each" in sent.stderr
    (row,) = Ledger().find()
    assert f"`qhybrid jobs collect {row.short}`" in sent.stdout
    assert row.request == {"kind": "evaluation", "split": "test", "limit": None, "repeats": 1, "seed": 0}
    assert row.estimate == pytest.approx(cost["qpu_seconds"])

    collected = qhybrid("jobs", "collect", "--wait")
    assert collected.returncode == 0, collected.stderr
    assert "on qiskit.remote, ibm_perth, 1000 shots" in collected.stdout
    check_against_aer(run, "test-qiskit.remote-ibm_perth-1000shots-seed0", 1000)
    (row,) = Ledger().find()
    assert (row.state, row.usage) == ("collected", pytest.approx(cost["qpu_seconds"], abs=0.01))
    assert f"{row.usage:.1f} QPU seconds" in collected.stdout

    again = qhybrid("submit", "run", *ON_MACHINE, "--shots", "1000", "--yes")
    assert "was sent before" in again.stderr
    assert row.short in qhybrid("jobs", "list").stdout
    (listed,) = json.loads(qhybrid("jobs", "list", "--json").stdout)
    assert listed["purpose"] == "evaluation of test, seed 0"
    assert "nothing to collect" in qhybrid("jobs", "collect", "--all").stderr
    assert ran(emulator, before) == (1, N)


def test_eval_waits_and_all_repeats_are_one_job(qhybrid: Command, run: Run, emulator: RunningEmulator) -> None:
    before = emulator.counters()
    emulator.set_faults(queue_seconds=2.0)
    shown = qhybrid("eval", "run", *ON_MACHINE, "--shots", "200", "--repeats", "3", "--limit", "20", "--json")
    assert shown.returncode == 0, shown.stderr
    assert "queued, place 1 in the queue" in shown.stderr
    result = json.loads(shown.stdout)
    assert ran(emulator, before) == (1, N)
    assert (result["n_samples"], result["repeats"], result["device"]["tracker"]["jobs"]) == (20, 3, 1)
    assert result["device"]["calibrations"] == [Ledger().find()[0].calibration_at_submit]
    other = qhybrid("eval", "run", *ON_MACHINE, "--shots", "200", "--repeats", "3", "--limit", "20", "--seed", "1")
    assert other.returncode == 0, other.stderr
    assert ran(emulator, before) == (2, 120)


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


@pytest.mark.slow  # test_devices_runtime_kills.py kills the same processes without the command line
@pytest.mark.parametrize("state", ["prepared", "submitting", "queued", "running", "done"])
def test_submit_is_killed_the_server_restarted_and_another_process_collects(
    qhybrid: Command, run: Run, emulator: RunningEmulator, state: str
) -> None:
    before = emulator.counters()
    emulator.set_faults(queue_seconds=0.3, run_seconds=0.3)
    ledger = Ledger()
    process = start(run, emulator, "submit", "run", *ON_MACHINE, "--shots", "1000", "--yes", "--wait")
    until(lambda: process.poll() is not None or any(row.state == state for row in ledger.find()))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    emulator.set_faults(queue_seconds=0.0, run_seconds=0.0)
    emulator.restart()
    collected = qhybrid("jobs", "collect", "--all", "--wait")
    assert collected.returncode == 0, collected.stderr
    check_against_aer(run, "test-qiskit.remote-ibm_perth-1000shots-seed0", 1000)
    assert ran(emulator, before) == (1, N)


def test_ctrl_c_leaves_the_job_and_says_how_to_collect_it(
    qhybrid: Command, run: Run, emulator: RunningEmulator
) -> None:
    before = emulator.counters()
    emulator.set_faults(queue_seconds=60.0)
    process = start(run, emulator, "eval", "run", *ON_MACHINE, "--shots", "100")
    assert process.stderr is not None
    while "in the queue" not in (line := process.stderr.readline()):
        assert line, "eval ended before it waited"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    (row,) = Ledger().find()
    assert process.returncode == 130
    assert said.endswith(f"goes on without this process: `qhybrid jobs collect {row.short}` collects it\n")
    early = qhybrid("jobs", "collect", row.short)
    assert early.returncode == 1
    assert "is queued on ibm_perth" in early.stderr
    emulator.set_faults(queue_seconds=0.0)
    assert qhybrid("jobs", "collect", row.short, "--wait").returncode == 0
    assert ran(emulator, before) == (1, N)


def test_cancel_and_forget(qhybrid: Command, run: Run, emulator: RunningEmulator) -> None:
    emulator.set_faults(queue_seconds=30.0)
    assert qhybrid("submit", "run", *ON_MACHINE, "--shots", "10", "--yes").returncode == 0
    (row,) = Ledger().find()
    refused = qhybrid("jobs", "forget", row.short)
    assert refused.returncode == 2
    assert f"job {row.short} is queued: " in refused.stderr
    assert "cancelled" in qhybrid("jobs", "cancel", row.short).stdout
    failed = qhybrid("jobs", "collect", row.short)
    assert failed.returncode == 1
    assert "was cancelled" in failed.stderr
    assert json.loads(qhybrid("jobs", "show", row.short).stdout)["state"] == "cancelled"
    assert qhybrid("jobs", "forget", row.short).stdout == f"{row.short}: forgotten\n"
    assert qhybrid("jobs", "list").stdout.startswith("no jobs in ")


def test_a_price_and_a_budget(qhybrid: Command, run: Run, tmp_path: Path, emulator: RunningEmulator) -> None:
    before = emulator.counters()
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "fez.toml").write_text(
        'driver = "runtime"\nshots = 100\n[options]\nbackend = "ibm_perth"\nlayout_seeds = 2\n'
        'price_per_second = 1.5\ncurrency = "EUR"\nbudget_seconds = 5.0\n'
    )
    shown = qhybrid("estimate", "run", "--device", "fez")
    assert "about 5.27 EUR at 1.5 EUR a second" in shown.stdout
    assert qhybrid("submit", "run", "--device", "fez", "--yes", "--wait").returncode == 0
    over = qhybrid("submit", "run", "--device", "fez", "--yes", "--seed", "1")
    assert over.returncode == 2
    assert "would exceed budget_seconds = 5: 4 are spent or on their way" in over.stderr
    assert len(Ledger().find()) == 1
    assert ran(emulator, before) == (1, N)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("submit", "run"), "give the machine: --backend NAME"),
        (("submit", "run", *ON_MACHINE, "--max-seconds", "3", "--yes"), "over --max-seconds 3; nothing was sent"),
        (("submit", "run", "--backend", "ibm_perh", "--yes"), "no backend 'ibm_perh'; did you mean 'ibm_perth'"),
        (("submit", "run", "--backend", "ibm_torino", "--yes"), "IBM had one, and may have retired it"),
        (("submit", "run", *ON_MACHINE, "--shots", "200000", "--yes"), "ibm_perth takes at most 100000"),
        (("submit", "run", *ON_MACHINE, "--limit", "1", "--yes"), "limit = 1: at least 2 samples"),
        (("submit", "run", *ON_MACHINE, "--split", "tset", "--yes"), "unknown split 'tset'; did you mean 'test'"),
        (("submit", "run", *ON_MACHINE, "--device", "qiskit.aer"), "qiskit.aer takes no backend"),
        (("submit", "run", "--device", "qhybrid.statevector"), "qhybrid.statevector is no machine"),
        (("submit", "nowhere", *ON_MACHINE), "run folder 'nowhere' does not exist"),
        (("estimate", "run", "--backend", "ibm_perth", "--noise", "ibm_fez"), "give the machine"),
        (("estimate", "run", "--device", "lightning.qubit"), "lightning.qubit is no machine of IBM"),
        (("estimate", "sda_qec", "--backend", "ibmq_lima"), "'sda_qec' has 8 qubits; ibmq_lima has 5"),
        (("jobs", "collect"), "which job? none is open"),
        (("jobs", "collect", "abc"), "unknown job 'abc'"),
        (("jobs", "list", "--state", "quued"), "did you mean 'queued'"),
    ],
)
def test_wrong_input_is_one_line_and_sends_nothing(
    qhybrid: Command, run: Run, emulator: RunningEmulator, words: tuple[str, ...], message: str
) -> None:
    before = emulator.counters()
    shown = qhybrid(*words)
    assert shown.returncode == 2
    assert message in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith("error: ")
    assert not Ledger().find()
    assert not list(run.path.glob("results/*"))
    assert ran(emulator, before) == (0, 0)


def test_a_circuit_that_will_not_survive_needs_force(
    qhybrid: Command, run: Run, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for threshold in ("SURVIVES", "PARTLY"):
        monkeypatch.setattr(f"qhybrid.circuits.isa.{threshold}", 0.999)
    refused = qhybrid("submit", "run", *ON_MACHINE, "--shots", "10", "--yes")
    assert refused.returncode == 2
    assert "almost no signal; nothing was sent: --force" in refused.stderr
    assert not Ledger().find()
    assert qhybrid("submit", "run", *ON_MACHINE, "--shots", "10", "--yes", "--force").returncode == 0


def test_a_run_that_was_moved_or_changed(qhybrid: Command, run: Run, tmp_path: Path) -> None:
    assert qhybrid("submit", "run", *ON_MACHINE, "--shots", "50", "--yes").returncode == 0
    run.path.rename(tmp_path / "elsewhere")
    gone = qhybrid("jobs", "collect", "--wait")
    assert gone.returncode == 2
    assert "is gone; the raw result is kept: give the folder with --run" in gone.stderr
    (row,) = Ledger().find()
    assert row.state == "collected"
    found = qhybrid("jobs", "collect", row.short, "--run", "elsewhere")
    assert found.returncode == 0, found.stderr
    other = small_run(tmp_path / "others", seed=4)
    wrong = qhybrid("jobs", "collect", row.short, "--run", str(other.path))
    assert wrong.returncode == 2
    assert "is not as it was when job" in wrong.stderr


def test_a_new_calibration_is_said(qhybrid: Command, run: Run, emulator: RunningEmulator) -> None:
    assert qhybrid("submit", "run", *ON_MACHINE, "--shots", "50", "--yes").returncode == 0
    emulator.set_faults(calibration_date="2026-01-02T03:04:05+00:00")
    collected = qhybrid("jobs", "collect", "--wait")
    assert "calibrated anew between submission and result: 2024-05-27T15:17 and 2026-01-02T03:04" in collected.stdout


def test_no_account_says_how_to_get_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("QISKIT_IBM")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(
        "qiskit_ibm_runtime.accounts.management._DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(tmp_path / "none.json")
    )
    shown = runner(monkeypatch, capfd, tmp_path)("submit", "run", "--backend", "ibm_perth")
    assert shown.returncode == 2
    assert "save_account" in shown.stderr
    assert "`qhybrid emulator` needs none" in shown.stderr


def test_the_token_is_in_no_file_and_no_output(
    qhybrid: Command, run: Run, tmp_path: Path, emulator: RunningEmulator
) -> None:
    assert os.environ["QISKIT_IBM_TOKEN"] == TOKEN
    answers: list[Answer] = [
        qhybrid("estimate", "run", *ON_MACHINE),
        qhybrid("submit", "run", *ON_MACHINE, "--shots", "10", "--yes", "--wait"),
        qhybrid("submit", "run", "--backend", "ibm_perh", "--yes"),
    ]
    emulator.set_faults(fail_jobs=1)
    answers.append(qhybrid("eval", "run", *ON_MACHINE, "--shots", "10", "--seed", "7"))
    assert [answer.returncode for answer in answers] == [0, 0, 2, 1]
    answers += [qhybrid("jobs", "list", "--json"), qhybrid("jobs", "show", Ledger().find()[0].tag)]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 20
    for content in (*(answer.stdout + answer.stderr for answer in answers),):
        assert TOKEN not in content
    for path in files:
        assert TOKEN.encode() not in path.read_bytes(), path


def test_a_terminal_gets_one_live_line() -> None:
    row = JobRow(backend="ibm_perth", circuit="c", settings={}, layout={}, digest="d", circuits=1, shots=1, job_id="j1")
    heard = io.StringIO()
    with StatusLine(Console(file=heard, force_terminal=True, width=100)) as status:
        status(Waiting([replace(row, state="queued")], 65.0, 3, "[cut] short"))
        time.sleep(0.2)
    assert "job j1 on ibm_perth: queued, place 3 in the queue ([cut] short; the job goes on), 1:05" in heard.getvalue()
