"""The rules of the house: who imports whom, what is public, what is installed, how fast help answers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import qhybrid

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qhybrid"

FLOORS = {
    "errors": 0, "catalog": 1, "statistics": 1, "storage": 1,
    "circuits": 2, "data": 2, "noise_models": 3,
    "devices": 4, "emulator": 4, "reference": 4, "gradients": 5, "layer": 6,
    "conformance_checks": 7, "conformance": 8, "bench": 7, "bench_noise": 8, "bench_systems": 8,
    "experiments": 7,
    "report": 8, "cli": 9,
}  # fmt: skip
"""A room imports from its own and from lower floors only."""

TRANSPILE = {
    f"circuits/transpile{part}.py" for part in ("", "_cache", "_folding", "_machine", "_report", "_routing", "_search")
}
QISKIT = TRANSPILE | {
    "circuits/qasm.py", "devices/aer.py", "devices/aer_circuits.py", "layer.py", "bench_noise.py",
} | {f"devices/runtime{part}.py" for part in ("", "_client", "_options", "_program", "_pubs", "_results")}  # fmt: skip
PENNYLANE = {f"devices/pennylane{part}.py" for part in ("", "_noise", "_tapes")} | {"bench.py", "bench_noise.py"}
"""bench.py and bench_noise.py hold the rivals, which are PennyLane's own."""

PUBLIC = [
    "Capabilities", "Circuit", "Device", "Estimates", "InputError", "Program", "QHybridError", "QuantumLayer",
    "__version__", "list_devices", "load_circuit", "load_device",
]  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of everything that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "qhybrid" and len(parts) > 1 and parts[1] in FLOORS else None


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return  # the front door, which opens every room when asked
    assert own in FLOORS, f"{own} has no floor yet"
    for name in imports(path):
        other = room(name)
        if other is not None and other != own:
            assert FLOORS[other] < FLOORS[own], f"{path.relative_to(ROOT)} imports {name} from a floor above it"


@pytest.mark.parametrize(("framework", "allowed"), [("qiskit", QISKIT), ("pennylane", PENNYLANE)])
def test_frameworks_are_imported_in_few_places(framework: str, allowed: set[str]) -> None:
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if any(name.split(".")[0].startswith(framework) for name in imports(path))
    }
    users = (
        {user for user in users if not user.startswith(("noise_models/", "emulator/"))}
        if framework == "qiskit"
        else users
    )
    assert users <= allowed


def test_public_names_are_listed_and_there() -> None:
    assert sorted(PUBLIC) == sorted(qhybrid.__all__)
    for name in PUBLIC:
        assert getattr(qhybrid, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Qlayer'"):
        qhybrid.Qlayer  # noqa: B018


@pytest.mark.parametrize("statement", ["import qhybrid", "import qhybrid.cli"])
def test_light_paths_import_nothing_heavy(statement: str) -> None:
    heavy = ("torch", "pennylane", "qiskit", "lightning", "sklearn", "scipy", "matplotlib", "pydantic", "numpy")
    code = f"import sys; {statement}; print([name for name in {heavy!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_nothing_unpickles_what_a_user_gives() -> None:
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text, path
        assert "weights_only=False" not in text, path
        picklers = {name for name in imports(path) if name.split(".")[0] in ("pickle", "dill", "joblib", "cloudpickle")}
        # joblib sends our own tasks to our own processes; it reads no file.
        sends = {"joblib.Parallel", "joblib.delayed", "joblib.parallel_config"}
        assert picklers <= {"pickle", "pickle.UnpicklingError"} | sends, path
        assert "pickle.load" not in text, path


def test_files_stay_readable() -> None:
    long = {path.name: n for path in modules() if (n := len(path.read_text(encoding="utf-8").splitlines())) > 350}
    assert not long, "look for the seam"
