"""What mitigation is asked for: under `[options]` of a device file, or as words such as `readout:mthree,zne`.

mitigation = {readout = "inverse", zne = {factors = [1, 3, 5], extrapolation = "linear"}}
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from qhybrid import catalog
from qhybrid.errors import InputError, did_you_mean

ReadoutMethod = Literal["inverse", "mthree"]
Calibration = Literal["circuits", "model"]
Extrapolation = Literal["linear", "richardson", "exponential"]
Folding = Literal["local", "global"]
FEWEST_FACTORS = 2
LARGEST_FACTOR = 25
CALIBRATION_SHOTS = 10_000


class Zne(BaseModel):
    """Zero-noise extrapolation (Temme et al., arXiv 1612.02058; Giurgica-Tiron et al., arXiv 2005.10921)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: tuple[int, ...] = (1, 3, 5)
    """Multiples of the noise at which every circuit runs: odd, ascending, the first 1."""
    extrapolation: Extrapolation = "linear"
    """`linear` is a straight line by least squares, `richardson` the polynomial through all points, `exponential` a
    decay to 0, with the straight line where that does not fit."""
    folding: Folding = "local"
    """`local` folds every two-qubit gate, `global` the whole circuit with its one-qubit gates."""

    @field_validator("factors")
    @classmethod
    def _check(cls, factors: tuple[int, ...]) -> tuple[int, ...]:
        shown = ", ".join(map(str, factors))
        if any(factor < 1 or factor % 2 == 0 or factor > LARGEST_FACTOR for factor in factors):
            raise ValueError(f"the factors [{shown}] are not all odd numbers from 1 to {LARGEST_FACTOR}, as [1, 3, 5]")
        if list(factors) != sorted(set(factors)):
            raise ValueError(f"the factors [{shown}] do not ascend, as [1, 3, 5]")
        if len(factors) < FEWEST_FACTORS:
            raise ValueError(f"an extrapolation needs at least {FEWEST_FACTORS} factors, as [1, 3]; given: [{shown}]")
        if factors[0] != 1:
            raise ValueError(f"the factors [{shown}] do not begin with 1, the circuit as it is")
        return factors


class Mitigation(BaseModel):
    """How errors are mitigated: readout first, then extrapolation to zero noise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    readout: ReadoutMethod | None = None
    """`inverse` inverts the confusion matrix of every qubit, `mthree` those of the outcomes seen (package mthree);
    None: readout errors stay."""
    calibration: Calibration = "circuits"
    """Where the confusion matrices come from: two circuits on the device, or its noise model, which costs no shots and
    knows them better than anybody could."""
    calibration_shots: int = Field(default=CALIBRATION_SHOTS, ge=1, le=10**8)
    """Shots of each of the two circuits, where the device does not compute exactly."""
    zne: Zne | None = None
    """Zero-noise extrapolation; None: none."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        """`readout = true` and `zne = true` mean the defaults, false means none."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        for key, default in (("readout", "inverse"), ("zne", {})):
            if isinstance(values.get(key), bool):
                values[key] = default if values[key] else None
        return values

    @property
    def label(self) -> str:
        """In the words of `parse_mitigation`, as `readout:inverse, zne:linear 1 3 5`; empty: nothing is done."""
        parts = []
        if self.readout:
            own: list[str] = [self.readout]
            own += ["model"] if self.calibration == "model" else []
            own += [str(self.calibration_shots)] if self.calibration_shots != CALIBRATION_SHOTS else []
            parts.append(f"readout:{' '.join(own)}")
        if self.zne:
            folding = "" if self.zne.folding == "local" else f" {self.zne.folding}"
            parts.append(f"zne:{self.zne.extrapolation} {' '.join(map(str, self.zne.factors))}{folding}")
        return ", ".join(parts)

    @property
    def factors(self) -> tuple[int, ...]:
        """Multiples of the noise at which every circuit runs; (1,) without ZNE."""
        return self.zne.factors if self.zne else (1,)


def parse_mitigation(given: "str | Mapping[str, Any] | Mitigation | None", where: str = "mitigation") -> Mitigation:
    """Read what is asked.

    Args:
        given: `readout`, `readout:mthree`, `zne`, `zne:richardson`, or two of them with a comma or a plus between,
            with settings behind, as in `readout:inverse model, zne:linear 1 3 5 global`; `none`; the keys of
            `Mitigation`; None: nothing.
        where: File or option that it comes from, for errors.

    Raises:
        InputError: There is no such method, or a value is wrong.
    """
    if isinstance(given, Mitigation):
        return given
    if given is None or given == "none":
        return Mitigation()
    if isinstance(given, Mapping):
        return catalog.parse(Mitigation, dict(given), where)
    if not isinstance(given, str):
        raise InputError(f"{where}: {given!r} is no mitigation; write for example 'readout,zne'")
    values: dict[str, Any] = {}
    for part in given.replace("+", ",").split(","):
        name, _, words = part.strip().partition(":")
        if name not in ("readout", "zne"):
            raise InputError(f"{where}: unknown mitigation {name!r}; {did_you_mean(name, ['readout', 'zne', 'none'])}")
        if name in values:
            raise InputError(f"{where}: {name} is given twice in {given!r}")
        values |= _readout(words, where) if name == "readout" else {"zne": _zne(words, where)}
    return catalog.parse(Mitigation, values, where)


def _readout(words: str, where: str) -> dict[str, Any]:
    """`mthree model 500` as keys of `Mitigation`."""
    values: dict[str, Any] = {"readout": True}
    for word in words.split():
        if word.isdecimal():
            values["calibration_shots"] = int(word)
        elif word in get_args(Calibration):
            values["calibration"] = word
        elif word in get_args(ReadoutMethod):
            values["readout"] = word
        else:
            allowed = (*get_args(ReadoutMethod), *get_args(Calibration))
            raise InputError(f"{where}: unknown method {word!r} of readout; {did_you_mean(word, allowed)}")
    return values


def _zne(words: str, where: str) -> dict[str, Any]:
    """`richardson 1 3 5 global` as keys of `Zne`."""
    values: dict[str, Any] = {}
    for word in words.split():
        if word.isdecimal():
            values.setdefault("factors", []).append(int(word))
        elif word in get_args(Folding):
            values["folding"] = word
        elif word in get_args(Extrapolation):
            values["extrapolation"] = word
        else:
            allowed = (*get_args(Extrapolation), *get_args(Folding))
            raise InputError(f"{where}: unknown method {word!r} of zne; {did_you_mean(word, allowed)}")
    return values
