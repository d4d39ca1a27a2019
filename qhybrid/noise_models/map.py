"""A machine as a map: qubits coloured by their readout error, edges by the error of their two-qubit gate.

Coordinates of the drawing are inches, so that numbers fit into their circles.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colorbar import ColorbarBase
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from qhybrid.noise_models.layout import stress_layout
from qhybrid.noise_models.summary import Edge, Summary

INK, GREY = "#1A1A1A", "#8C8C8C"
# Blue and orange are told apart with every common colour blindness, and both scales also run from light to dark.
QUBITS = LinearSegmentedColormap.from_list("qubits", ["#DCEBF7", "#56B4E9", "#0072B2", "#06304D"])
EDGES = LinearSegmentedColormap.from_list("edges", ["#FBE3BF", "#E69F00", "#C04F00", "#4A1600"])
RING = "#009E73"
"""Green, for what is neither a qubit's nor an edge's error."""
PAGE = 7.1
"""Widest drawing, inches: two columns of a journal."""
LEAST = 5.2
"""Narrowest drawing, inches: the colour scales side by side."""
UNIT = 0.62
"""Distance of neighbours, inches, where there is room."""
MARGIN, HEAD, FOOT, KEY = 0.28, 0.5, 0.72, 0.22
"""White around the map, and the room of title, of colour scales and of the key to what is faulty; inches."""
FILLING = 0.68
"""Diameter of a circle as a part of the least distance of two qubits."""
DASHES = (0, (2, 1.5))
UNIFORM = 1.001
"""Values that differ by less than this factor need no colour scale."""


def machine_map(summary: Summary, layout: Sequence[int] = ()) -> Figure:
    """Draw the map of a machine.

    Args:
        summary: Of its noise model.
        layout: Qubits that a circuit uses; ringed.
    """
    model = summary.model
    edges = sorted({*summary.edge_errors, *model.faulty_edges})
    places = np.array(model.coordinates or stress_layout(model.n_qubits, edges), dtype=float)
    places = (places - places.min(axis=0)) * (1, -1)  # rows are counted downwards
    across, down = np.ptp(places, axis=0)
    least = _least_distance(places)
    unit = min(UNIT / least, (PAGE - 2 * MARGIN) / (across + least))
    radius = unit * least * FILLING / 2
    width = max(unit * across + 2 * (MARGIN + radius), LEAST)
    map_height = unit * down + 2 * (MARGIN + radius)
    foot = FOOT + (KEY if model.faulty_qubits or model.faulty_edges else 0)
    height = HEAD + map_height + foot
    figure = Figure(figsize=(width, height), dpi=200)
    axes = figure.add_axes((0, foot / height, 1, map_height / height))
    axes.set(xlim=(0, width), ylim=(0, map_height))
    axes.set_axis_off()
    centre = np.array([(width - unit * across) / 2, map_height - MARGIN - radius])
    at = places * unit + centre
    _draw_edges(axes, summary, at, radius, edges)
    _draw_qubits(axes, summary, at, radius)
    rings = [Circle(tuple(at[qubit]), 1.28 * radius) for qubit in layout]
    if rings:
        axes.add_collection(PatchCollection(rings, facecolors="none", edgecolors=RING, linewidths=2.2, zorder=5))
    date = f"calibrated {model.date[:10]}" if model.date else "parametric"
    gate = f", {summary.two_qubit_gate.upper()}" if summary.two_qubit_gate else ""
    _write(figure, 0.25, height - 0.24, model.name, size=12, weight="bold")
    _write(figure, 0.25, height - 0.47, f"{date}, {model.n_qubits} qubit{'s' * (model.n_qubits > 1)}{gate}", size=9)
    room, top = width / 2 - 0.5, foot - 0.1
    _draw_scale(figure, "readout error", list(summary.readout_errors.values()), QUBITS, (0.25, top), room)
    errors = list(summary.edge_errors.values())
    _draw_scale(figure, "two-qubit gate error", errors, EDGES, (width / 2 + 0.25, top), room)
    _draw_legend(figure, summary)
    return figure


def _least_distance(places: np.ndarray) -> float:
    if len(places) == 1:
        return 1.0
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return max(float(distances[~np.eye(len(places), dtype=bool)].min()), 1e-3)


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    """Smallest and largest positive value; None where they are all alike."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) < UNIFORM * min(positive):
        return None
    return min(positive), max(positive)


def _colours(values: Sequence[float], palette: LinearSegmentedColormap) -> list[tuple[float, ...]]:
    """A colour for each value; white for none, the middle of the palette where all are alike."""
    ends = _range(values)
    norm = None if ends is None else LogNorm(*ends, clip=True)
    shades = [0.5 if norm is None or value <= 0 else float(norm(value)) for value in values]
    return [(1.0, 1.0, 1.0) if value <= 0 else palette(shade)[:3] for value, shade in zip(values, shades, strict=True)]


