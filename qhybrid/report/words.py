"""How a report puts numbers into words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.noise_models.model import BEST_CASE
from qhybrid.report.page import Statement
from qhybrid.report.run_data import Condition, RunData
from qhybrid.statistics import Interval, wilson_interval

FEW = 100
"""With fewer images of a class than these, a report says that they are few."""


def score_statements(data: RunData) -> list[Statement]:
    """What the classifier gets right without noise, in images out of a hundred, with Wilson's intervals."""
    confusion, names = data.confusion, data.run.class_names
    n = int(confusion.sum())
    generated = "generated " if data.generated else ""
    where = f"{n} {generated}images of the {data.split} split"
    if len(names) == 2:
        (tn, fp), (fn, tp) = confusion.tolist()
        found, alarmed = wilson_interval(tp, tp + fn), wilson_interval(fp, tn + fp)
        text = (
            f"On {where}, the classifier recognises {tp} of the {tp + fn} of class “{names[1]}”: "
            f"{hundred(tp, tp + fn)} in 100 (95 %: {span(found)}). Of the {tn + fp} of class “{names[0]}” it calls "
            f"{fp} “{names[1]}”: {hundred(fp, tn + fp)} in 100 (95 %: {span(alarmed)})."
        )
    else:
        right = int(np.trace(confusion))
        text = (
            f"On {where}, the classifier names the class of {right} rightly: {hundred(right, n)} in 100 "
            f"(95 %: {span(wilson_interval(right, n))})."
        )
        totals = confusion.sum(axis=1)
        present = np.flatnonzero(totals)
        worst = int(min(present, key=lambda k: confusion[k, k] / totals[k]))
        text += (
            f" It is worst on class “{names[worst]}”: {confusion[worst, worst]} of {totals[worst]} "
            f"(95 %: {span(wilson_interval(int(confusion[worst, worst]), int(totals[worst])))} in 100)."
        )
    auc, interval = data.metrics["auc"], data.intervals["auc"]
    text += f" Its area under the ROC curve is {auc:.3f} (95 %: {interval[0]:.3f} to {interval[1]:.3f}; 0.5 is chance)."
    lowest = data.intervals["auc"][0]
    if lowest <= 0.5:
        return [Statement(text), Statement("That it is better than chance is not shown.", "open")]
    return [Statement(text)]


def condition_statement(condition: Condition, margin: float) -> Statement:
    """What one condition costs the diagnosis, and whether a loss of the margin is ruled out.

    Args:
        condition: With the paired score test of its accuracy.
        margin: Loss of accuracy that would matter.
    """
    cell, n = condition.cell, condition.n
    flipped, accuracy = cell["flipped"]["mean"], cell["metrics"]["accuracy"]
    low, high = accuracy["difference_interval"]
    draws = cell["cell"]["repeats"]
    mean = f", averaged over {draws} draws of the shots" if draws > 1 else ""
    text = (
        f"{condition.where}: the diagnosis of {count(flipped)} of {n} images changes{mean}. Accuracy "
        f"{accuracy['exact']:.3f} becomes {accuracy['value']:.3f} ({signed(accuracy['difference'])}, 95 %: "
        f"{signed(low)} to {signed(high)})."
    )
    p = f"{p_in_words(condition.equivalence.p_value)}, one-sided"
    if accuracy["difference"] < 0 and accuracy.get("p_holm", 1.0) < 0.05:
        corrected = f"{p_in_words(accuracy['p_holm'])}, corrected for all conditions"
        return Statement(f"{text} The loss is more than chance ({corrected}).", "loss")
    if condition.ruled_out:
        return Statement(f"{text} A loss of accuracy of more than {margin:g} is ruled out ({p}).", "shown")
    return Statement(f"{text} A loss of accuracy of more than {margin:g} cannot be ruled out ({p}).", "open")


def size_statements(conditions: Sequence[Condition], margin: float) -> list[Statement]:
    """Whether there are enough images to rule out any loss of the margin; nothing where there are."""
    needed = conditions[0].needed if conditions else None
    if needed is None:
        return []
    return [
        Statement(
            f"{conditions[0].n} images are too few to rule out a loss of {margin:g}: even if no diagnosis changed, "
            f"{needed} would be needed."
        )
    ]


