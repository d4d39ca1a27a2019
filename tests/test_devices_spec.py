"""How a name becomes a device: files, classes in modules and files, entry points, PennyLane's names; errors."""

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch

import qhybrid
from qhybrid import catalog
from qhybrid.devices.pennylane import PennyLaneDevice
from qhybrid.devices.spec import device_spec, list_devices, load_device
from qhybrid.devices.statevector import StatevectorDevice
from qhybrid.errors import InputError
from qhybrid.layer import QuantumLayer

DRIVER = '''
from qhybrid.devices.statevector import StatevectorDevice

class Attenuated(StatevectorDevice):
    """Halves every value."""
    def __init__(self, name, *, factor=0.5):
        super().__init__(name)
        self.factor = factor

    def run(self, program, angles, *, shots=None, seed=None):
        estimates = super().run(program, angles, shots=shots, seed=seed)
        return type(estimates)(self.factor * estimates.values, self.factor * estimates.stderr)

class Empty:
    def __init__(self, name):
        pass

class Broken:
    def __init__(self, name):
        raise RuntimeError("no licence")
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with ./devices in it, entered."""
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "mine.py").write_text(DRIVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "devices"


def write(folder: Path, text: str, name: str = "mine") -> str:
    (folder / f"{name}.toml").write_text(text)
    return name


def test_every_shipped_device_file_is_valid_and_starts_or_says_why() -> None:
    entries = {entry.name: entry for entry in list_devices(check=True)}
    for name in catalog.entries("devices"):
        assert entries[name].description
        assert device_spec(name)[0].driver
    for name in ("qhybrid.statevector", "default.qubit", "lightning.qubit"):
        assert entries[name].problem is None
    missing = entries["lightning.gpu"].problem
    assert missing is None or "lightning.gpu" in missing
    assert entries["qiskit.remote"].problem is None  # it asks for an account when a circuit is prepared


def test_a_shipped_driver_with_options(own: Path) -> None:
    name = write(own, 'driver = "statevector"\ndescription = "Small"\n[options]\nmax_qubits = 3\n')
    device = load_device(name)
    assert isinstance(device, StatevectorDevice)
    assert device.name == "mine"
    assert device.capabilities.max_qubits == 3
    with pytest.raises(InputError, match="mine takes at most 3"):
        QuantumLayer("angle_4q", name)


def test_a_class_in_a_file_beside_the_device_file(own: Path) -> None:
    name = write(own, 'driver = "./mine.py:Attenuated"\n[options]\nfactor = 0.25\n')
    layer = QuantumLayer("angle_4q", name)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), 0.25 * layer.with_device("qhybrid.statevector")(x))


def test_a_path_to_a_device_file_from_another_folder(
    own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(own, 'driver = "./mine.py:Attenuated"\n')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    device = load_device("../devices/mine.toml")
    assert type(device).__name__ == "Attenuated"
    assert device.name == "mine"


def test_a_class_in_a_module(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own.parent / "my_package").mkdir()
    (own.parent / "my_package" / "drivers.py").write_text(DRIVER)
    monkeypatch.syspath_prepend(own.parent)
    name = write(own, 'driver = "my_package.drivers:Attenuated"\n')
    assert type(load_device(name)).__module__ == "my_package.drivers"


def test_an_entry_point_of_another_package(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own.parent / "their_drivers.py").write_text(DRIVER)
    monkeypatch.syspath_prepend(own.parent)
    point = importlib.metadata.EntryPoint("their.device", "their_drivers:Attenuated", "qhybrid.devices")
    real = importlib.metadata.entry_points

    def entry_points(**selection: Any) -> Any:
        return [point] if selection == {"group": "qhybrid.devices"} else real(**selection)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    device = load_device("their.device")
    assert (device.name, type(device).__name__) == ("their.device", "Attenuated")
    entry = next(entry for entry in list_devices() if entry.name == "their.device")
    assert entry.origin == "entry point qhybrid.devices"
    with pytest.raises(InputError, match=r"did you mean 'their\.device'"):
        load_device("their.devise")


def test_pennylane_devices_need_no_file() -> None:
    device = load_device("reference.qubit")
    assert isinstance(device, PennyLaneDevice)
    assert device.short_name == "reference.qubit"


def test_a_users_file_hides_the_shipped_one_and_sets_what_best_means(own: Path) -> None:
    write(own, 'driver = "statevector"\ndiff_method = "parameter-shift"\nshots = 64\n', "lightning.qubit")
    layer = QuantumLayer("angle_4q")
    assert isinstance(layer.device, StatevectorDevice)
    assert (layer.diff_method, layer.shots) == ("parameter-shift", 64)
    assert QuantumLayer("angle_4q", diff_method="spsa", shots=8).diff_method == "spsa"


def test_listing_names_where_each_device_comes_from(own: Path) -> None:
    write(own, 'driver = "statevector"\ndescription = "Mine"\n')
    write(own, 'drivr = "statevector"\n', "damaged")
    entries = {entry.name: entry for entry in qhybrid.list_devices()}
    assert list(entries) == sorted(entries)
    assert (entries["mine"].description, entries["mine"].origin) == ("Mine", str(own / "mine.toml"))
    assert "unknown key 'drivr'; did you mean 'driver'?" in str(entries["damaged"].problem)
    assert entries["reference.qubit"].origin == "PennyLane"
    assert entries["qhybrid.statevector"].problem is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('driver = "statvector"\n', "unknown driver 'statvector'; did you mean 'statevector'?"),
        ('drivr = "statevector"\n', "unknown key 'drivr'; did you mean 'driver'?"),
        ('driver = "statevector"\n[options]\nmax_qubit = 3\n', "'options.max_qubit'; did you mean 'max_qubits'?"),
        ('driver = "statevector"\nshots = 0\n', "key 'shots' is 0: input should be greater than or equal to 1"),
        ('driver = "statevector"\ndiff_method = "adjiont"\n', "key 'diff_method' is 'adjiont': input should be 'best'"),
        ('driver = "./mine.py:Atenuated"\n', "no class 'Atenuated'; did you mean 'Attenuated'?"),
        ('driver = "./nowhere.py:Device"\n', "driver './nowhere.py:Device' cannot be imported: "),
        ('driver = "no.such.module:Device"\n', "cannot be imported: No module named 'no'"),
        ('driver = "./mine.py:Empty"\n', "driver './mine.py:Empty' has no capabilities (see qhybrid.Device)"),
        ('driver = "./mine.py:Broken"\n', "the driver does not start: RuntimeError: no licence"),
        ("driver = \n", "not valid TOML"),
    ],
)
def test_a_wrong_device_file_is_one_line_that_names_file_and_key(own: Path, text: str, message: str) -> None:
    name = write(own, text)
    with pytest.raises(InputError) as caught:
        load_device(name)
    assert str(caught.value).startswith(str(own / "mine.toml"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["def broken(:\n", "import nothing_like_this\n", "1 / 0\n", "x = undefined\n"])
def test_a_driver_file_that_does_not_import_is_an_error_of_one_line(own: Path, content: str) -> None:
    (own / "mine.py").write_text(content)
    name = write(own, 'driver = "./mine.py:Device"\n')
    with pytest.raises(InputError, match=r"driver '\./mine\.py:Device' cannot be imported") as caught:
        load_device(name)
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist_suggests_the_nearest(own: Path) -> None:
    write(own, 'driver = "statevector"\n')
    with pytest.raises(
        InputError, match=r"device file './devices/mein\.toml' does not exist; did you mean 'mine\.toml'"
    ):
        load_device("./devices/mein.toml")
