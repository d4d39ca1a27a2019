"""The command line inside the tests' process: the same code without five seconds of imports each time."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from qhybrid.cli import main


@dataclass
class Answer:
    """What a command left: exit code, standard output, standard error."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Answer]


def runner(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path | None = None) -> Command:
    """A function that runs one command line in a folder, which may be given with each call as `cwd`."""

    def run(*arguments: str, cwd: Path | None = folder) -> Answer:
        assert cwd is not None
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["qhybrid", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return Answer(int(left.value.code or 0), *capfd.readouterr())

    return run
