"""What a comparison says beyond its cells: which part of the noise costs how much, and where the loss begins."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from qhybrid.noise_models.model import PARTS

METRICS = ("accuracy", "auc")


@dataclass(frozen=True)
class Attribution:
    """What one part of a noise model costs, or the shots.

    Args:
        run: The run.
        device: The device.
        noise: The noise model.
        part: One of its parts, `shots N`, or `all parts`.
        alone: Loss of each metric with this part only; of shots: what they add to the exact noise.
        removed: What is won back without this part; None for shots and for all parts.
        rms_alone: Root mean square error of the expectation values with this part only.
        rms_removed: The same with all other parts; None for shots and for all parts.
    """

    run: str
    device: str
    noise: str
    part: str
    alone: dict[str, float]
    removed: dict[str, float] | None
    rms_alone: float
    rms_removed: float | None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Threshold:
    """Where a loss begins to matter.

    Args:
        run: The run.
        device: The device.
        noise: The noise model; None: none.
        metric: The metric.
        kind: `shots`: the fewest at which, and at all more of the grid, a loss of the margin is ruled out
            (non-inferiority at 5 %, one test each); `noise scale`: where the loss passes the margin.
        at: The noise scale of a threshold in shots, the shots (None: exact) of one in the noise scale.
        value: The threshold; None: none in the grid.
        says: In words.
    """

    run: str
    device: str
    noise: str | None
    metric: str
    kind: str
    at: float | int | None
    value: float | None
    says: str

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Recovery:
    """What a mitigation recovers, and what it costs.

    Args:
        run: The run.
        device: The device.
        noise: The noise model.
        noise_scale: Its strength.
        shots: Of every circuit; None: exact.
        mitigation: What was done.
        rms: Root mean square error of the expectation values without and with it.
        loss: Metric -> its loss without and with it.
        shots_factor: Shots with it over shots without, calibration included; None for exact values.
    """

    run: str
    device: str
    noise: str
    noise_scale: float
    shots: int | None
    mitigation: str
    rms: tuple[float, float]
    loss: dict[str, tuple[float, float]]
    shots_factor: float | None

    @property
    def worse(self) -> bool:
        """Whether the expectation values are further off than without it."""
        return self.rms[1] > self.rms[0]

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, and `worse`."""
        return asdict(self) | {"worse": self.worse}


def attributions(cells: Sequence[dict[str, Any]], parts: Sequence[dict[str, Any]]) -> list[Attribution]:
    """Take the losses apart: one part of the noise at a time, all but one, and the shots.

    Losses of parts do not add up to the loss of all, which is why both ways are given.

    Args:
        cells: Of the grid, for what shots add at full strength.
        parts: From `grid.parts_of`.
    """
    found = []
    for (run, device, noise), group in _grouped(parts, "device", "noise"):
        by_parts = {_parts(each): each for each in group}
        whole = by_parts[None]
        found.append(Attribution(run, device, noise, "all parts", _loss(whole), None, _rms(whole), None))
        for part in PARTS:
            alone, others = by_parts[part,], by_parts[tuple(other for other in PARTS if other != part)]
            won = {metric: loss - _loss(others)[metric] for metric, loss in _loss(whole).items()}
            found.append(Attribution(run, device, noise, part, _loss(alone), won, _rms(alone), _rms(others)))
        for cell in cells:
            place = cell["cell"]
            same = (cell["run"], place["device"], place["noise"]) == (run, device, noise)
            sampled = place["noise_scale"] == 1 and place["shots"] is not None
            if same and sampled and place.get("mitigation") in (None, "none"):
                added = {metric: loss - _loss(whole)[metric] for metric, loss in _loss(cell).items()}
                found.append(Attribution(run, device, noise, f"shots {place['shots']}", added, None, _rms(cell), None))
    return found


