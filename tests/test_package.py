"""What a wheel holds: the package and the four catalogs inside it, and nothing else at the top."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from qhybrid import catalog

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


def test_a_wheel_installs_qhybrid_only_and_ships_the_catalogs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"qhybrid", "qhybrid-0.1.0.dist-info"}
    for kind in catalog.KINDS:
        for path in catalog.entries(kind).values():
            assert f"qhybrid/shipped/{kind}/{path.name}" in names


def test_an_installed_wheel_finds_its_catalogs_anywhere(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import qhybrid; print(qhybrid.__file__);"
        "print(qhybrid.load_circuit('sda_qec').n_features)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()
    assert shown == [str(tmp_path / "site" / "qhybrid" / "__init__.py"), "256"]