def _draw_edges(axes: Axes, summary: Summary, at: np.ndarray, radius: float, edges: Sequence[Edge]) -> None:
    errors = summary.edge_errors
    crowded = len(edges) > 3 * len(at)
    thickness = 0.8 if crowded else 72 * radius * 0.55  # points
    working = [edge for edge in edges if edge in errors]
    colours = _colours([errors[edge] for edge in working], EDGES)
    lines = [at[list(edge)] for edge in working]
    if not crowded:  # a dark rim, so that the lightest colours stand off the paper
        axes.add_collection(LineCollection(lines, colors=[GREY], linewidths=thickness + 1.2, zorder=1))
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=thickness, zorder=1.1))
    faulty = [at[list(edge)] for edge in edges if edge not in errors]
    axes.add_collection(LineCollection(faulty, colors=[GREY], linewidths=1.3, linestyles=[DASHES], zorder=1.2))
    middles = np.array([line.mean(axis=0) for line in faulty]).reshape(-1, 2)
    axes.plot(*middles.T, "x", color=INK, markersize=72 * radius * 0.45, zorder=1.3)


def _draw_qubits(axes: Axes, summary: Summary, at: np.ndarray, radius: float) -> None:
    readout = summary.readout_errors
    colours = dict(zip(readout, _colours(list(readout.values()), QUBITS), strict=True))
    circles = [Circle(place, radius) for place in at]
    fills = [colours.get(q, (0.93, 0.93, 0.93)) for q in range(len(at))]
    axes.add_collection(PatchCollection(circles, facecolors=fills, edgecolors=GREY, linewidths=0.6, zorder=2))
    size = min(9.0, 72 * radius * (0.66 if len(at) > 100 else 0.85))
    for q, place in enumerate(at):
        dark = np.dot(to_rgb(fills[q]), (0.299, 0.587, 0.114)) < 0.5
        colour = "white" if dark else INK
        axes.text(place[0], place[1], str(q), size=size, color=colour, ha="center", va="center_baseline", zorder=4)
        if q not in readout:
            reach = radius * 1.1
            for slope in (1, -1):
                xs, ys = place[0] + np.array([-reach, reach]), place[1] + slope * np.array([-reach, reach])
                axes.plot(xs, ys, color=GREY, linewidth=1.6, zorder=3)


def _draw_scale(
    figure: Figure,
    quantity: str,
    values: Sequence[float],
    palette: LinearSegmentedColormap,
    corner: tuple[float, float],
    room: float,
) -> None:
    """A colour bar with its name, or the one value that all have; right of and below a corner, `room` wide, inches."""
    width, height = figure.get_size_inches()
    left, top = corner
    _write(figure, left, top, quantity, size=8.5)
    ends = _range(values)
    if ends is None:
        value = max(values, default=0.0)
        if not values:
            _write(figure, left, top - 0.22, "none", size=8.5)
            return
        figure.add_artist(
            Circle((left + 0.07, top - 0.22), 0.06, transform=figure.dpi_scale_trans,
                   facecolor=_colours([value], palette)[0], edgecolor=GREY, linewidth=0.6)
        )  # fmt: skip
        _write(figure, left + 0.22, top - 0.22, f"{value:.3g} everywhere", size=8.5)
        return
    axes = figure.add_axes((left / width, (top - 0.24) / height, room / width, 0.12 / height))
    bar = ColorbarBase(axes, cmap=palette, norm=LogNorm(*ends), orientation="horizontal")
    decades = np.log10(ends[1] / ends[0])
    bar.locator = LogLocator(subs=(1.0, 2.0, 5.0) if decades < 1.8 else (1.0, 3.0) if decades < 2.6 else (1.0,))
    bar.formatter = FuncFormatter(lambda value, _: f"{value:.6f}".rstrip("0"))
    bar.ax.xaxis.set_minor_formatter(NullFormatter())
    bar.update_ticks()
    bar.minorticks_off()
    bar.outline.set_linewidth(0.5)
    axes.tick_params(labelsize=7.5, length=2.5, width=0.6, color=GREY, labelcolor=INK, pad=2)


def _draw_legend(figure: Figure, summary: Summary) -> None:
    """How what is faulty is drawn, where there is any."""
    model = summary.model
    handles = []
    if model.faulty_qubits:
        cross: dict[str, Any] = {"marker": "x", "color": GREY, "linestyle": "none", "markeredgewidth": 1.6}
        handles.append(Line2D([], [], label=f"faulty qubit ({len(model.faulty_qubits)})", **cross))
    if model.faulty_edges:
        dashes: dict[str, Any] = {
            "color": GREY,
            "linewidth": 1.3,
            "linestyle": DASHES,
            "marker": "x",
            "markeredgecolor": INK,
        }
        handles.append(Line2D([], [], label=f"faulty edge ({len(model.faulty_edges)})", **dashes))
    if handles:
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.25 / figure.get_size_inches()[0], 0.01)}
        figure.legend(handles=handles, ncols=2, fontsize=8, frameon=False, borderaxespad=0.1, borderpad=0.1, **place)


def _write(figure: Figure, x: float, y: float, words: str, **style: Any) -> None:
    """Text at a place in inches."""
    figure.text(x, y, words, transform=figure.dpi_scale_trans, color=INK, ha="left", va="center", **style)
