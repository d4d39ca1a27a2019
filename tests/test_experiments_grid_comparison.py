"""A run over a grid of conditions: computed once, the same bits anywhere, taken apart."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import runner
from small_run import copied, small_run

from qhybrid.errors import InputError
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.findings import thresholds
from qhybrid.experiments.grid import Cell, grid, parts_of
from qhybrid.experiments.grid_comparison import compare_runs
from qhybrid.experiments.run_folder import Run
from qhybrid.noise_models.model import PARTS
from qhybrid.statistics import classification_metrics
from qhybrid.storage import read_arrays

DENSITY = ("qhybrid.density",)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(original: Run, tmp_path: Path) -> Run:
    return copied(original, tmp_path / "run")


def few_cells() -> list[Cell]:
    cells, _ = grid(DENSITY, [None, "ibm_torino"], [1.0, 5.0], [None, 64], repeats=3, layout_seeds=1)
    return cells


def arrays(run: Run) -> dict[str, Any]:
    """Every array of every cell."""
    found = {}
    for path in sorted((run.path / "comparison" / "cells").glob("*.npz")):
        names = ("expectation_values", "stderr", "repeated_probabilities")
        found |= {f"{path.name}/{name}": array for name, array in read_arrays(path, names).items()}
    return found


def test_a_grid_has_every_condition_once() -> None:
    cells, left_out = grid(DENSITY, [None, "ibm_torino"], [0, 1], [None, 100], repeats=5)
    assert [(cell.noise, cell.noise_scale, cell.shots, cell.repeats) for cell in cells] == [
        (None, 1, None, 1), (None, 1, 100, 5), ("ibm_torino", 0, None, 1), ("ibm_torino", 0, 100, 5),
        ("ibm_torino", 1, None, 1), ("ibm_torino", 1, 100, 5),
    ]  # fmt: skip
    assert not left_out
    cells, left_out = grid(["lightning.qubit", *DENSITY], ["ibm_torino"], [1], [100], repeats=1)
    assert [cell.device for cell in cells] == ["qhybrid.density"]
    assert left_out == ["lightning.qubit takes no noise model (ibm_torino)"]
    with pytest.raises(InputError, match=r"no cell of the grid can be computed: lightning.qubit takes no noise"):
        grid(["lightning.qubit"], ["ibm_torino"], [1], [100], repeats=1)
    with pytest.raises(InputError, match=r"unknown device 'qhybrid.densty'; did you mean 'qhybrid.density'"):
        grid(["qhybrid.densty"], ["ibm_torino"], [1], [100], repeats=1)
    with pytest.raises(InputError, match="did you mean 'ibm_torino'"):
        grid(DENSITY, ["ibm_turino"], [1], [100], repeats=1)


def test_parts_are_one_at_a_time_and_all_but_one() -> None:
    parts = parts_of([Cell("qhybrid.density", "ibm_torino", 2.0, shots=10), Cell("qhybrid.density")])
    assert len(parts) == 1 + 2 * len(PARTS)
    assert {part.shots for part in parts} == {None}
    assert {len(part.noise_parts) for part in parts if part.noise_parts is not None} == {1, len(PARTS) - 1}


def test_every_cell_is_computed_once_and_measured_rightly(run: Run) -> None:
    first = compare_runs([run], few_cells(), seed=2)
    assert first.computed == 6 + 2 * len(PARTS)
    again = compare_runs([run], few_cells(), seed=2)
    assert again.computed == 0
    assert again.to_dict() == first.to_dict()
    lost = run.path / "comparison" / "cells" / f"{first.cells[3]['key']}.json"
    lost.unlink()  # as if it had been killed
    repaired = compare_runs([run], few_cells(), seed=2)
    assert repaired.computed == 1
    assert [cell["metrics"] for cell in repaired.cells] == [cell["metrics"] for cell in first.cells]

    moved = Run(run.path.rename(run.path.with_name("moved")), run.spec)
    more = compare_runs(
        [moved], [*few_cells(), Cell("qhybrid.density", "ibm_torino", shots=32, layout_seeds=1)], seed=2
    )
    assert more.computed == 1
    assert {cell["run"] for cell in more.cells} == {moved.path.as_posix()}
    assert [each.part for each in more.attributions][-2:] == ["shots 64", "shots 32"]
    moved.path.rename(run.path)

    labels = run.features("test").labels
    for cell in first.cells:
        (probabilities,) = read_arrays(lost.with_name(f"{cell['key']}.npz"), ("repeated_probabilities",)).values()
        assert len(probabilities) == cell["cell"]["repeats"]
        metrics = [classification_metrics(labels, each) for each in probabilities]
        for name, measured in cell["metrics"].items():
            assert measured["value"] == pytest.approx(np.mean([each[name] for each in metrics]), abs=1e-12)
            assert measured["difference"] == pytest.approx(measured["value"] - measured["exact"], abs=1e-12)
            assert measured["interval"][0] <= measured["value"] + 1e-12
    ideal, sampled = first.cells[0], first.cells[1]
    assert ideal["flipped"]["mean"] == 0
    assert ideal["signal"]["slope"] == pytest.approx([1.0] * 4)
    assert sampled["signal"]["rmse"] == pytest.approx([0.12] * 4, abs=0.04)  # sqrt((1 - E^2) / 64)
    strong = next(cell for cell in first.cells if cell["cell"]["noise_scale"] == 5 and cell["cell"]["shots"] is None)
    assert all(0.3 < slope < 0.98 for slope in strong["signal"]["slope"])
    assert all(test["p_holm"] >= test["p"] for cell in first.cells for test in [cell["metrics"]["auc"]])


def test_parts_explain_the_noise(run: Run) -> None:
    compared = compare_runs([run], few_cells())
    found = {each.part: each for each in compared.attributions}
    assert list(found) == ["all parts", *PARTS, "shots 64"]
    whole = found["all parts"].rms_alone
    for part in PARTS:
        assert found[part].rms_alone < whole
        assert found[part].rms_removed is not None
        assert found[part].rms_removed < whole + 1e-3
    assert found["readout"].rms_alone > found["gates1q"].rms_alone
    assert found["shots 64"].rms_alone > whole


def test_thresholds_are_where_the_loss_begins() -> None:
    def cell(scale: float, shots: int, loss: float, *, fine: bool) -> dict[str, Any]:
        metric = {"difference": -loss, "non_inferior": fine}
        place = {"device": "d", "noise": "n", "noise_scale": scale, "shots": shots}
        return {"run": "r", "cell": place, "metrics": {"accuracy": metric, "auc": metric}}

    cells = [cell(1, 100, 0.04, fine=False), cell(1, 1000, 0.01, fine=True), cell(1, 8000, 0.0, fine=True)]
    cells += [cell(2, 1000, 0.05, fine=False), cell(4, 1000, 0.2, fine=False)]
    found = {(each.metric, each.kind, each.at): each.value for each in thresholds(cells, 0.03)}
    assert found["auc", "shots", 1] == 1000
    assert found["auc", "noise scale", 1000] == pytest.approx(1.5)
    assert ("auc", "noise scale", 100) not in found


def test_mitigation_stands_beside_what_it_mitigates(run: Run) -> None:
    cells, _ = grid(
        DENSITY, [None, "ibm_torino"], [3.0], [None, 256], repeats=2, mitigations=["none", "readout,zne"],
        layout_seeds=1,
    )  # fmt: skip
    assert len(cells) == 6
    compared = compare_runs([run], cells, attribute=False)
    exact, sampled = compared.recoveries
    assert (exact.shots, exact.mitigation, exact.shots_factor) == (None, "readout,zne", None)
    assert exact.rms[1] < exact.rms[0] / 2
    assert "expectation values" not in exact.worse_in
    assert sampled.shots_factor is not None
    assert sampled.shots_factor > 3
    assert {each["device"]["mitigation"] for each in compared.cells} == {None, "readout:inverse, zne:linear 1 3 5"}
    with pytest.raises(InputError, match="unknown mitigation 'readuot'; did you mean 'readout'"):
        grid(DENSITY, ["ibm_torino"], [1], [None], repeats=1, mitigations=["readuot"])


@pytest.mark.slow
def test_processes_give_the_same_bits(run: Run, tmp_path: Path) -> None:
    other = copied(run, tmp_path / "other")
    cells, _ = grid(DENSITY, [None, "ibm_torino"], [5.0], [None, 64], repeats=3, adaptations=["head"], layout_seeds=1)
    here = compare_runs([run], cells, attribute=False)
    there = compare_runs([other], cells, attribute=False, executor=Executor("processes", workers=2))
    assert here.computed == there.computed == 7
    assert [each.gain for each in here.recoveries] == [each.gain for each in there.recoveries]
    mine, theirs = arrays(run), arrays(other)
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_each_layout_is_searched_once_before_the_cells_that_run_at_once(run: Run) -> None:
    asked: list[tuple[str, list[Any]]] = []

    class Recording(Executor):
        def run(self, function: Any, tasks: Any) -> Any:
            asked.append((function.__name__, list(tasks)))
            yield from Executor().run(function, tasks)

    cells, _ = grid(DENSITY, [None, "ibm_torino"], [1.0, 2.0], [None, 64], repeats=2, layout_seeds=1)
    compare_runs([run], cells, executor=Recording("processes"))
    (first, searched), (second, computed), *_ = asked
    assert (first, second) == ("prepare_head", "compute_cell")
    assert [task.cell.noise for task in searched] == ["ibm_torino"]
    assert len(computed) > 6


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bits_and_a_lost_worker_changes_nothing(run: Run, tmp_path: Path) -> None:
    import psutil  # type: ignore[import-untyped]
    from distributed import LocalCluster

    other = copied(run, tmp_path / "other")
    compare_runs([run], few_cells())
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        workers = [worker.process.pid for worker in cluster.workers.values()]

        def kill() -> None:
            while len(list((other.path / "comparison" / "cells").glob("*.json"))) < 3:
                time.sleep(0.01)
            os.kill(workers[0], signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        there = compare_runs([other], few_cells(), executor=Executor("dask", scheduler=cluster.scheduler_address))
        killer.join(timeout=10)
        assert not psutil.pid_exists(workers[0]) or psutil.Process(workers[0]).status() == psutil.STATUS_ZOMBIE
    assert there.computed == 6 + 2 * len(PARTS)
    mine, theirs = arrays(run), arrays(other)
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_the_command(run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    command = runner(monkeypatch, capfd, run.path.parent)
    words = ("--noise", "none,ibm_torino", "--shots", "exact,64", "--repeats", "3", "--layout-seeds", "1")
    shown = command("compare", "run", *words, "--executor", "serial")
    assert shown.returncode == 0, shown.stderr
    assert "what costs how much" in shown.stdout
    assert "14 cells computed now" in shown.stdout
    result = json.loads(command("compare", "run", *words, "--json").stdout)
    assert [cell["cell"]["shots"] for cell in result["cells"]] == [None, 64, None, 64]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--shots", "many"), "--shots: 'many' is none; allowed are whole numbers, or `exact`"),
        (("run", "--noise-scale", "a"), "--noise-scale: 'a' is none; allowed are numbers"),
        (("run", "--noise", "ibm_torin"), "did you mean 'ibm_torino'"),
        (("run", "--devices", "lightning.qubit", "--noise", "ibm_torino"), "no cell of the grid can be computed"),
        (("run", "--split", "tset"), "unknown split 'tset'; did you mean 'test'"),
        (("run", "--margin", "0"), "margin = 0: a loss between 0 and 1"),
        (("run", "--executor", "threads"), "unknown executor 'threads'"),
        (("run", "--scheduler", "nowhere"), "no Dask scheduler at 'nowhere'"),
        (("linear",), "has a linear head: no device runs it"),
        (("run", "another"), "runs of different data cannot be compared"),
        (("nothing",), "run folder 'nothing' does not exist"),
    ],
)
def test_wrong_input_is_one_line(
    run: Run,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = run.path.parent
    if "linear" in words:
        shutil.move(small_run(folder / "made", model__head="linear").path, folder / "linear")
    if "another" in words:
        shutil.copytree(run.path, folder / "another")
        text = (folder / "another" / "data.json").read_text()
        (folder / "another" / "data.json").write_text(text.replace('"none"', '"other"'))
    shown = runner(monkeypatch, capfd, folder)("compare", *words)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert message in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
    assert not (run.path / "comparison").exists()
