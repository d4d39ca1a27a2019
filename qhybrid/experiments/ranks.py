"""A training in several processes: how many there can be, which one this is, and how they are started and watched.

Lightning lets them train together. Processes of several computers are started by srun or torchrun, which Lightning
finds by its cluster environments; those of this computer are started here, one for each device, as torchrun would.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from qhybrid.errors import InputError, QHybridError
from qhybrid.experiments.executors import usable_cores
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import TrainSpec
from qhybrid.experiments.training_module import Diverged
from qhybrid.storage import read_json

TOLD = {"InputError": InputError, "Diverged": Diverged, "QHybridError": QHybridError}
"""Errors that are sentences to the user wherever they happen."""
LOOK = 0.05
"""Seconds between two looks at the processes."""


def cluster_environment(spec: TrainSpec) -> Any | None:
    """What Lightning knows about the processes that srun, torchrun or MPI started; None: this is the only one.

    Raises:
        InputError: They started another number of processes than the settings say.
    """
    from lightning.fabric.plugins import environments

    kinds = ("TorchElasticEnvironment", "SLURMEnvironment", "LSFEnvironment", "MPIEnvironment")
    for kind in (getattr(environments, name) for name in kinds[: None if spec.n_processes > 1 else 1]):
        if kind.detect() and (started := kind().world_size()) > 1:
            if started != spec.n_processes:
                raise InputError(
                    f"train.devices x train.nodes = {spec.devices} x {spec.nodes}, but srun or torchrun has started "
                    f"{started} processes: give as many"
                )
            return kind()
    return None


def this_rank(spec: TrainSpec) -> int:
    """Number of this process among those that train together; 0 leads, and writes all files."""
    environment = cluster_environment(spec)
    return 0 if environment is None else int(environment.global_rank())


def starts_processes(spec: TrainSpec) -> bool:
    """Whether this process has to start those that train, instead of being one of them."""
    return spec.n_processes > 1 and cluster_environment(spec) is None


def check_processes(spec: TrainSpec, *, gpu: bool) -> None:
    """Look at whether so many processes can train together here.

    Raises:
        InputError: There are fewer GPUs or cores, too few images in a step, or nobody has started the other nodes'.
    """
    external = cluster_environment(spec) is not None
    if spec.n_processes == 1:
        return
    here, what = (torch.cuda.device_count(), "GPUs") if gpu else (usable_cores(), "CPU cores")
    if spec.devices > here:
        raise InputError(f"train.devices = {spec.devices}: this computer has no more {what} than {here}")
    if spec.nodes > 1 and not external:
        raise InputError(
            f"train.nodes = {spec.nodes}: start `qhybrid train` by srun or torchrun, once for each of {spec.devices} "
            "devices of each node (experiments/README.md)"
        )
    if spec.batch_size < 2 * spec.n_processes:
        raise InputError(
            f"train.batch_size = {spec.batch_size}: {spec.n_processes} processes share it, and batch normalisation "
            f"needs two images in each: at least {2 * spec.n_processes}"
        )


def run_ranks(run: Run, console: Console) -> None:
    """Start a process for each device, and wait until they have trained the run.

    If one fails, or this process is stopped, all are ended.

    Args:
        run: Has its data and circuit, and its last checkpoint if it goes on.
        console: Progress goes to standard error if that is where the console writes, else nowhere.

    Raises:
        QHybridError: A process failed; with its message.
    """
    n = run.spec.train.devices
    shown = console.file in (sys.stderr, sys.__stderr__)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        reports = [Path(folder) / f"{rank}.json" for rank in range(n)]
        common = os.environ | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "TORCHELASTIC_RUN_ID": run.path.name,
            "WORLD_SIZE": str(n),
            "LOCAL_WORLD_SIZE": str(n),
            "GROUP_RANK": "0",
            "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // n)),
        }
        processes = []
        for rank, report in enumerate(reports):
            program = [sys.executable, "-m", "qhybrid.experiments.rank", str(run.path.resolve()), str(report)]
            process = subprocess.Popen(
                [*program, str(os.getpid())],
                env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.DEVNULL,
                stderr=None if shown else subprocess.DEVNULL,
            )
            stack.callback(_end, process)
            processes.append(process)
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                time.sleep(LOOK)  # for the reports of those that fail together
                break
            time.sleep(LOOK)
        codes = [process.poll() for process in processes]
        if any(codes):
            raise _failure(codes, reports, console)


def _failure(codes: Sequence[int | None], reports: Sequence[Path], console: Console) -> QHybridError:
    """Why the processes ended: what one of them can tell goes before a kill, and that before a lost connection."""
    failed = [rank for rank, code in enumerate(codes) if code]
    told = {rank: read_json(reports[rank]) for rank in failed if reports[rank].is_file()}
    for report in told.values():
        if report["kind"] in TOLD:
            return TOLD[report["kind"]](report["message"])
    rank = next((rank for rank in failed if rank not in told), failed[0])
    which = f"process {rank + 1} of {len(codes)}"
    if rank in told:
        console.print(told[rank]["traceback"], highlight=False, markup=False, soft_wrap=True)
        return QHybridError(f"{which} of the training failed: {told[rank]['message']}")
    code = codes[rank]
    how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with code {code}"
    return QHybridError(f"{which} of the training {how}; the others were stopped")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Lightning would wait for the others before it obeys SIGTERM, and all files are written in one piece."""
    process.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
