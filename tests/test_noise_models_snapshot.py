"""Snapshots are read as Aer's `NoiseModel.from_backend` reads them, and damaged ones are errors of one line."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit.quantum_info import SuperOp
from qiskit_aer.noise import NoiseModel as AerNoiseModel
from qiskit_ibm_runtime import fake_provider

from qhybrid.errors import InputError
from qhybrid.noise_models.channels import average_infidelity
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.qiskit_forms import quantum_error
from qhybrid.noise_models.snapshot import FAULTY_ERROR, read_snapshot
from qhybrid.noise_models.snapshot_files import find_packaged, packaged_snapshots
from qhybrid.noise_models.spec import load_noise_model

DELIBERATELY_LEFT_OUT = {"id", "reset"}


@pytest.fixture
def snapshot(tmp_path: Path) -> Callable[..., Path]:
    """A copy of a small packaged snapshot, changed by a function, as a folder."""

    def make(change: Callable[[dict[str, Any], dict[str, Any]], None] | None = None) -> Path:
        path = find_packaged("FakeNairobiV2")
        configuration = json.loads(path.read_text())
        properties = json.loads(path.with_name("props_nairobi.json").read_text())
        if change is not None:
            change(configuration, properties)
        (tmp_path / "conf_nairobi.json").write_text(json.dumps(configuration))
        (tmp_path / "props_nairobi.json").write_text(json.dumps(properties))
        return tmp_path

    return make


def quantity(properties: dict[str, Any], qubit: int, name: str) -> dict[str, Any]:
    return next(each for each in properties["qubits"][qubit] if each["name"] == name)


def gate(properties: dict[str, Any], name: str, *qubits: int) -> dict[str, Any]:
    return next(each for each in properties["gates"] if each["gate"] == name and each["qubits"] == list(qubits))


def same_model(a: NoiseModel, b: NoiseModel) -> bool:
    return a.fingerprint == b.fingerprint and a.faulty_edges == b.faulty_edges and a.date == b.date


LARGE = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("FakeBrisbane", "FakeFez", "FakeTorino", "FakeNighthawk")
]


@pytest.mark.parametrize("name", ["FakePrague", "FakeNairobiV2", "FakeAlmadenV2", *LARGE])
@pytest.mark.filterwarnings("ignore:Properties of fake_nighthawk are not intended")
def test_every_channel_is_the_one_of_from_backend(name: str) -> None:
    model = read_snapshot(find_packaged(name))
    backend = getattr(fake_provider, name)()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = AerNoiseModel.from_backend(backend)
    compared = compared_pairs = 0
    for (instruction, qubits), calibration in model.gates.items():
        error = theirs._local_quantum_errors.get(instruction, {}).get(qubits)
        noise = model.gate_noise(instruction, qubits)
        assert (error is None) == (noise is None)
        if error is None or noise is None or (len(qubits) == 2 and compared_pairs >= 12):
            continue  # each pair takes Qiskit a tenth of a second
        np.testing.assert_allclose(SuperOp(quantum_error(noise)).data, SuperOp(error).data, atol=1e-10)
        assert average_infidelity(noise.channel) == pytest.approx(calibration.error, abs=1e-9) or (
            noise.depolarizing == 0 and average_infidelity(noise.channel) > calibration.error
        )
        compared += 1
        compared_pairs += len(qubits) == 2
    assert compared > model.n_qubits
    for instruction, errors in theirs._local_quantum_errors.items():
        for qubits in set(errors) - {on for each, on in model.gates if each == instruction}:
            edge = tuple(sorted(qubits))
            assert (
                instruction in DELIBERATELY_LEFT_OUT
                or edge in model.faulty_edges
                or set(qubits) & set(model.faulty_qubits)
            )


@pytest.mark.parametrize("name", ["FakeBrisbane", "FakeTorino", "FakeNairobiV2", "FakeFractional"])
def test_readout_is_the_one_of_from_backend(name: str) -> None:
    model = read_snapshot(find_packaged(name))
    backend = getattr(fake_provider, "FakeFractionalBackend" if name == "FakeFractional" else name)()
    measure = backend.target["measure"]
    for qubit in range(model.n_qubits):
        flips = model.readout_error(qubit)
        assert flips == (measure[qubit,].error, measure[qubit,].error)


def test_every_packaged_snapshot_loads_and_becomes_a_target() -> None:
    assert len(packaged_snapshots()) >= 60
    for name in packaged_snapshots():
        model = load_noise_model(f"fake:{name}")
        assert model.date is not None
        assert all(len(remark) < 120 for remark in model.remarks)
        assert model.dt is None or 1e-11 < model.dt < 1e-7
    assert set(load_noise_model("fake:FakeNairobiV2").target().operation_names) >= {"cx", "rz", "sx", "x", "measure"}


def test_faulty_elements_and_clipped_times_are_left_out_and_said() -> None:
    fez = load_noise_model("ibm_fez")
    assert len(fez.faulty_edges) == 7
    assert not any(tuple(sorted(qubits)) in fez.faulty_edges for _, qubits in fez.gates)
    assert any(remark.startswith("faulty, left out: 7 edges: 27-28, 31-32") for remark in fez.remarks)
    assert "T2 clipped to 2 T1 on qubit 87" in fez.remarks
    assert fez.t2[87] == 2 * fez.t1[87]
    assert np.all(fez.t2 <= 2 * fez.t1)
    nighthawk = load_noise_model("fake:FakeNighthawk")
    assert nighthawk.faulty_qubits == (85,)
    assert {edge for edge in nighthawk.faulty_edges if 85 in edge} == {(75, 85), (84, 85), (85, 86), (85, 95)}
    assert not any(85 in qubits for _, qubits in nighthawk.gates)


def test_a_machine_without_any_calibrated_pair_takes_an_assumed_error_and_says_so() -> None:
    kyoto = load_noise_model("ibm_kyoto")
    pairs = {qubits: each for (name, qubits), each in kyoto.gates.items() if name == "ecr"}
    assert len(pairs) == 144
    assert {each.error for each in pairs.values()} == {0.0077}
    assert kyoto.faulty_edges == ()
    remark = "no two-qubit gate is calibrated: error 0.0077 assumed on 144 edges"
    assert remark in kyoto.provenance()["remarks"]
    brisbane = load_noise_model("ibm_brisbane")
    median = np.median([each.error for (name, _), each in brisbane.gates.items() if name == "ecr"])
    assert round(median, 4) == 0.0077  # where the number comes from
    bare = load_noise_model("fake:FakeKyoto")
    assert len(bare.faulty_edges) == 144
    assert "no two-qubit gate is calibrated, none can be used (see assumed_gates2q_error)" in bare.remarks


def test_an_assumed_error_never_hides_calibrated_ones() -> None:
    with pytest.raises(
        InputError, match="without any calibrated two-qubit gate; of this one's 144, 143 are calibrated"
    ):
        load_noise_model({"snapshot": "fake:FakeBrisbane", "assumed_gates2q_error": 0.01})


def test_asymmetric_readout_is_taken_from_the_two_preparations(snapshot: Callable[..., Path]) -> None:
    folder = snapshot()
    model = load_noise_model({"snapshot": str(folder), "asymmetric_readout": True})
    properties = json.loads((folder / "props_nairobi.json").read_text())
    for qubit in range(model.n_qubits):
        expected = [quantity(properties, qubit, f"prob_meas{1 - s}_prep{s}")["value"] for s in (0, 1)]
        assert model.readout_error(qubit) == tuple(expected)
    symmetric = load_noise_model(str(folder))
    assert np.all(symmetric.readout[:, 0] == symmetric.readout[:, 1])


def test_a_folder_a_file_of_it_and_a_description_of_it_are_one_model(
    snapshot: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = snapshot()
    packaged = load_noise_model("fake:FakeNairobi")
    (folder / "mine.toml").write_text('snapshot = "."\n')
    monkeypatch.chdir(folder)
    for given in (folder, str(folder), "./props_nairobi.json", "conf_nairobi.json", "mine.toml", "./"):
        assert same_model(load_noise_model(given), packaged)


def test_a_snapshot_is_read_again_only_when_a_file_has_changed(snapshot: Callable[..., Path]) -> None:
    folder = snapshot()
    first = read_snapshot(folder)
    assert read_snapshot(folder) is first
    assert read_snapshot(folder, asymmetric_readout=True).fingerprint != first.fingerprint
    with pytest.raises(ValueError, match="read-only"):
        first.t1[0] = 1.0
    snapshot(lambda _, properties: quantity(properties, 0, "T1").update(value=12.25))
    assert read_snapshot(folder).t1[0] == pytest.approx(12.25e-6) != first.t1[0]


def set_value(item: dict[str, Any], value: object) -> None:
    item["value"] = value


DAMAGE: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], None], str]] = {
    "too few qubits": (lambda c, p: p["qubits"].pop(), "6 qubits are calibrated, the machine has 7"),
    "not a number": (lambda c, p: set_value(quantity(p, 2, "T1"), float("nan")), r"key 'qubits.2.0.value' is nan"),
    "infinite": (lambda c, p: set_value(quantity(p, 2, "T2"), float("inf")), r"key 'qubits.2.1.value' is inf"),
    "a word": (lambda c, p: set_value(quantity(p, 2, "T1"), "long"), r"key 'qubits.2.0.value' is 'long'"),
    "T1 zero": (lambda c, p: set_value(quantity(p, 3, "T1"), 0), "qubit 3: T1 = 0 s is less than 1e-09 s"),
    "T2 negative": (lambda c, p: set_value(quantity(p, 3, "T2"), -5), "qubit 3: T2 = -5e-06 s is less than"),
    "unit": (lambda c, p: quantity(p, 3, "T1").update(unit="parsec"), "T1 is in 'parsec': allowed units of time are s"),
    "readout": (lambda c, p: set_value(quantity(p, 1, "readout_error"), 1.5), "qubit 1: readout_error = 1.5 is no"),
    "negative readout time": (
        lambda c, p: set_value(quantity(p, 1, "readout_length"), -1),
        "readout_length = -1e-09 s is not between",
    ),
    "negative error": (
        lambda c, p: set_value(gate(p, "cx", 0, 1)["parameters"][0], -0.1),
        r"gate cx on \[0, 1\]: gate_error = -0.1 is no probability",
    ),
    "negative length": (
        lambda c, p: set_value(gate(p, "cx", 0, 1)["parameters"][1], -300),
        r"gate cx on \[0, 1\]: gate_length = -3e-07 s is not between",
    ),
    "a year": (
        lambda c, p: gate(p, "cx", 0, 1)["parameters"][1].update(value=3e7, unit="s"),
        "gate_length = 3e\\+07 s is not between 0 and 1 s",
    ),
    "no such qubit": (lambda c, p: gate(p, "cx", 0, 1).update(qubits=[0, 7]), r"\[0, 7\]: it takes 2 of 0 to 6"),
    "one qubit twice": (lambda c, p: gate(p, "cx", 0, 1).update(qubits=[1, 1]), r"\[1, 1\]: it takes 2 of 0 to 6"),
    "no date": (lambda c, p: p.update(last_update_date="yesterday"), "key 'last_update_date': invalid isoformat"),
    "no gates": (lambda c, p: p.pop("gates"), "key 'gates': field required"),
    "no qubits": (lambda c, p: c.update(n_qubits=0), "key 'n_qubits' is 0"),
    "dt": (lambda c, p: c.update(dt=-1), "key 'dt' is -1"),
    "timing": (lambda c, p: c.update(timing_constraints={"granularity": 0}), "timing_constraints.granularity' is 0"),
    "coordinates": (lambda c, p: c["coords"].pop(), "6 coordinates for 7 qubits"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_numbers_are_one_line_that_names_the_file(damage: str, snapshot: Callable[..., Path]) -> None:
    change, message = DAMAGE[damage]
    folder = snapshot(change)
    with pytest.raises(InputError, match=message) as error:
        load_noise_model(str(folder))
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\xff\xfe", '{"qubits": 3}', "[" * 100000])
@pytest.mark.parametrize("name", ["conf_nairobi.json", "props_nairobi.json"])
def test_damaged_json_is_one_line_that_names_the_file(name: str, content: str, snapshot: Callable[..., Path]) -> None:
    path = snapshot() / name
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError) as error:
        load_noise_model(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_half_a_pair_is_an_error(snapshot: Callable[..., Path]) -> None:
    folder = snapshot()
    (folder / "conf_nairobi.json").unlink()
    with pytest.raises(InputError, match=r"a snapshot is a pair of files; 'conf_nairobi.json' is missing beside it"):
        load_noise_model(str(folder / "props_nairobi.json"))
    with pytest.raises(InputError, match=r"holds one conf_\*.json; this one has none"):
        load_noise_model(str(folder))
    (folder / "props_lagos.json").write_text("{}")
    (folder / "conf_lagos.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds one props_\*.json; this one has 2"):
        load_noise_model(str(folder))


def test_an_error_that_depolarizing_cannot_reach_is_complete_depolarizing(snapshot: Callable[..., Path]) -> None:
    folder = snapshot(lambda c, p: set_value(gate(p, "cx", 0, 1)["parameters"][0], 0.9))
    noise = load_noise_model(str(folder)).gate_noise("cx", (0, 1))
    assert noise is not None
    channel = noise.channel
    assert np.abs(channel[1:, 1:]).max() < 1e-12
    assert FAULTY_ERROR > 0.9
