"""The quality of augmentation in words and in a table, for the screen and for reports."""

import math
from typing import Any

COLUMNS = (
    "images", "class", "FID ± std", "KID ± error", "KID above none ± error", "precision", "recall", "as asked",
    "ms an image",
)  # fmt: skip
SHARES = ("precision", "recall", "as_asked")
SURE = 2.0
"""Standard errors beyond which a difference is spoken of."""

TINY = 1e-4
"""Errors below it are written with an exponent."""


def quality_rows(found: dict[str, Any]) -> list[list[str]]:
    """One row for each kind and class, and for each kind the mean over the classes; see `augmentation_quality`."""
    rows = []
    for each in found["kinds"]:
        named = [*each["classes"].items(), ("mean of the classes", each["mean"])]
        for number, (name, values) in enumerate(named):
            fid, kid, excess = values["fid"], values["kid"], values["excess"]
            rows.append(
                [
                    each["kind"] if number == 0 else "",
                    name,
                    _measured(fid["mean"], fid["std"]),
                    _measured(kid["mean"], kid["stderr"]),
                    "" if each["kind"] == "none" else _measured(excess["mean"], excess["stderr"], sign="+"),
                    *[f"{values[share]['mean']:.3f}" if share in values else "" for share in SHARES],
                    f"{1000 * each['seconds_per_image']:.3f}" if number == 0 else "",
                ]
            )
    return rows


def quality_findings(found: dict[str, Any]) -> list[str]:
    """What each augmentor does to the distance from held-out images, in a sentence."""
    sentences = []
    for each in found["kinds"]:
        excess = each["mean"]["excess"]
        if each["kind"] == "none":
            continue
        what = f"Images of {each['kind']} augmentation"
        if abs(excess["mean"]) <= SURE * excess["stderr"]:
            said = f"{what} are not shown to be further from or nearer to held-out images than training images are"
        else:
            where = "further from" if excess["mean"] > 0 else "nearer to"
            said = f"{what} are {where} held-out images than training images are"
        difference = _measured(excess["mean"], excess["stderr"], sign="+")
        sentences.append(f"{said} (difference of KID {difference}).")
    return sentences


def quality_notes(found: dict[str, Any]) -> list[str]:
    """What was compared with what, in which features, and what the numbers cannot tell."""
    features, n = found["features"], found["images_per_class"]
    notes = [
        f"FID and KID are distances between {n} synthetic images of each class and {n} real ones of that class from "
        f"the {found['split']} split, in the {features['width']} features of {features['name']}; lower is nearer. "
        "`none` is training images as they are; all kinds have the same sources.",
        f"FID: mean and standard deviation over {found['draws']} draws of the synthetic images. KID: with a standard "
        "error over images. Time: with resizing, which is all that `none` does.",
    ]
    if "precision" in found["kinds"][0]["mean"]:
        notes.append(
            "Precision: share of synthetic images that lie among the held-out ones; recall: share of held-out images "
            "that lie among the synthetic ones (k = 3 neighbours)."
        )
    if real := found.get("real_as_asked"):
        shares = ", ".join(f"{share:.3f} of {name}" for name, share in real.items())
        notes.append(
            "As asked: share that the classifier of the features, trained on real images, puts into the class asked "
            f"for; of the held-out images themselves {shares}."
        )
    if found.get("neighbours"):
        notes += neighbour_notes(found["neighbours"])
    if any(count > n for count in found["held_out"].values()):
        counts = ", ".join(f"{count} {name}" for name, count in found["held_out"].items())
        notes.append(f"Of the held-out images ({counts}) {n} of each class were drawn with seed {found['seed']}.")
    if n <= features["width"]:
        notes.append(
            "With fewer images than features FID is far too high, for every kind: compare it only within this table, "
            "where the numbers of images are equal. KID has no such bias."
        )
    if features["trained_on_these"]:
        notes.append(
            "The network was trained on the images that synthetic ones are made of, and may see them as unlike unseen "
            f"ones: `none` need not come out lowest.{_seen(found)} Another training may see all of this differently."
        )
    if found["copies_in_training"]:
        notes.append(
            f"{found['copies_in_training']} images of the {found['split']} split are in training as well, which "
            "favours `none`; data.drop_leaks removes them there."
        )
    return notes


def neighbour_notes(neighbours: dict[str, Any]) -> list[str]:
    """How many images of each kind are nearer to a training image than training images are to one another."""
    sentences = []
    for where in ("pixels", "features"):
        told = neighbours[where]
        counts = ", ".join(
            f"{each['kind']} {each['closer']} of {each['images']} (smallest {each['smallest']:.4f})"
            for each in told["kinds"]
        )
        sentences.append(
            f"In {where}, nearer to a training image than {told['threshold']:.4f}, the "
            f"{100 * neighbours['quantile']:g} % quantile of the distances of "
            f"{neighbours['training_images']} training images to their own nearest: {counts}."
        )
    return sentences


def _seen(found: dict[str, Any]) -> str:
    """Synthetic images that the network of the features was trained with."""
    trained = found["features"]["trained_with"]
    made = ", ".join(f"{count} {name}" for name, count in (trained or {"images": {}})["images"].items() if count)
    return f" It was also trained with images by {trained['kind']} ({made}), and knows them." if made else ""


def _measured(value: float, error: float, *, sign: str = "") -> str:
    """A number with its error, of which two digits are told."""
    if error < TINY:
        return f"{value:{sign}.2g} ± {error:.1g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:{sign}.{digits}f} ± {error:.{digits}f}"
