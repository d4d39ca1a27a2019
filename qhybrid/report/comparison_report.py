"""The part of a report that tells what devices, shots and noise cost."""

from collections.abc import Sequence
from typing import Any

from qhybrid.circuits.spec import load_circuit
from qhybrid.experiments.evaluation_table import METRIC_NAMES
from qhybrid.report.figures_comparison import (
    Curve,
    Loss,
    curves_figure,
    forest_figure,
    scatter_figure,
    waterfall_figure,
)
from qhybrid.report.layouts import layout_pictures
from qhybrid.report.page import Picture, Section, Table
from qhybrid.report.recoveries import recovery_pictures
from qhybrid.report.run_data import Condition, RunData
from qhybrid.report.words import p_value, signed, slope, with_interval

METRICS = ("accuracy", "auc")
MOST_LINES = 7
MOST_PANELS = 4
PART_NAMES = {
    "gates1q": "one-qubit gates", "gates2q": "two-qubit gates", "thermal": "thermal relaxation",
    "readout": "readout", "idle": "waiting",
}  # fmt: skip


def comparison_section(data: RunData) -> Section:
    """Tables and figures of the comparison of a run."""
    comparison = data.comparison or {}
    repeats = max(each.cell["cell"]["repeats"] for each in data.conditions)
    pictures = [
        *[_forest(data, metric) for metric in METRICS],
        *[picture for metric in METRICS for picture in _curves(data, metric)],
        *_waterfalls(data),
        *recovery_pictures(data),
        *_scatter(data),
        *layout_pictures(data),
    ]
    paragraphs = [
        f"{len(data.conditions)} conditions, each with up to {repeats} draws of the shots, on the same "
        f"{data.conditions[0].n} images. Every difference is paired: the same trained head on the same images, against "
        "exact expectation values without noise. Intervals hold images and shots. “Loss ruled out” needs both the "
        "paired score test (Tango) and the bootstrap, each one-sided at 5 %.",
        *[f"Left out: {each}." for each in comparison.get("left_out", [])],
    ]
    return Section(
        "devices",
        "What the devices cost",
        paragraphs,
        tables=[_usual(data)],
        pictures=pictures,
        folded=[_all(data), *_costs(data), *_thresholds(comparison)],
    )


def _usual(data: RunData) -> Table:
    devices = ", ".join(dict.fromkeys(each.cell["cell"]["device"] for each in data.usual))
    columns = ["noise, shots", "accuracy [95 %]", "difference [95 %]", "difference of AUC [95 %]", "flipped", "signal"]
    return Table(
        f"{devices}: full noise, usual shots. Signal: slope of noisy against exact expectation values, 1 is no loss.",
        [*columns, f"loss > {data.margin:g}"],
        [
            [
                data.label(each),
                _value(each, "accuracy"),
                _difference(each, "accuracy"),
                _difference(each, "auc"),
                f"{each.cell['flipped']['mean']:.1f} of {each.n}",
                slope(each.cell),
                "ruled out" if each.ruled_out else "not ruled out",
            ]
            for each in data.usual
        ],
    )


def _all(data: RunData) -> Table:
    return Table(
        "All conditions; p is of the paired bootstrap, corrected by Holm over all of them; p of a loss is the score "
        "test's.",
        ["device", "noise", "shots", "accuracy [95 %]", "difference [95 %]", "p, Holm",
         f"p of a loss > {data.margin:g}", "difference of AUC [95 %]", "p, Holm", "flipped", "ECE", "Brier", "signal"],
        [
            [
                each.cell["cell"]["device"],
                each.noise,
                each.shots,
                _value(each, "accuracy"),
                _difference(each, "accuracy"),
                p_value(each.cell["metrics"]["accuracy"]["p_holm"]),
                p_value(each.equivalence.p_value),
                _difference(each, "auc"),
                p_value(each.cell["metrics"]["auc"]["p_holm"]),
                f"{each.cell['flipped']['mean']:.1f}",
                f"{each.cell['calibration']['ece']['value']:.3f}",
                f"{each.cell['calibration']['brier']['value']:.3f}",
                slope(each.cell),
            ]
            for each in data.conditions
        ],
        text_columns=3,
    )  # fmt: skip


def _costs(data: RunData) -> list[Table]:
    return [
        Table(
            "What each condition took to simulate.",
            ["condition", "circuits", "shots", "shots of the fit, once", "seconds"],
            [
                [each.cell["cell"]["label"], *[f"{each.cell['cost'][key]:,}" for key in ("circuits", "shots")],
                 f"{each.cell['adaptation']['shots']:,}" if "adaptation" in each.cell else "",
                 f"{each.cell['cost']['seconds']:.2f}"]
                for each in data.conditions
            ],
        )
    ]  # fmt: skip


