"""What a result was obtained with: versions, commit, machine. No credential, no environment variable."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "lightly",
    "pennylane",
    "pennylane-lightning",
    "pennylane-qiskit",
    "qiskit",
    "qiskit-aer",
    "qiskit-ibm-runtime",
    "numpy",
    "scipy",
    "scikit-learn",
)


def describe_environment(*, seed: int) -> dict[str, Any]:
    """Describe this process for `environment.json`.

    Args:
        seed: The seed of the run.

    Returns:
        A JSON object: command, seed, versions, git commit of this checkout, machine.
    """
    import torch

    return {
        "command": command_line(),
        "seed": seed,
        "versions": package_versions(),
        "git": git_commit(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def package_versions() -> dict[str, str | None]:
    """Versions of Python, qhybrid and what its numbers depend on; None for a package that is missing."""
    from qhybrid import __version__

    return {"python": platform.python_version(), "qhybrid": __version__} | {
        package: _installed(package) for package in PACKAGES
    }


def git_commit() -> str | None:
    """Commit of the checkout that this code runs from, `-dirty` if files changed; None outside a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():  # an installed package may lie inside somebody else's repository
        return None
    commit = _git(checkout, "rev-parse", "HEAD")
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if commit and changed else commit


def command_line() -> str:
    """The command that runs, as it can be pasted into a shell."""
    program = Path(sys.argv[0] or "python")
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
