"""What devices do to the arms of a study, as a part of its report."""

from collections.abc import Sequence
from typing import Any

from qhybrid.experiments.evaluation_table import METRIC_NAMES
from qhybrid.experiments.study_tests import TESTED
from qhybrid.report.figures_comparison import Loss, forest_figure
from qhybrid.report.page import Picture, Section, Table
from qhybrid.report.words import p_value, signed_interval, with_interval


def devices_section(found: dict[str, Any]) -> list[Section]:
    """Scores and losses on every device, and the arms compared there; nothing of a study without devices.

    Args:
        found: What `study.json` holds.
    """
    devices = found.get("devices") or []
    if not devices:
        return []
    scores = Table(
        f"Mean over seeds [95 %, other seeds and other images], n = {found['n_samples']}; every run with a draw of the "
        "shots of its own.",
        ["device", "arm", *[METRIC_NAMES[metric] for metric in TESTED]],
        [
            [
                each["label"],
                arm["name"],
                *[
                    with_interval(arm["metrics"][metric]["mean"], tuple(arm["metrics"][metric]["interval"]))
                    for metric in TESTED
                ],
            ]
            for each in devices
            for arm in each["arms"]
        ],
        text_columns=2,
    )
    losses = _table("What the device costs: each arm there against itself with exact values.", devices, "losses")
    between = _table("The arms compared on the device.", devices, "comparisons")
    return [
        Section(
            "devices",
            "On devices",
            [
                "Heads without a circuit are the same on every device. Losses are one family of tests, comparisons "
                "another; each is corrected by Holm over all devices."
            ],
            tables=[scores],
            pictures=[_forest(found, devices, metric, losses) for metric in TESTED],
            folded=[losses, between],
        )
    ]


def _table(caption: str, devices: Sequence[dict[str, Any]], which: str) -> Table:
    rows = [
        [
            each["label"],
            f"{test['arm']} against {test['against']}",
            METRIC_NAMES[metric],
            test["metrics"][metric]["verdict"],
            signed_interval(test["metrics"][metric]["difference"], test["metrics"][metric]["interval"]),
            p_value(test["metrics"][metric]["p_holm"]),
        ]
        for each in devices
        for test in each[which]
        for metric in TESTED
    ]
    return Table(caption, ["device", "pair", "metric", "verdict", "difference [95 %]", "p, Holm"], rows, text_columns=4)


def _forest(found: dict[str, Any], devices: Sequence[dict[str, Any]], metric: str, table: Table) -> Picture:
    name = METRIC_NAMES[metric]
    names = {each["cell"]["device"] for each in devices}
    one = f"{names.pop()}, " if len(names) == 1 else ""  # said by the tables
    rows = [
        (test["arm"], each["label"].removeprefix(one), test["metrics"][metric])
        for each in devices
        for test in each["losses"]
    ]
    said = ("conditions", f"What devices cost: {name}", "to exact values without noise")
    return forest_picture(found, f"device-loss-{metric}", said, name, rows, table)


def forest_picture(
    found: dict[str, Any],
    anchor: str,
    said: tuple[str, str, str],
    metric: str,
    tests: Sequence[tuple[str, str, dict[str, Any]]],
    table: Table,
) -> Picture:
    """Draw paired differences of a study with the margin.

    Args:
        found: What `study.json` holds.
        anchor: Of the picture.
        said: What is counted, the title, and what the differences are to.
        metric: Its name.
        tests: Label, group and test of each row.
        table: With the numbers.
    """
    counted, title, to = said
    rows = [
        Loss(
            label,
            group,
            test["difference"],
            tuple(test["interval"]),
            test["claims"]["non-inferior"]["p_holm"] < found["alpha"],
        )
        for label, group, test in tests
    ]
    shown = sum(row.ruled_out for row in rows)
    return Picture(
        anchor,
        title,
        f"Left of the dashed line an arm is worse by more than {found['margin']:g}. Full dots: that is ruled out, "
        "after correction.",
        f"{len(rows)} {counted}; a loss over {found['margin']:g} is ruled out in {shown} of them.",
        forest_figure(rows, metric, found["margin"], to),
        [table],
    )