def _thresholds(comparison: dict[str, Any]) -> list[Table]:
    """Where a metric passes the margin; what shots rule out is told by the table of all conditions."""
    found = [each for each in comparison.get("thresholds", []) if each["kind"] == "noise scale"]
    if not found:
        return []
    return [
        Table(
            f"Where a loss of {comparison['margin']:g} begins as the noise grows.",
            ["noise", "shots", "what"],
            [[f"{each['device']}, {each['noise']}", str(each["at"] or "exact"), each["says"]] for each in found],
            text_columns=3,
        )
    ]


def _forest(data: RunData, metric: str) -> Picture:
    name = METRIC_NAMES[metric]
    shown = [each for each in data.conditions if each.cell["cell"]["noise_scale"] == 1 and not each.adapted]
    rows = []
    for each in shown:
        found = each.cell["metrics"][metric]
        ruled_out = each.ruled_out if metric == "accuracy" else bool(found["non_inferior"])
        interval = each.equivalence.interval if metric == "accuracy" else tuple(found["difference_interval"])
        rows.append(Loss(each.shots, data.place(each), found["difference"], interval, ruled_out))
    table = Table(
        f"Difference of {name} to exact values without noise, full noise.",
        ["condition", "difference [interval]", f"loss > {data.margin:g}"],
        [
            [f"{row.group}, {row.label}", f"{signed(row.difference)} [{signed(row.interval[0])}, "
             f"{signed(row.interval[1])}]", "ruled out" if row.ruled_out else "not ruled out"]
            for row in rows
        ],
    )  # fmt: skip
    how = (
        "Intervals are those of the score test, 90 %, as its one-sided 5 % wants: they know of changes that did not "
        "occur yet."
        if metric == "accuracy"
        else "Intervals are 95 %, from the bootstrap over images and shots; the claim is one-sided at 5 %, so that an "
        "interval may end a little left of the line."
    )
    open_rows = sum(not row.ruled_out for row in rows)
    return Picture(
        f"loss-{metric}",
        f"Loss of {name} by condition",
        f"Left of the dashed line a loss is larger than {data.margin:g}. {how}",
        f"{len(rows)} conditions; a loss over {data.margin:g} is ruled out in {len(rows) - open_rows} of them.",
        forest_figure(rows, name, data.margin),
        [table],
    )


def _curves(data: RunData, metric: str) -> list[Picture]:
    name = METRIC_NAMES[metric]
    exact = data.conditions[0].cell["metrics"][metric]["exact"]
    full = [each for each in data.plain if each.cell["cell"]["noise_scale"] == 1]
    shots = [each for each in full if each.cell["cell"]["shots"] is not None]
    usual = {each.cell["cell"]["shots"] for each in data.usual}
    scaled = [each for each in data.plain if each.cell["cell"]["noise"] and each.cell["cell"]["shots"] in usual]
    pictures = []
    for key, cells, x_label, title in (
        ("shots", shots, "shots of every circuit", f"{name[0].upper()}{name[1:]} against shots"),
        (
            "noise_scale",
            scaled,
            "strength of the noise (1: as calibrated)",
            f"{name[0].upper()}{name[1:]} against the noise",
        ),
    ):
        curves = _lines(cells, key, metric)
        if curves:
            said = "; ".join(
                f"{curve.label}: {curve.values[0]:.3f} at {curve.x[0]:g}, {curve.values[-1]:.3f} at {curve.x[-1]:g}"
                for curve in curves
            )
            pictures.append(
                Picture(
                    f"{metric}-{key.replace('_', '-')}",
                    title,
                    "Lines are 95 % intervals over images and shots; they stand side by side to be seen.",
                    f"Exact, without noise: {exact:.3f}. {said}.",
                    curves_figure(curves, exact, name, x_label, logarithmic=key == "shots"),
                    [
                        Table(
                            f"{name} [95 %].",
                            ["condition", x_label, f"{name} [95 %]"],
                            [
                                [curve.label, f"{x:g}", with_interval(value, interval)]
                                for curve in curves
                                for x, value, interval in zip(curve.x, curve.values, curve.intervals, strict=True)
                            ],
                        )
                    ],
                )
            )
    return pictures


