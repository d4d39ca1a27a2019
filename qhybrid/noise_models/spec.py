"""The noise model file, and how a name becomes a noise model.

kind = "snapshot"
description = "IBM Eagle r3, 127 qubits"
snapshot = "fake:FakeBrisbane"      # packaged with the IBM client, or a folder or JSON file relative to this file
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from qhybrid import catalog
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.snapshot import find_packaged, read_snapshot


class SnapshotSpec(BaseModel):
    """A calibration snapshot of a machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["snapshot"] = "snapshot"
    description: str = ""
    """One line for people."""
    snapshot: str
    """`fake:Name` of a snapshot packaged with the IBM client, or a folder or file relative to this file."""


def load_noise_model(noise: "str | dict[str, Any] | NoiseModel") -> NoiseModel:
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
    if noise.startswith("fake:"):
        return read_snapshot(find_packaged(noise.removeprefix("fake:")))
    path = Path(noise).expanduser()
    if path.is_dir() or path.suffix == ".json":
        return read_snapshot(path)
    path = catalog.find("noise_models", noise)
    return _open(catalog.load_toml(path), str(path), path.parent, path.stem)


def _open(values: dict[str, Any], where: str, folder: Path, name: str) -> NoiseModel:
    spec = catalog.parse(SnapshotSpec, values, where)
    if spec.snapshot.startswith("fake:"):
        path = find_packaged(spec.snapshot.removeprefix("fake:"))
    else:
        path = folder / spec.snapshot
    return read_snapshot(path, name=name, description=spec.description)
