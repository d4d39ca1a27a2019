"""Executors: who runs the tasks, and what they are refused for."""

import os

import pytest

from qhybrid.errors import InputError
from qhybrid.experiments.executors import Executor

ITSELF = "/proc/self"
"""A link whose target is the process that reads it."""


def test_serial_tasks_run_here_and_in_order() -> None:
    assert list(Executor().run(os.readlink, [ITSELF] * 3)) == [(number, str(os.getpid())) for number in range(3)]
    assert list(Executor().run(os.readlink, [])) == []


def test_an_error_of_a_task_ends_all() -> None:
    with pytest.raises(FileNotFoundError):
        list(Executor().run(os.readlink, [ITSELF, "/proc/nobody", ITSELF]))


@pytest.mark.parametrize(
    ("kind", "workers", "message"),
    [("slurm", None, "slurm"), ("processes", 0, "workers = 0: at least 1 is needed")],
)
def test_wrong_executors_are_refused(kind: str, workers: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Executor(kind, workers)


@pytest.mark.slow
def test_the_only_worker_of_a_cluster_does_the_work() -> None:
    found = sorted(Executor("dask", 1).run(os.readlink, [ITSELF] * 4))
    assert [number for number, _ in found] == [0, 1, 2, 3]
    assert len({process for _, process in found}) == 1
    assert found[0][1] != str(os.getpid())
    with pytest.raises(FileNotFoundError):
        list(Executor("dask", 1).run(os.readlink, ["/proc/nobody"]))