def _lines(conditions: Sequence[Condition], key: str, metric: str) -> list[Curve]:
    """One curve a device and noise model, of those with two points or more."""
    groups: dict[str, list[Condition]] = {}
    several = len({each.cell["cell"]["device"] for each in conditions}) > 1
    for each in conditions:
        place = each.cell["cell"]
        name = place["noise"] or "no noise"
        groups.setdefault(f"{place['device']}, {name}" if several else name, []).append(each)
    curves = []
    for label, members in groups.items():
        ordered = sorted(members, key=lambda each: float(each.cell["cell"][key]))
        found = [each.cell["metrics"][metric] for each in ordered]
        places = [float(each.cell["cell"][key]) for each in ordered]
        intervals = [tuple(each["interval"]) for each in found]
        if len(set(places)) > 1:
            curves.append(Curve(label, places, [each["value"] for each in found], intervals))
    return curves[:MOST_LINES]


def _waterfalls(data: RunData) -> list[Picture]:
    runs = {each.cell["run"] for each in data.conditions}
    rows = [each for each in (data.comparison or {}).get("attributions", []) if each["run"] in runs]
    usual = {f"shots {each.cell['cell']['shots']}" for each in data.usual}
    pictures: list[Picture] = []
    for device, noise in dict.fromkeys((each["device"], each["noise"]) for each in rows):
        group = [each for each in rows if (each["device"], each["noise"]) == (device, noise)]
        by_part = {each["part"]: each for each in group}
        whole = by_part["all parts"]["rms_alone"]
        parts = [(PART_NAMES[part], by_part[part]["rms_alone"]) for part in PART_NAMES if part in by_part]
        steps = [*parts, ("together, not summed", whole - sum(size for _, size in parts))]
        shots = next((part for part in by_part if part in usual), None)
        if shots is not None:
            steps.append((f"{shots.removeprefix('shots ')} shots", by_part[shots]["rms_alone"] - whole))
        pictures.append(_waterfall(device, noise, group, steps, len(pictures)))
    return pictures


def _waterfall(
    device: str, noise: str, group: Sequence[dict[str, Any]], steps: Sequence[tuple[str, float]], number: int
) -> Picture:
    largest = max(steps, key=lambda step: step[1])[0]
    table = Table(
        "Each part alone, and what is won back without it; parts do not add up.",
        ["part", "RMS error, alone", "RMS error without it", "AUC loss, alone", "AUC won back", "accuracy loss, alone"],
        [
            [
                PART_NAMES.get(each["part"], each["part"]),
                f"{each['rms_alone']:.4f}",
                "" if each["rms_removed"] is None else f"{each['rms_removed']:.4f}",
                signed(each["alone"]["auc"]),
                "" if each["removed"] is None else signed(each["removed"]["auc"]),
                signed(each["alone"]["accuracy"]),
            ]
            for each in group
        ],
    )
    return Picture(
        f"parts-{number + 1}",
        f"Which part of the noise does it: {noise}",
        f"Error (root mean square) of the expectation values on {device}: each part of the noise alone, then what "
        "acting together changes against their sum, then what the shots add. The last bar is what one evaluation has.",
        f"The largest part is {largest}. The table under the figure holds all of them.",
        waterfall_figure(
            [(name, 100 * size) for name, size in steps], "all", "RMS error of expectation values, hundredths"
        ),
        [table],
    )  # fmt: skip


def _scatter(data: RunData) -> list[Picture]:
    shown = [each for each in data.usual if each.cell["cell"]["noise"]][:MOST_PANELS] or data.usual[:1]
    clouds = {
        data.label(each): (
            each.arrays["reference_expectation_values"],
            each.arrays["expectation_values"],
        )
        for each in shown
    }
    names = [str(word) for word in load_circuit(data.run.circuit).observables]
    table = Table(
        "Slope (1 is no loss) and root mean square error of each observable; errors are those of single draws.",
        ["condition", *[f"{name}: slope, RMS" for name in names]],
        [
            [data.label(each), *[
                f"{'–' if tilt is None else f'{tilt:.3f}'}, {rms:.3f}"
                for tilt, rms in zip(each.cell["signal"]["slope"], each.cell["signal"]["rmse"], strict=True)
            ]]
            for each in shown
        ],
    )  # fmt: skip
    said = "; ".join(f"{data.label(each)}: mean slope {slope(each.cell)}" for each in shown)
    return [
        Picture(
            "expectation-values",
            "Expectation values on the device and exact",
            "One dot an image and observable, the mean over the draws of the shots. On the dashed line nothing is "
            "lost; a flatter cloud is signal lost to noise.",
            f"{said}.",
            scatter_figure(clouds, names),
            [table],
            wide=len(clouds) > 1,
        )
    ]


def _value(condition: Condition, metric: str) -> str:
    found = condition.cell["metrics"][metric]
    return with_interval(found["value"], found["interval"])


def _difference(condition: Condition, metric: str) -> str:
    found = condition.cell["metrics"][metric]
    low, high = found["difference_interval"]
    return f"{signed(found['difference'])} [{signed(low)}, {signed(high)}]"
