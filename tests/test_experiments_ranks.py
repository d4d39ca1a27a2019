"""Several processes that train together: who takes which images, what is refused, what a death leaves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import experiment, metrics, quiet, write_images

from qhybrid.devices.statevector import StatevectorDevice
from qhybrid.errors import InputError, QHybridError
from qhybrid.experiments import ranks
from qhybrid.experiments.batches import EpochOrder, SharedBatches
from qhybrid.experiments.ranks import check_processes, this_rank
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import list_runs, open_run
from qhybrid.experiments.spec import ExperimentSpec, TrainSpec, experiment_toml, load_experiment, override
from qhybrid.experiments.study_arms import differences, study_hash
from qhybrid.experiments.training import train
from qhybrid.experiments.training_module import Diverged
from qhybrid.storage import write_json

QHYBRID = str(Path(sys.executable).parent / "qhybrid")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
EXACT = {"device__name": "qhybrid.statevector", "device__diff_method": "best", "device__shots": "none"}


@given(
    n_processes=st.integers(2, 5), batch_size=st.integers(10, 20), n_images=st.integers(10, 90), epoch=st.integers(0, 3)
)
def test_every_image_is_seen_once_an_epoch_by_one_of_the_processes(
    n_processes: int, batch_size: int, n_images: int, epoch: int
) -> None:
    parts = []
    for rank in range(n_processes):
        order = EpochOrder(n_images, seed=1)
        order.set_epoch(epoch)
        shared = SharedBatches(order, batch_size, rank, n_processes)
        parts.append(list(shared))
        assert len(shared) == len(parts[-1]) == len(parts[0])
    alone = list(order)
    together = [list(chain(*step)) for step in zip(*parts, strict=True)]
    assert sorted(chain(*together)) == sorted(alone) == list(range(epoch * n_images, (epoch + 1) * n_images))
    assert all(len(part) >= 2 for part in chain(*parts))
    sizes = [[len(part) for part in step] for step in zip(*parts, strict=True)]
    assert all(max(step) - min(step) <= 1 for step in sizes)
    for number, step in enumerate(together[:-1]):  # as in a single process
        assert sorted(step) == sorted(alone[number * batch_size : (number + 1) * batch_size])


def test_one_process_is_named_as_before_and_equals_runs_without_the_keys() -> None:
    spec = load_experiment("quickstart")
    text = experiment_toml(spec)
    assert not {"devices", "nodes", "strategy"} & {line.split(" = ")[0] for line in text.splitlines()}
    asked = load_experiment("quickstart", {"train.devices": 1, "train.nodes": 1, "train.strategy": "ddp"})
    assert experiment_toml(asked) == text
    assert study_hash(asked) == study_hash(spec)
    two = load_experiment("quickstart", {"train.devices": 2})
    assert 'devices = 2\nnodes = 1\nstrategy = "auto"' in experiment_toml(two)
    assert differences([spec, two]) == {"train.devices": [1, 2]}


def elsewhere(patch: pytest.MonkeyPatch, *, rank: int, n_processes: int) -> None:
    """As if torchrun had started this process."""
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "RANK": rank, "WORLD_SIZE": n_processes, "LOCAL_RANK": 0}.items():
        patch.setenv(name, str(value))


def test_what_cannot_train_together_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "usable_cores", lambda: 4)
    for settings, said in (
        ({"devices": 5}, r"train.devices = 5: this computer has no more CPU cores than 4$"),
        ({"devices": 2, "nodes": 2}, "train.nodes = 2: start `qhybrid train` by srun or torchrun, once for each of 2"),
        ({"devices": 4, "batch_size": 7}, "train.batch_size = 7: 4 processes share it.* at least 8"),
    ):
        with pytest.raises(InputError, match=said):
            check_processes(TrainSpec(**settings), gpu=False)
    check_processes(TrainSpec(devices=4, batch_size=8), gpu=False)
    with pytest.raises(InputError, match=r"train.devices = 99: this computer has no more GPUs than \d+$"):
        check_processes(TrainSpec(devices=99, batch_size=999), gpu=True)
    with pytest.raises(InputError, match=r"'train.strategy': unknown strategy 'dpd'; did you mean 'ddp'\?"):
        override(ExperimentSpec(), {"train.strategy": "dpd"})
    elsewhere(monkeypatch, rank=3, n_processes=4)
    assert this_rank(TrainSpec(devices=2, nodes=2)) == 3
    check_processes(TrainSpec(devices=2, nodes=2), gpu=False)
    for settings in ({"devices": 2}, {}):
        with pytest.raises(InputError, match=r"but srun or torchrun has started 4 processes: give as many"):
            check_processes(TrainSpec(**settings), gpu=False)


def test_too_few_images_and_devices_that_send_jobs_are_refused_before_there_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "usable_cores", lambda: 4)
    few = write_images(tmp_path / "few.npz", n_training=5, n_validation=3)
    for n, said in ((3, "3 processes .* need 6 train images, not 5"), (2, "2 processes .*, but .* sends jobs")):
        spec = experiment(few, **EXACT, train__devices=n, train__batch_size=8, train__accelerator="cpu")
        if n == 2:
            for name in ("run_name", "purpose", "close"):
                monkeypatch.setattr(StatevectorDevice, name, "", raising=False)
        with pytest.raises(InputError, match=said):
            train(spec, out=tmp_path / "runs", console=quiet())
    assert not (tmp_path / "runs").exists()


def test_the_process_that_failed_is_told_and_not_those_that_lost_it(tmp_path: Path) -> None:
    reports = [tmp_path / "0.json", tmp_path / "1.json"]
    write_json(reports[0], {"kind": "RuntimeError", "message": "RuntimeError: connection closed", "traceback": "..."})
    killed = ranks._failure([1, -signal.SIGKILL], reports, quiet())
    assert str(killed) == "process 2 of 2 of the training was ended by SIGKILL; the others were stopped"
    write_json(reports[1], {"kind": "Diverged", "message": "the training diverged", "traceback": "..."})
    assert isinstance(ranks._failure([1, 1], reports, quiet()), Diverged)
    alone = ranks._failure([1, None], [reports[0], tmp_path / "none"], quiet())
    assert type(alone) is QHybridError
    assert str(alone) == "process 1 of 2 of the training failed: RuntimeError: connection closed"


def written(tmp_path: Path, **settings: Any) -> Path:
    """An experiment for two processes as a file."""
    images = write_images(tmp_path / "images.npz", n_training=21, n_validation=9)
    told = {"train__devices": 2, "train__accelerator": "cpu", "train__batch_size": 8, "train__epochs": 3}
    path = tmp_path / "tiny.toml"
    path.write_text(experiment_toml(experiment(images, **(EXACT | told | settings))), encoding="utf-8")
    return path


def qhybrid(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [QHYBRID, *arguments], cwd=folder, env=ONE_THREAD, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def succeeds(process: "subprocess.Popen[str]") -> None:
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told


def until(reached: Callable[[], Any]) -> Any:
    for _ in range(1200):
        if found := reached():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def weights(run: Run) -> bytes:
    return (run.path / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_train_one_run_which_ends_as_that_of_one_does(tmp_path: Path) -> None:
    """VGG16 has no batch normalisation, whose means are those of each process's images: nothing else may differ."""
    path = written(tmp_path, model__backbone="vgg16", train__epochs=2, train__learning_rate=1e-4)
    process = qhybrid(tmp_path, "train", str(path), "--strategy", "ddp")
    shown, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert [line.split()[1] for line in told.splitlines()] == ["1/2", "2/2"]
    assert shown.count("test split") == 1
    (run,) = list_runs(tmp_path / "runs")
    assert run.state == "complete"
    one = train(override(load_experiment(str(path)), {"train.devices": 1}), out=tmp_path / "one", console=quiet())
    ours, theirs = metrics(run), metrics(one)
    for mine, single in zip(ours, theirs, strict=True):
        assert [float(value) for value in mine.values()] == pytest.approx([float(v) for v in single.values()], abs=1e-4)
    best = min(float(row["validation_loss"]) for row in ours)
    stored = run.features("validation")
    with torch.no_grad():
        logits = run.load_head()(torch.from_numpy(stored.features))
    assert float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(stored.labels))) == pytest.approx(
        best, abs=1e-5
    )
    np.testing.assert_allclose(stored.features, one.features("validation").features, atol=1e-3)


