"""Every shipped description loads, and a user's own folder comes first."""

from pathlib import Path

import pytest

from qhybrid import catalog
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.spec import device_spec
from qhybrid.errors import InputError, did_you_mean
from qhybrid.experiments.spec import load_experiment
from qhybrid.noise_models.spec import load_noise_model

SHIPPED = [(kind, name) for kind in catalog.KINDS for name in catalog.entries(kind)]


@pytest.mark.parametrize(("kind", "name"), SHIPPED)
def test_every_shipped_description_loads_and_says_what_it_is(kind: catalog.Kind, name: str) -> None:
    path = str(catalog.find(kind, name))
    loaded = {
        "circuits": load_circuit,
        "noise_models": load_noise_model,
        "devices": lambda path: device_spec(path)[0],
        "experiments": load_experiment,
    }[kind](path)
    assert loaded.description


def test_the_circuits_of_the_issue_are_shipped() -> None:
    wanted = {"sda_qec", "sda_qec_8q", "sda_qec_4q", "angle_4q", "reupload_4q", "iqp_4q", "strongly_entangling_4q"}
    assert wanted <= set(catalog.entries("circuits"))
    assert {"quickstart", "sda_qec", "pneumonia", "stenosis"} <= set(catalog.entries("experiments"))


def test_a_users_own_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "circuits").mkdir()
    own = tmp_path / "circuits" / "angle_4q.toml"
    own.write_text('qubits = 1\nobservables = ["X0"]\nblocks = [{ encode = "angle" }]\n')
    monkeypatch.chdir(tmp_path)
    assert catalog.find("circuits", "angle_4q") == own
    assert load_circuit("angle_4q").n_qubits == 1
    assert "sda_qec" in catalog.entries("circuits")


def test_an_unknown_name_says_the_nearest_and_all_that_are_allowed() -> None:
    with pytest.raises(
        InputError, match=r"unknown circuit 'angel_4q'; did you mean 'angle_4q'\? \(allowed: angle_4q, "
    ):
        catalog.find("circuits", "angel_4q")
    with pytest.raises(InputError, match=r"circuit file './nowhere/a.toml' does not exist"):
        catalog.find("circuits", "./nowhere/a.toml")


def test_did_you_mean_without_anything_near_lists_what_is_allowed() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "allowed: a, b"
    assert did_you_mean("zzz", []) == "allowed: nothing"


@pytest.mark.parametrize("content", ["qubits = ", "\xff\xfe", "[[", 'a = "\n"'])
def test_damaged_toml_is_one_line_that_names_the_file(content: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError) as error:
        catalog.load_toml(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
