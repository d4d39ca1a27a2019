"""The Dask cluster of experiments/README.md: the job scripts of Slurm and PBS, and tasks that run in such jobs."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue, of the extra `cluster`")

README = (Path(__file__).parents[1] / "experiments" / "README.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"## On a cluster\n.*?```python\n(.*?)```", README, re.DOTALL)
SUBMIT = {"SLURMCluster": ("sbatch", "scancel"), "PBSCluster": ("qsub", "qdel")}


def program(cluster: str) -> str:
    return PROGRAM.replace("SLURMCluster", cluster)


def in_a_process(code: str, folder: Path) -> subprocess.Popen[str]:
    """A Python process of its own, which finds first what is in `bin` of its folder, and can import this file."""
    path = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | path, text=True, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize(
    ("cluster", "asked"),
    [
        ("SLURMCluster", ["#SBATCH -p compute", "#SBATCH -A ours", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=32G"]),
        ("PBSCluster", ["#PBS -q compute", "#PBS -A ours", "#PBS -l select=1:ncpus=8:mem=32GB"]),
    ],
)
def test_the_readme_asks_for_jobs_of_workers_with_one_thread(cluster: str, asked: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    made, _ = program(cluster).split("cluster.adapt")
    with in_a_process(f"{made}\nprint(cluster.job_script())", folder) as process:
        assert process.stdout is not None
        script = process.stdout.read()
    lines = script.splitlines()
    assert process.returncode == 0
    assert set(asked) < set(lines)
    assert any(line.endswith("04:00:00") for line in lines)
    assert f"cd {shlex.quote(str(folder))}" in lines
    assert "export OMP_NUM_THREADS=1" in lines
    (worker,) = (line for line in lines if "dask_worker" in line)
    assert worker.startswith(sys.executable)
    for option in ("--nthreads 1 ", "--nworkers 8 ", "--memory-limit 4.00GiB ", "--lifetime 230m"):
        assert option in worker


def square(number: int) -> tuple[int, str, str | None]:
    return number * number, os.getcwd(), os.environ.get("OMP_NUM_THREADS")


@pytest.mark.slow
@pytest.mark.parametrize("cluster", list(SUBMIT))
def test_tasks_run_in_the_jobs_that_the_readme_starts(cluster: str, tmp_path: Path) -> None:
    """A queue that starts every job at once, on this computer, stands in for Slurm and PBS."""
    from qhybrid.experiments.executors import Executor

    (tmp_path / "bin").mkdir()
    submit, cancel = SUBMIT[cluster]
    script = f'cp "$1" "{tmp_path}/job$$"; setsid bash "{tmp_path}/job$$" >/dev/null 2>&1 & echo $!'
    for name, line in ((submit, script), (cancel, 'for job in "$@"; do kill -- "-$job"; done')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    small = program(cluster).replace("cores=8", "cores=2").replace("processes=8", "processes=2")
    small = small.replace("32GiB", "2GiB").replace("_jobs=4", "_jobs=1").replace("workers(8)", "workers(2)")
    with in_a_process(small, tmp_path) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("tcp://")
            found = sorted(Executor("dask", scheduler=address).run(square, [1, 2, 3]))
        finally:
            process.send_signal(signal.SIGINT)
    assert found == [(number, (value, str(tmp_path), "1")) for number, value in enumerate((1, 4, 9))]
