import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qhybrid.errors import InputError
from qhybrid.experiments.runs import Features, Run, claim, create_run, list_runs, open_run
from qhybrid.experiments.spec import ExperimentSpec, override
from qhybrid.storage import read_arrays, read_json, write_arrays, write_atomically, write_json

SPEC = override(ExperimentSpec(name="study"), {"model.feature_dim": 4})


def _complete_run(root: Path) -> Run:
    run = create_run(SPEC, root)
    data = {"source": "angiography", "fingerprint": "0", "class_names": ["negative", "positive"]}
    write_json(run.path / "data.json", data)
    run.write_features("test", _features())
    run.set_state("complete")
    return run


def _features(**changed: Any) -> Features:
    values = {
        "features": np.ones((3, 4), dtype=np.float32),
        "labels": np.array([0, 1, 1]),
        "ids": np.array(["a", "b", "c"]),
    }
    return Features(**{**values, **changed})


def _snapshot(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": float("nan")})

    def fail(file: Any) -> None:
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(path, fail)
    assert read_json(path) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    program = (
        "import sys; from pathlib import Path; from qhybrid.storage import write_json\n"
        "while True:\n    for n in (1, 2): write_json(Path(sys.argv[1]), {'value': [n] * 200_000})"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, str(path)]) as process:
            while not path.exists():
                time.sleep(0.01)
            time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        assert len(read_json(path)["value"]) == 200_000


def test_arrays_that_need_unpickling_are_neither_written_nor_read(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(TypeError, match="Python objects"):
        write_arrays(tmp_path / "a.npz", {"ids": objects})
    np.savez(tmp_path / "b.npz", ids=objects)
    with pytest.raises(InputError, match=r"b\.npz: damaged"):
        read_arrays(tmp_path / "b.npz", ("ids",))


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    first = _complete_run(tmp_path)
    before = _snapshot(first.path)
    others = [_complete_run(tmp_path) for _ in range(2)]
    assert len({run.path for run in [first, *others]}) == 3
    assert first.path.parent == tmp_path / "study"
    assert _snapshot(first.path) == before
    assert [run.path for run in list_runs(tmp_path)] == [run.path for run in [first, *others]]


def test_the_newest_complete_run_is_opened_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    complete = _complete_run(Path("runs"))
    unfinished = create_run(SPEC, Path("runs"))
    assert open_run().path == complete.path
    assert open_run().spec == SPEC
    assert open_run(incomplete=True).path == unfinished.path


def test_an_incomplete_run_says_how_to_go_on(tmp_path: Path) -> None:
    run = create_run(SPEC, tmp_path)
    with pytest.raises(InputError, match=r"is incomplete \(still running, or killed\); it had not begun: start again"):
        open_run(run.path)
    run.last_checkpoint.parent.mkdir()
    run.last_checkpoint.touch()
    run.set_state("failed", "interrupted")
    with pytest.raises(InputError, match=r"failed: interrupted\); go on with `qhybrid train --resume .*study"):
        open_run(run.path)
    with pytest.raises(InputError, match="no complete run under"):
        open_run(root=tmp_path)


def test_what_is_not_a_run_is_said_to_be_none(tmp_path: Path) -> None:
    run = _complete_run(tmp_path)
    with pytest.raises(InputError, match=r"no run under .* makes one"):
        open_run(root=tmp_path / "nothing")
    with pytest.raises(InputError, match=f"does not exist; did you mean '{run.path.name}'"):
        open_run(run.path.parent / (run.path.name + "x"))
    with pytest.raises(InputError, match="is not a run; it holds runs"):
        open_run(run.path.parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is not a run; it has no status\.json"):
        open_run(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("status.json", "{", "status.json: damaged"),
        ("status.json", '{"state": "half", "created": ""}', "state is 'half'"),
        ("config.toml", "x = ", "config.toml: not valid TOML"),
        ("config.toml", "[train]\nepoch = 3", "unknown key 'train.epoch'; did you mean 'epochs'"),
    ],
)
def test_a_damaged_run_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    run = _complete_run(tmp_path)
    (run.path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        open_run(run.path)
    assert said in str(caught.value)
    assert list_runs(tmp_path) == [] or name == "status.json"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"features": np.ones((3, 5), dtype=np.float32)}, r"float32 \(3, 5\), not float32 \(N, 4\)"),
        ({"features": np.full((3, 4), np.nan, dtype=np.float32)}, "not finite"),
        ({"labels": np.array([0, 1])}, "3 features, 2 labels"),
        ({"labels": np.array([0, 1, 2])}, "labels must run from 0 to 1"),
    ],
)
def test_damaged_features_are_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    run = _complete_run(tmp_path)
    assert run.features("test").ids.tolist() == ["a", "b", "c"]
    run.write_features("test", _features(**changed))
    with pytest.raises(InputError, match=said):
        run.features("test")


def test_truncated_and_missing_features_are_refused(tmp_path: Path) -> None:
    run = _complete_run(tmp_path)
    path = run.path / "features" / "test.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"test\.npz: damaged"):
        run.features("test")
    with pytest.raises(InputError, match=r"train\.npz: does not exist"):
        run.features("train")
    with pytest.raises(InputError, match="unknown split 'tets'; did you mean 'test'"):
        run.features("tets")


def test_a_run_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    run = _complete_run(tmp_path)
    left_over = run.path / "features" / ".test.npz.1.tmp"
    left_over.touch()
    with claim(run):
        assert not left_over.exists()
        with pytest.raises(InputError, match="is being trained by another process"), claim(run):
            pass
    with claim(run):
        pass


def test_the_environment_holds_versions_and_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "marked-secret")
    run = _complete_run(tmp_path)
    environment = read_json(run.path / "environment.json")
    assert environment["seed"] == SPEC.train.seed
    assert environment["versions"]["torch"]
    assert environment["cpu_cores"] == os.cpu_count()
    assert not [path for path, content in _snapshot(run.path).items() if b"marked-secret" in content]
