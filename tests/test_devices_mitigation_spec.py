"""What mitigation is asked for: words and keys, and what is refused."""

import sys
from typing import Any

import pytest
from dense_simulation import circuit_of

from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.mitigation import parse_mitigation
from qhybrid.devices.mitigation_readout import Confusion
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError, QHybridError


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ("readout", "readout:inverse"),
        ("zne, readout:mthree", "readout:mthree, zne:linear 1 3 5"),
        ("readout:model 500,zne:1 3 richardson global", "readout:inverse model 500, zne:richardson 1 3 global"),
        ({"readout": True, "zne": {"extrapolation": "exponential"}}, "readout:inverse, zne:exponential 1 3 5"),
        ({"readout": "inverse", "zne": False}, "readout:inverse"),
        ("none", ""),
        (None, ""),
    ],
)
def test_words_and_keys_say_the_same_and_the_label_says_it_again(given: Any, label: str) -> None:
    parsed = parse_mitigation(given)
    assert parsed.label == label
    assert parse_mitigation(label or "none") == parsed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("readot", r"unknown mitigation 'readot'; did you mean 'readout'"),
        (
            "readout:inverze",
            r"unknown method 'inverze' of readout; did you mean 'inverse'\? \(allowed: circuits, inverse, m",
        ),
        ("zne:liner", r"did you mean 'linear'\? \(allowed: exponential, global, lin"),
        ("zne,zne", "zne is given twice"),
        ("zne:linear 1 2", r"\[1, 2\] are not all odd"),
        ({"zen": {}}, r"unknown key 'zen'; did you mean 'zne'"),
        ({"zne": {"factor": [1, 3]}}, r"unknown key 'zne\.factor'; did you mean 'factors'"),
        ({"zne": {"factors": [1, 2, 3]}}, r"\[1, 2, 3\] are not all odd"),
        ({"zne": {"factors": [1, 5, 3]}}, r"\[1, 5, 3\] do not ascend"),
        ({"zne": {"factors": [1]}}, r"at least 2 factors"),
        ({"zne": {"factors": [3, 5]}}, r"\[3, 5\] do not begin with 1"),
        ({"readout": "m3"}, r"'readout' is 'm3'.*'inverse' or 'mthree'"),
        ({"readout": "inverse", "calibration_shots": 0}, r"'calibration_shots' is 0.*greater than or equal to 1"),
        (7, r"7 is no mitigation"),
    ],
)
def test_wrong_mitigation_is_one_line(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_device("default.qubit", mitigation=given)
    assert "\n" not in str(error.value)


def test_a_device_without_what_mitigation_needs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = load_circuit("angle_4q")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mthree", None)
        with pytest.raises(InputError, match=r"needs the package mthree: pip install 'qhybrid\[mitigation\]'"):
            load_device("default.qubit", mitigation="readout:mthree")
    for name in ("default.qubit", "qhybrid.density"):
        with pytest.raises(InputError, match=rf"zne folds the gates of a machine, and {name} lays out no circuit"):
            load_device(name, mitigation="zne").prepare(circuit)
        with pytest.raises(InputError, match="has no noise model that says its readout errors"):
            load_device(name, mitigation={"readout": "inverse", "calibration": "model"}).prepare(circuit)
    with pytest.raises(InputError, match="IBM's estimator mitigates readout errors itself"):
        load_device("qiskit.remote", options={"primitive": "estimator"}, mitigation="readout")
    wide = circuit_of([("ry", (wire,)) for wire in range(12)], [" ".join(f"Z{wire}" for wire in range(12))], 12)
    with pytest.raises(InputError, match=r"12 wires at once reads 2\*\*12 words"):
        load_device("default.qubit", mitigation="readout").prepare(wide)
    with pytest.raises(QHybridError, match="readout of qubit 5: 0 and 1 are told apart in 2 % of the shots"):
        Confusion.of({5: (0.5, 0.48)})