def thresholds(cells: Sequence[dict[str, Any]], margin: float) -> list[Threshold]:
    """Shots that are enough, and noise that is too much.

    Args:
        cells: Of the grid.
        margin: Loss that matters.
    """
    found = []
    plain = [each for each in cells if each["cell"].get("mitigation") in (None, "none")]
    for (run, device, noise, scale), group in _grouped(plain, "device", "noise", "noise_scale"):
        sampled = sorted((each for each in group if each["cell"]["shots"] is not None), key=_shots)
        for metric in METRICS if len(sampled) > 1 else ():
            enough = None
            for cell in reversed(sampled):
                if not cell["metrics"][metric]["non_inferior"]:
                    break
                enough = _shots(cell)
            says = (
                f"{enough} shots rule out a loss of {metric} of {margin:g}"
                if enough is not None
                else f"not even {_shots(sampled[-1])} shots rule out a loss of {metric} of {margin:g}"
            )
            found.append(Threshold(run, device, noise, metric, "shots", scale, enough, says))
    for (run, device, noise, shots), group in _grouped(plain, "device", "noise", "shots"):
        scaled = sorted(group, key=lambda each: float(each["cell"]["noise_scale"]))
        for metric in METRICS if noise is not None and len(scaled) > 1 else ():
            points = [(each["cell"]["noise_scale"], -each["metrics"][metric]["difference"]) for each in scaled]
            crossed = _crossing(points, margin)
            if crossed is None:
                says = f"the loss of {metric} stays under {margin:g} up to {points[-1][0]:g} times the noise"
            elif crossed == points[0][0]:
                says = f"the loss of {metric} is over {margin:g} at {crossed:g} times the noise already"
            else:
                says = f"the loss of {metric} passes {margin:g} at {crossed:.2g} times the noise"
            found.append(Threshold(run, device, noise, metric, "noise scale", shots, crossed, says))
    return found


def recoveries(cells: Sequence[dict[str, Any]]) -> list[Recovery]:
    """Each mitigated cell beside the same one without.

    Args:
        cells: Of the grid.
    """
    fields = ("device", "noise", "noise_scale", "shots")
    plain = {
        (each["run"], *(each["cell"][field] for field in fields)): each
        for each in cells
        if each["cell"].get("mitigation") == "none"
    }
    found = []
    for cell in cells:
        place = cell["cell"]
        before = plain.get((cell["run"], *(place[field] for field in fields)))
        if before is None or place["mitigation"] == "none":
            continue
        shots = before["cost"]["shots"]
        found.append(
            Recovery(
                run=cell["run"],
                device=place["device"],
                noise=place["noise"],
                noise_scale=place["noise_scale"],
                shots=place["shots"],
                mitigation=place["mitigation"],
                rms=(_rms(before), _rms(cell)),
                loss={metric: (_loss(before)[metric], loss) for metric, loss in _loss(cell).items()},
                shots_factor=cell["cost"]["shots"] / shots if shots else None,
            )
        )
    return found


def _crossing(points: Sequence[tuple[float, float]], margin: float) -> float | None:
    """Where a loss first passes a margin, linear between the points; None: nowhere."""
    before = None
    for scale, loss in points:
        if loss > margin:
            if before is None:
                return scale
            return before[0] + (margin - before[1]) / (loss - before[1]) * (scale - before[0])
        before = (scale, loss)
    return None


def _grouped(cells: Sequence[dict[str, Any]], *fields: str) -> list[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Cells by run and some fields of their condition, in their order."""

    def key(each: dict[str, Any]) -> tuple[Any, ...]:
        return (each["run"], *(each["cell"][field] for field in fields))

    order = {found: place for place, found in reversed(list(enumerate(map(key, cells))))}
    return [(found, list(group)) for found, group in groupby(sorted(cells, key=lambda each: order[key(each)]), key)]


def _parts(cell: dict[str, Any]) -> tuple[str, ...] | None:
    parts = cell["cell"]["noise_parts"]
    return None if parts is None else tuple(parts)


def _shots(cell: dict[str, Any]) -> int:
    return int(cell["cell"]["shots"])


def _loss(cell: dict[str, Any]) -> dict[str, float]:
    return {metric: -cell["metrics"][metric]["difference"] for metric in METRICS}


def _rms(cell: dict[str, Any]) -> float:
    squares = [each**2 for each in cell["signal"]["rmse"]]
    return float((sum(squares) / len(squares)) ** 0.5)