@pytest.mark.slow
def test_a_process_that_dies_ends_all_and_the_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = qhybrid(tmp_path, "train", str(path), "--out", "whole")
    succeeds(whole)
    cut = qhybrid(tmp_path, "train", str(path), "--out", "cut")
    until(lambda: list(tmp_path.glob("cut/tiny/*/checkpoints/last.ckpt")))
    children = psutil.Process(cut.pid).children()
    assert len(children) == 2
    children[1].kill()
    _, told = cut.communicate(timeout=60)
    assert cut.returncode == 1
    assert told.endswith("error: process 2 of 2 of the training was ended by SIGKILL; the others were stopped\n")
    assert not any(child.is_running() for child in children)
    (run,) = list_runs(tmp_path / "cut")
    assert (run.state, "SIGKILL" in run.status["message"]) == ("failed", True)
    resumed = qhybrid(tmp_path, "train", "--resume", str(run.path))
    succeeds(resumed)
    (other,) = list_runs(tmp_path / "whole")
    assert weights(open_run(run.path)) == weights(other)
    assert metrics(run) == metrics(other)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, -15), (signal.SIGINT, 130)])
def test_no_process_outlives_the_command(tmp_path: Path, sent: int, code: int) -> None:
    path = written(tmp_path, train__epochs=10000, train__patience=0)
    process = qhybrid(tmp_path, "train", str(path))
    until(lambda: list(tmp_path.glob("runs/tiny/*/checkpoints/last.ckpt")))
    children = psutil.Process(process.pid).children()
    process.send_signal(sent)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    until(lambda: not any(child.is_running() for child in children))
    (run,) = list_runs(tmp_path / "runs")
    if sent == signal.SIGINT:
        assert f"error: interrupted; go on with `qhybrid train --resume {run.path.relative_to(tmp_path)}`" in told
    assert run.state == ("failed" if sent == signal.SIGINT else "running")


@pytest.mark.slow
def test_processes_that_torchrun_started_on_two_nodes_end_as_those_of_one_do(tmp_path: Path) -> None:
    path = written(tmp_path, train__epochs=2)
    here = qhybrid(tmp_path, "train", str(path), "--out", "here")
    succeeds(here)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", "--nnodes", "2"]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(port), "--no-python"]
    command = [QHYBRID, "train", str(path), "--devices", "1", "--nodes", "2", "--out", "there", "--json"]
    nodes = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(node), *command],
            cwd=tmp_path, env=ONE_THREAD, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for node in (0, 1)
    ]  # fmt: skip
    shown = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], shown
    assert json.loads(shown[0][0])["experiment"] == "tiny"
    assert shown[1][0] == ""
    (one,), (other,) = list_runs(tmp_path / "here"), list_runs(tmp_path / "there")
    assert weights(one) == weights(other)
    assert metrics(one) == metrics(other)