def machine_statements(data: RunData) -> list[Statement]:
    """What machines said to which jobs were sent, each beside the exact diagnoses; the fullest of each machine."""
    latest: dict[str, dict[str, Any]] = {}
    for each in data.results:
        machine, whole = each["device"].get("machine"), each["n_samples"] == len(data.labels)
        if each["device"].get("jobs") and each.get("reference") and each["split"] == data.split and whole:
            shots = int(each["device"]["shots"]) * int(each.get("repeats", 1))
            before = latest.get(machine)
            if before is None or shots >= before["all_shots"]:
                latest[machine] = each | {"all_shots": shots}
    statements = []
    for machine, each in latest.items():
        accuracy = each["reference"]["metrics"]["accuracy"]
        low, high = accuracy["paired_bootstrap"]
        statements.append(
            Statement(
                f"On {machine}, through {each['device']['name']}, {each['all_shots']} shots: the diagnosis of "
                f"{each['reference']['flipped_predictions']} of {each['n_samples']} images changes. "
                f"Accuracy {accuracy['value']:.3f} becomes {each['metrics']['accuracy']['value']:.3f} "
                f"({signed(accuracy['difference'])}, 95 %: {signed(low)} to {signed(high)})."
            )
        )
    return statements


def cautions(data: RunData, conditions: Sequence[Condition]) -> list[str]:
    """What a reader might take from the verdict and must not."""
    run, words = data.run, []
    if data.generated:
        words.append(
            "The images are generated by a computer. Scores on them show that everything works, and nothing about "
            "patients."
        )
    words.append(
        "Counted are images, not patients: several images of one person are not told apart. This is research "
        "software and not for diagnosis."
    )
    totals = data.confusion.sum(axis=1)
    if totals.min() < FEW:
        named = " and ".join(f"{total} of “{name}”" for name, total in zip(run.class_names, totals, strict=True))
        few = named if len(totals) <= 3 else f"{totals.min()} of the rarest class"
        words.append(f"The {data.split} split is small ({few}), which is why the intervals are wide.")
    words.append(
        f"One training with one seed ({run.spec.train.seed}). Another seed gives other scores, and the intervals do "
        "not hold that; `qhybrid study` trains several."
    )
    leaks = run.data.get("leaks", [])
    if leaks:
        kept = "The training copies were dropped." if run.data.get("leaks_dropped") else (
            "They were kept, so that the scores may be too good; `--drop-leaks` removes the training copies."
        )  # fmt: skip
        words.append(f"The audit found images in more than one split: {'; '.join(leaks)}. {kept}")
    if any(condition.cell["cell"]["noise"] for condition in conditions):
        words.append(f"Noise was simulated, no machine was used for it: {BEST_CASE}.")
    if machine_statements(data):
        words.append(
            "Whether a machine named here was a real one or an emulator of it depends on the account that the jobs "
            "were sent with; the report cannot tell."
        )
    if conditions:
        words.append(
            "Each test of a loss is one test for one condition; only the p-values marked so are corrected for all "
            "conditions. “Cannot be ruled out” is no proof of a loss."
        )
    return words


def hundred(count: int, of: int) -> str:
    """A share as so many in a hundred."""
    return f"{100 * count / max(of, 1):.0f}"


def span(interval: Interval) -> str:
    """Limits as so many in a hundred."""
    return f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f}"


def count(number: float) -> str:
    """A mean count: whole where it is."""
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.1f}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{round(value, 3) + 0.0:+.3f}"


def signed_interval(value: float, interval: Sequence[float]) -> str:
    """Such as `-.012 [-.030, +.004]`."""
    return f"{signed(value)} [{signed(interval[0])}, {signed(interval[1])}]"


def p_value(value: float) -> str:
    """A p-value."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def p_in_words(value: float) -> str:
    """`p = 0.03`, or `p < 0.001`."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def with_interval(value: float, interval: Sequence[float] | None) -> str:
    """`value [low, high]`."""
    return f"{value:.3f}" if interval is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def slope(cell: Mapping[str, Any]) -> str:
    """Mean slope of noisy against exact expectation values."""
    slopes: NDArray[np.float64] = np.array([each for each in cell["signal"]["slope"] if each is not None])
    return f"{slopes.mean():.2f}" if slopes.size else "–"
