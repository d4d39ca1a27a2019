"""Where tasks run: here, in processes of this computer, or on a Dask cluster. The results do not depend on it.

joblib runs processes, Dask's own futures a cluster; a task has one thread, because several take sums in another order.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
        if not tasks:
            return
        if self.kind == "dask":
            yield from self._run_on_cluster(function, tasks)
            return
        from joblib import Parallel, delayed

        parent = os.getpid() if self.kind == "processes" else None
        jobs = (delayed(_on_one_thread)(function, number, task, parent) for number, task in enumerate(tasks))
        yield from Parallel(
            n_jobs=(self.workers or -1) if self.kind == "processes" else 1,
            backend="loky" if self.kind == "processes" else "sequential",
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="all",
        )(jobs)

    def _run_on_cluster(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        from distributed import as_completed

        n = len(tasks)
        with self._client() as client:
            futures = client.map(_on_one_thread, [function] * n, range(n), tasks, [None] * n, pure=False)
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                client.cancel(futures)  # of an interrupted call; others have none left

    @contextmanager
    def _client(self) -> Iterator[Any]:
        from distributed import Client, LocalCluster

        if self.scheduler is not None:
            try:
                client = Client(self.scheduler, timeout="10s")
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise InputError(f"no Dask scheduler at {self.scheduler!r} ({reason})") from None
            with client:
                yield client
            return
        local = LocalCluster(
            n_workers=self.workers or usable_cores(), threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        )
        with local, Client(local) as client:
            yield client


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
