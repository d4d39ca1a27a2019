"""The first thing that a user runs, in full: minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_quickstart_learns_to_see_a_stenosis(tmp_path: Path) -> None:
    shown = subprocess.run(
        [str(Path(sys.executable).parent / "qhybrid"), "train", "--device", "lightning.qubit", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    result = json.loads(shown.stdout)
    assert result["n_samples"] == 120
    assert result["metrics"]["accuracy"]["value"] >= 0.85
    assert result["metrics"]["auc"]["value"] >= 0.95
