"""ISA circuits are searched once: found again in memory and on disk, whatever happens to the files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dense_simulation import circuit_of, expectations, random_rows
from layouts import chain, laid_out, target_of, values

from qhybrid.circuits import transpile_cache
from qhybrid.circuits.spec import load_circuit
from qhybrid.circuits.transpile import isa_circuits
from qhybrid.noise_models.spec import load_noise_model


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "cache"))
    transpile_cache.forget()


def test_layouts_come_from_the_cache_and_keep_their_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = chain()
    rows = random_rows(circuit, 2, seed=3)
    first = laid_out(circuit, "ibm_torino", cache=True)
    again = laid_out(circuit, "ibm_torino", cache=False)
    transpile_cache.forget()
    monkeypatch.setattr("qhybrid.circuits.transpile.search", None)  # must not be needed
    loaded = laid_out(circuit, "ibm_torino", cache=True)
    for a, b, c in zip(first, again, loaded, strict=True):
        assert a.operations == b.operations == c.operations
        assert (a.qubits, a.measured, a.layout, a.report) == (c.qubits, c.measured, c.layout, c.report)
        assert a.isa == c.isa
    np.testing.assert_allclose(values(loaded, rows), expectations(circuit, rows), atol=1e-10)


def test_optimised_away_slots_survive_the_cache() -> None:
    circuit = circuit_of([("ry", (0,)), ("rz", (0,)), ("ry", (1,)), ("rz", (1,))], ["Z0", "Z1"], 2)
    laid_out(circuit, "ibm_torino", cache=True)
    transpile_cache.forget()
    loaded = laid_out(circuit, "ibm_torino", cache=True)
    rows = random_rows(circuit, 2, seed=0)
    np.testing.assert_allclose(values(loaded, rows), np.cos(rows[:, [0, 2]]), atol=1e-10)


def test_a_layout_is_the_same_in_another_process(tmp_path: Path) -> None:
    code = (
        "from qhybrid.circuits.spec import load_circuit; from qhybrid.circuits.transpile import isa_circuits\n"
        "from qhybrid.noise_models.spec import load_noise_model\n"
        "target = load_noise_model('ibm_fez').target()\n"
        "isa, = isa_circuits(load_circuit('sda_qec_4q').expanded(), target, schedule=True, layout_seeds=1)\n"
        "print(isa.report, isa.qubits)"
    )
    (isa,) = isa_circuits(
        load_circuit("sda_qec_4q").expanded(), target_of("ibm_fez"), schedule=True, layout_seeds=1, cache=False
    )
    environment = os.environ | {"QHYBRID_CACHE": str(tmp_path / "other")}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == f"{isa.report} {isa.qubits}"
    assert len(list((tmp_path / "other" / "isa").iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_is_searched_again(damage: bytes | None) -> None:
    circuit = chain()
    first = laid_out(circuit, "ibm_torino", cache=True)
    (path,) = transpile_cache.folder().iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] if damage is None else damage)
    transpile_cache.forget()
    again = laid_out(circuit, "ibm_torino", cache=True)
    assert again[0].operations == first[0].operations
    transpile_cache.forget()
    assert transpile_cache.load(path.stem) is not None  # and written again
    assert [each.name for each in transpile_cache.folder().iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    monkeypatch.setenv("QHYBRID_CACHE", str(file))
    assert laid_out(chain(), "ibm_torino", cache=True)[0].operations
    assert file.read_text() == "not a folder"


def test_what_changes_a_layout_changes_its_key() -> None:
    circuit, torino = chain(), target_of("ibm_torino")
    other = circuit_of([("ry", (0,))], ["Z0"], 1)
    keys = {
        transpile_cache.key(circuit, torino, True, 16, 3),
        transpile_cache.key(circuit, torino, False, 16, 3),
        transpile_cache.key(circuit, torino, True, 8, 3),
        transpile_cache.key(circuit, torino, True, 16, 2),
        transpile_cache.key(circuit, target_of("ibm_fez"), True, 16, 3),
        transpile_cache.key(other, torino, True, 16, 3),
    }
    assert len(keys) == 6
    noisier = load_noise_model("ibm_torino").scaled(2).target()
    assert transpile_cache.key(circuit, noisier, True, 16, 3) in keys  # laid out alike at any scale
