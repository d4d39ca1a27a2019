"""The noise model file, and how a name becomes a noise model.

kind = "snapshot"
description = "IBM Eagle r3, 127 qubits"
snapshot = "fake:FakeBrisbane"      # packaged with the IBM client, or a folder or JSON file relative to this file
"""

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qhybrid import catalog
from qhybrid.errors import InputError, did_you_mean
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.parametric import ParametricSpec
from qhybrid.noise_models.snapshot import FAULTY_ERROR, read_snapshot
from qhybrid.noise_models.snapshot_files import find_packaged, packaged_snapshots

FAKE = "fake:"
"""What stands before the name of a snapshot that comes with the IBM client."""


class SnapshotSpec(BaseModel):
    """A calibration snapshot of a machine."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["snapshot"] = "snapshot"
    description: str = ""
    """One line for people."""
    snapshot: str
    """`fake:Name` of a snapshot packaged with the IBM client, or a folder or file relative to this file."""
    asymmetric_readout: bool = False
    """Read 0 as 1 and 1 as 0 with the calibrated probability of each; False: both with their mean, `readout_error`, as
    Aer's `NoiseModel.from_backend` does."""
    assumed_gates2q_error: float | None = Field(default=None, ge=0, lt=FAULTY_ERROR)
    """Error of the two-qubit gates of a machine of which none is calibrated; every result says so."""

    def open(self, name: str, folder: Path) -> NoiseModel:
        """The noise model that this describes, under a name; relative paths start at the folder."""
        fake = self.snapshot.startswith(FAKE)
        return read_snapshot(
            find_packaged(self.snapshot.removeprefix(FAKE)) if fake else folder / self.snapshot,
            name=name,
            description=self.description,
            asymmetric_readout=self.asymmetric_readout,
            assumed_gates2q_error=self.assumed_gates2q_error,
        )


def load_noise_model(noise: "str | Path | dict[str, Any] | NoiseModel") -> NoiseModel:
    """Open a noise model.

    Args:
        noise: Catalog name, `fake:FakeName`, path to a `.toml` file, a snapshot folder or one of its JSON files; or a
            dict with the keys of such a file; or an open noise model.

    Raises:
        InputError: There is no such noise model, or its file is wrong.
    """
    if isinstance(noise, NoiseModel):
        return noise
    if isinstance(noise, dict):
        return _open(noise, "noise model", Path.cwd(), "noise")
    name = str(noise)
    if name.startswith(FAKE):
        return read_snapshot(find_packaged(name.removeprefix(FAKE)))
    path = find_noise_model(name)
    if path.suffix == ".toml":
        return _open(catalog.load_toml(path), str(path), path.parent, path.stem)
    return read_snapshot(path, name=path.name if path.is_dir() else None)


def find_noise_model(name: str) -> Path:
    """The file or folder of a noise model.

    Args:
        name: Catalog name, or a path.

    Raises:
        InputError: There is none; names the nearest, among the packaged snapshots too.
    """
    folder = Path(name).expanduser()
    if catalog.is_path(name, "noise_models") and folder.is_dir():
        return folder
    packaged = [f"{FAKE}{each}" for each in packaged_snapshots()]
    folded = {each.lower(): each for each in packaged}
    near = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    return catalog.find("noise_models", name, also=tuple(folded[each] for each in near))


def _open(values: dict[str, Any], where: str, folder: Path, name: str) -> NoiseModel:
    kind = values.get("kind", "snapshot")
    if kind == "parametric":
        return catalog.parse(ParametricSpec, values, where).open(name)
    if kind != "snapshot":
        raise InputError(f"{where}: key 'kind' is {kind!r}; {did_you_mean(str(kind), ('snapshot', 'parametric'))}")
    return catalog.parse(SnapshotSpec, values, where).open(name, folder)
