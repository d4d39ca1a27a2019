"""How commands print results."""

from pathlib import Path

import pytest
from rich.table import Table

from qhybrid.cli.results import print_result


def test_paths_are_printed_as_they_are_and_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("runs [red]", *["long"] * 50)
    print_result(Table(), ["median [0.1, 0.2]"], run=folder, results=folder / "a.json")
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "median [0.1, 0.2]",
        f"run      {folder}",
        f"results  {folder / 'a.json'}",
    ]
