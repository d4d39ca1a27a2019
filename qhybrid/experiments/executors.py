"""Where tasks run: here, in processes of this computer, or on a Dask cluster. The results do not depend on it.

joblib runs them in any case; with one thread a task, because sums are taken in another order by several.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from qhybrid.devices.base import check_choice
from qhybrid.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")

EXECUTORS = ("serial", "processes", "dask")


@dataclass(frozen=True)
class Executor:
    """Where tasks run.

    Args:
        kind: `serial`, `processes` or `dask`.
        workers: Processes of this computer; None: as many as the cores that this process may use.
        scheduler: Address of a Dask scheduler that runs already, such as `tcp://node:8786`, whose workers need this
            package and see the same folders; None: start a cluster of this computer.

    Raises:
        InputError: There is no such kind, or Dask is not installed.
    """

    kind: str = "serial"
    workers: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        check_choice("--executor", "executor", self.kind, EXECUTORS)
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers = {self.workers}: at least 1 is needed")
        if self.kind == "dask":
            try:
                import distributed  # noqa: F401
            except ImportError:
                raise InputError("Dask is not installed: pip install 'qhybrid[cluster]'") from None

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Run a function on every task. A worker that is lost costs its own tasks only: others do them again.

        Args:
            function: Of a module, so that other processes can import it.
            tasks: Its arguments.

        Returns:
            Number and result of each task, as they are done. An error of a task ends all.
        """
        from joblib import Parallel, delayed, parallel_config

        if not tasks:
            return
        backends = {"serial": "sequential", "processes": "loky", "dask": "dask"}
        cluster: AbstractContextManager[Any] = self._cluster() if self.kind == "dask" else nullcontext()
        n_jobs = {"serial": 1, "processes": self.workers or -1, "dask": -1}[self.kind]
        with cluster, parallel_config(backends[self.kind], n_jobs=n_jobs):
            parent = os.getpid() if self.kind == "processes" else None
            jobs = (delayed(_on_one_thread)(function, number, task, parent) for number, task in enumerate(tasks))
            yield from Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(jobs)

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        """The cluster as joblib's: it finds the client of this thread."""
        from distributed import Client, LocalCluster

        if self.scheduler is not None:
            try:
                client = Client(self.scheduler, timeout="10s")
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise InputError(f"no Dask scheduler at {self.scheduler!r} ({reason})") from None
            with client:
                yield
            return
        local = LocalCluster(
            n_workers=self.workers or usable_cores(), threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        )
        with local, Client(local):
            yield


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_one_thread(
    function: Callable[[Task], Result], number: int, task: Task, parent: int | None
) -> tuple[int, Result]:
    import torch
    from threadpoolctl import threadpool_limits

    if parent not in (None, os.getpid()):  # joblib takes no other process for a single worker
        die_with(parent)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return number, function(task)
    finally:
        torch.set_num_threads(before)


@cache
def die_with(parent: int | None) -> None:
    """End this process soon after the one that started it was killed: nobody would take what it computes.

    Ctrl-C, which a terminal sends to both, is for the other one, which then ends this one.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    if os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()
