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
        found.append(Attribution(run, device, noise, "all parts", loss_of(whole), None, rms_of(whole), None))
        for part in PARTS:
            alone, others = by_parts[part,], by_parts[tuple(other for other in PARTS if other != part)]
            won = {metric: loss - loss_of(others)[metric] for metric, loss in loss_of(whole).items()}
            found.append(Attribution(run, device, noise, part, loss_of(alone), won, rms_of(alone), rms_of(others)))
        for cell in cells:
            place = cell["cell"]
            same = (cell["run"], place["device"], place["noise"]) == (run, device, noise)
            sampled = place["noise_scale"] == 1 and place["shots"] is not None
            if same and sampled and is_bare(cell):
                added = {metric: loss - loss_of(whole)[metric] for metric, loss in loss_of(cell).items()}
                found.append(
                    Attribution(run, device, noise, f"shots {place['shots']}", added, None, rms_of(cell), None)
                )
    return found


def thresholds(cells: Sequence[dict[str, Any]], margin: float) -> list[Threshold]:
    """Shots that are enough, and noise that is too much.

    Args:
        cells: Of the grid.
        margin: Loss that matters.
    """
    found = []
    plain = [each for each in cells if is_bare(each)]
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


def is_bare(cell: dict[str, Any]) -> bool:
    """Whether nothing is done about the errors of a cell: no mitigation, no adaptation."""
    return cell["cell"].get("mitigation") in (None, "none") and cell["cell"].get("adapt") is None


def loss_of(cell: dict[str, Any]) -> dict[str, float]:
    """What a cell loses of each metric, to exact values without noise."""
    return {metric: -cell["metrics"][metric]["difference"] for metric in METRICS}


def rms_of(cell: dict[str, Any]) -> float:
    """Root mean square error of the expectation values of a cell, over all observables."""
    squares = [each**2 for each in cell["signal"]["rmse"]]
    return float((sum(squares) / len(squares)) ** 0.5)
