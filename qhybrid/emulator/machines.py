"""The machines behind the emulator: what IBM publishes of them, and their noise."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from qhybrid import catalog
from qhybrid.errors import InputError, did_you_mean
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.snapshot_files import find_packaged, packaged_snapshots
from qhybrid.noise_models.spec import FAKE, find_noise_model, load_noise_model

DEFAULT_BACKEND = "ibm_fez"
DATES = ("date", "last_update_date")


@dataclass(frozen=True)
class Machine:
    """A machine of which there is a calibration snapshot.

    Args:
        name: As in its configuration.
        configuration: As IBM's server sends it.
        calibration: Its properties, likewise.
        noise: What its gates do wrong.
    """

    name: str
    configuration: dict[str, Any]
    calibration: dict[str, Any]
    noise: NoiseModel

    @property
    def max_shots(self) -> int:
        """Shots that one circuit may take."""
        return int(self.configuration.get("max_shots") or 100_000)

    @cached_property
    def calibrated(self) -> datetime:
        """When the snapshot was taken."""
        return _moment(self.calibration["last_update_date"])

    def properties(self, before: str | None, changed: str | None) -> dict[str, Any]:
        """The calibration that held at some time.

        Args:
            before: ISO 8601; None: now.
            changed: The machine was calibrated once more then, with equal numbers (a fault); None: it was not.

        Returns:
            The properties; empty where the machine had no calibration yet.

        Raises:
            ValueError: A time is not one.
        """
        when = datetime.now(UTC) if before is None else _moment(before)
        if changed is not None and (before is None or _moment(changed) <= when):
            return dict(_redated(copy.deepcopy(self.calibration), changed))
        return self.calibration if before is None or self.calibrated <= when else {}


def load_machines(names: Sequence[str]) -> dict[str, Machine]:
    """Open the machines to serve.

    Args:
        names: Machine names (`ibm_fez`), `FakeName`, noise models that are snapshots, or snapshot folders.

    Raises:
        InputError: There is no such snapshot, or two are of one machine.
    """
    machines: dict[str, Machine] = {}
    for name in names:
        machine = _load(name)
        if machine.name in machines:
            raise InputError(f"--backend {name}: {machine.name} is given twice")
        machines[machine.name] = machine
    return machines


def _load(name: str) -> Machine:
    configuration_path, noise = _find(name)
    configuration = json.loads(configuration_path.read_text(encoding="utf-8"))
    properties_path = configuration_path.with_name("props" + configuration_path.name.removeprefix("conf"))
    calibration = json.loads(properties_path.read_text(encoding="utf-8"))
    machine = str(configuration["backend_name"])
    configuration.setdefault("online_date", calibration["last_update_date"])
    return Machine(machine, configuration, calibration | {"backend_name": machine}, noise)


def _find(name: str) -> tuple[Path, NoiseModel]:
    """The configuration file of a snapshot, its properties beside it, and its noise model."""
    fake = name.removeprefix(FAKE)
    served = {f"ibm_{each.removeprefix('Fake').lower()}": each for each in packaged_snapshots()}
    if name.startswith((FAKE, "Fake")):
        return find_packaged(fake), load_noise_model(f"{FAKE}{fake}")
    try:
        path = find_noise_model(name)
    except InputError:
        if name in served:
            return find_packaged(served[name]), load_noise_model(f"{FAKE}{served[name]}")
        if catalog.is_path(name, "noise_models"):
            raise
        raise InputError(f"--backend {name}: no such machine here; {did_you_mean(name, served)}") from None
    if path.suffix == ".toml":
        snapshot = str(catalog.load_toml(path).get("snapshot", ""))
        if not snapshot:
            raise InputError(f"--backend {name}: {path} is not a calibration snapshot of a machine")
        found = find_packaged(snapshot.removeprefix(FAKE)) if snapshot.startswith(FAKE) else path.parent / snapshot
    else:
        found = path
    if found.is_dir():
        found = sorted(found.glob("conf_*.json"))[0]
    return found.with_name("conf" + found.name.removeprefix("props").removeprefix("conf")), load_noise_model(name)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _redated(content: Any, date: str) -> Any:
    """The same, with another date wherever there is one."""
    if isinstance(content, dict):
        return {key: date if key in DATES else _redated(value, date) for key, value in content.items()}
    return [_redated(each, date) for each in content] if isinstance(content, list) else content
