"""The verdict of a study in plain sentences, whichever way it falls."""

from collections.abc import Sequence
from typing import Any

from qhybrid.experiments.study_spec import StudySpec
from qhybrid.experiments.study_tests import TESTED

WORDS = {"accuracy": "accuracy", "auc": "AUC"}
ENOUGH_SEEDS = 5

Test = tuple[dict[str, Any], str, dict[str, Any]]
"""A comparison, one of its metrics, and what was found for it."""


def verdict(
    arms: Sequence[dict[str, Any]], compared: Sequence[dict[str, Any]], study: StudySpec, *, n_samples: int
) -> list[str]:
    """Say which arms differ, which are shown not to, and what stays open.

    Args:
        arms: Of `study.json`.
        compared: Its comparisons, corrected.
        study: The `[study]` table.
        n_samples: Test images.

    Returns:
        One sentence each.
    """
    said = []
    seeds = len(study.seeds)
    over = f"{n_samples} test images and {seeds} seed{'s' if seeds > 1 else ''}"
    tests = [(each, metric, each["metrics"][metric]) for each in compared for metric in TESTED]
    different = _different(compared)
    if compared and not different:
        of_what = (
            f"no arm differs from {compared[0]['against']!r}"
            if len({each["against"] for each in compared}) == 1
            else "no change makes a difference"
        )
        said.append(
            f"On {over} {of_what} in accuracy or AUC at the 5 % level ({_many(len(compared))}, corrected by Holm)."
        )
    for each, metric, test in different:
        better, other = (each["arm"], each["against"])[:: 1 if test["difference"] > 0 else -1]
        small = f", a difference smaller than {study.margin:g}" if test["verdict"].endswith("margin") else ""
        said.append(
            f"On {over} {better!r} is better than {other!r} by {abs(test['difference']):.3f} in {WORDS[metric]} "
            f"({_signed_range(test)} for {each['arm']!r}, p = {test['p_holm']:.2g} after Holm){small}."
        )
    for metric in TESTED:
        said += _not_different([test for test in tests if test[1] == metric], metric, study.margin)
    if compared and seeds < ENOUGH_SEEDS:
        say = "One seed says" if seeds == 1 else f"{seeds} seeds say"
        said.append(f"{say} little about other trainings; {ENOUGH_SEEDS} or more are advised.")
    for arm in arms:
        if failed := [run for run in arm["runs"] if run["state"] == "failed"]:
            said.append(
                f"{len(failed)} of {len(arm['runs'])} trainings of {arm['name']!r} failed and are in no mean "
                f"(seed {failed[0]['seed']}: {failed[0]['message']})."
            )
    return said


def device_verdict(devices: Sequence[dict[str, Any]]) -> list[str]:
    """Say for each condition what it costs, and whether arms differ there.

    Args:
        devices: Of `study.json`, corrected.

    Returns:
        One or two sentences each.
    """
    said = []
    for each in devices:
        losses = _different(each["losses"])
        for arm, metric, test in losses:
            way = "loses" if test["difference"] < 0 else "gains"
            said.append(
                f"On {each['label']}, {arm['arm']!r} {way} {abs(test['difference']):.3f} in {WORDS[metric]} "
                f"({_signed_range(test)}, p = {test['p_holm']:.2g} after Holm)."
            )
        if not losses:
            known = "; ".join(_room(each["losses"]))
            said.append(f"On {each['label']} no arm is shown to lose or gain accuracy or AUC: {known}.")
        for arm, metric, test in _different(each["comparisons"]):
            better, other = (arm["arm"], arm["against"])[:: 1 if test["difference"] > 0 else -1]
            said.append(
                f"There {better!r} is better than {other!r} by {abs(test['difference']):.3f} in {WORDS[metric]} "
                f"({_signed_range(test)} for {arm['arm']!r}, p = {test['p_holm']:.2g} after Holm)."
            )
    return said


def _room(losses: Sequence[dict[str, Any]]) -> list[str]:
    """What a device may still cost where no loss is shown."""
    tests = {metric: [arm["metrics"][metric] for arm in losses] for metric in TESTED}
    sure = [metric for metric in TESTED if all(test["verdict"] == "equivalent" for test in tests[metric])]
    room = {
        metric: max(0, *(-test["interval"][0] for test in tests[metric])) for metric in TESTED if metric not in sure
    }
    said = [f"losses of {WORDS[metric]} up to {loss:.3f} are not excluded" for metric, loss in room.items()]
    if not sure:
        return said
    margin = tests[sure[0]][0]["claims"]["equivalent"]["margin"]
    names = " and ".join(WORDS[metric] for metric in sure)
    return [f"a change of {margin:g} in {names} is ruled out for every arm", *said]


def _different(compared: Sequence[dict[str, Any]]) -> list[Test]:
    """What is shown to differ, the surest first."""
    tests = [(each, metric, each["metrics"][metric]) for each in compared for metric in TESTED]
    different = [test for test in tests if test[2]["verdict"].startswith(("better", "worse"))]
    return sorted(different, key=lambda found: found[2]["p_holm"])


def _not_different(tests: Sequence[Test], metric: str, margin: float) -> list[str]:
    """What was shown of the pairs that do not differ, and how much the rest leaves open."""
    names: dict[str, list[str]] = {"equivalent": [], "non-inferior": [], "undecided": []}
    for each, _, test in tests:
        if test["verdict"] in names:
            names[test["verdict"]].append(_pair(each))
    said = []
    if names["equivalent"]:
        said.append(f"Shown to differ by less than {margin:g} in {WORDS[metric]}: {'; '.join(names['equivalent'])}.")
    if names["non-inferior"]:
        said.append(f"Shown to lose less than {margin:g} in {WORDS[metric]}: {'; '.join(names['non-inferior'])}.")
    if names["undecided"]:
        open_ = [test for _, _, test in tests if test["verdict"] == "undecided"]
        # The cautious test of equality may be wider: the bootstrap of equal predictions has no width at all.
        limits = [limit for test in open_ for limit in (*test["interval"], *test["claims"]["equivalent"]["interval"])]
        said.append(
            f"Parity within {margin:g} in {WORDS[metric]} is not shown for {_of(len(names['undecided']), len(tests))}: "
            f"the data leave room for differences from {min(limits):+.3f} to {max(limits):+.3f}."
        )
    return said


def _pair(each: dict[str, Any]) -> str:
    return f"{each['arm']!r} against {each['against']!r}"


def _signed_range(test: dict[str, Any]) -> str:
    low, high = test["interval"]
    return f"{test['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _many(n: int) -> str:
    return f"{n} comparison{'s' if n > 1 else ''}"


def _of(n: int, total: int) -> str:
    return "the one comparison" if total == 1 else f"{n} of {total} comparisons"
