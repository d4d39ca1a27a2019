"""Which arms of a large study its figures draw, and that they say so."""

from typing import Any

from qhybrid.report.study_scores import MOST_LINES, arms_to_draw

NAMES = [f"{weights}, {share}" for weights in ("none", "pretrained") for share in range(6)]


def _found(reference: str) -> dict[str, Any]:
    compared = [{"arm": f"none, {share}", "against": f"pretrained, {share}"} for share in range(6)]
    return {"reference": reference, "comparisons": compared}


def test_the_reference_and_what_is_compared_with_it_are_drawn() -> None:
    drawn = arms_to_draw(_found("pretrained, 5"), NAMES)
    assert len(drawn) == MOST_LINES
    assert drawn == [name for name in NAMES if name in drawn]
    assert drawn[-1] == "pretrained, 5"
    assert drawn[:6] == [f"none, {share}" for share in range(6)]
    drawn = arms_to_draw(_found("pretrained, 0"), NAMES[::-1])
    assert {"none, 0", "pretrained, 0"} < set(drawn)


def test_few_arms_are_all_drawn() -> None:
    assert arms_to_draw(_found("none, 1"), NAMES[:MOST_LINES]) == NAMES[:MOST_LINES]
