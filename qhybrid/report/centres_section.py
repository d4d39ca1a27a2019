"""The part of a study's report about centres: each by networks that have not seen it, and the differences within."""

from typing import Any

from qhybrid.experiments.evaluation_table import METRIC_NAMES
from qhybrid.report.page import Section, Table
from qhybrid.report.words import p_value, signed_interval

TESTED = ("accuracy", "auc")


def centres_section(found: dict[str, Any]) -> list[Section]:
    """Make the section of a study whose images come from several centres; nothing for another.

    Args:
        found: `study.json`.
    """
    if not found.get("centres"):
        return []
    means, unseen = found["mean_of_centres"], len(found["parts"]) > 1
    whose = "networks that have not seen it" if unseen else next(iter(found["parts"]))
    scores = Table(
        f"Each centre by {whose}, mean over seeds: accuracy / AUC.",
        ["arm", *[f"{each['name']}, {each['n_samples']} images" for each in found["centres"]], "mean of the centres"],
        [[name, *[_both(each["arms"][name]) for each in found["centres"]], _both(means[name])] for name in means],
    )
    tests = found.get("mean_of_centres_auc") or ()
    differences = Table(
        f"Paired differences of the mean of the centres' {METRIC_NAMES['auc']}s; intervals over seeds and images.",
        ["pair", "difference [95 %]", "p, Holm"],
        [
            [
                f"{each['arm']} against {each['against']}",
                signed_interval(each["difference"], each["interval"]),
                p_value(each["p_holm"]),
            ]
            for each in tests
        ],
    )
    text = (
        f"An {METRIC_NAMES['auc']} over the images of all centres ranks scores of several networks together, and "
        "changes where those of one are merely higher; the mean of the centres' own does not."
        if unseen
        else f"The mean of the centres' own {METRIC_NAMES['auc']}s does not depend on how scores at one centre compare "
        "with those at another."
    )
    return [Section("centres", "Centres", [text], tables=[scores, *([differences] if tests else [])])]


def _both(metrics: dict[str, Any]) -> str:
    return " / ".join(f"{metrics[metric]['mean']:.3f}" for metric in TESTED)
