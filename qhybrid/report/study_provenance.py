"""How a study was obtained: what the arms share and what not, sizes, data, versions, commands."""

from typing import Any

from qhybrid.experiments.study import Study
from qhybrid.experiments.study_tuning import tuning_in_words
from qhybrid.report.page import Section, Table


def study_provenance(study: Study) -> Section:
    """The last part of a study's report."""
    found = study.results
    data = found["data"]
    leaks = data.get("leaks")
    audit = "Leak audit: no image occurs in more than one split." if leaks == [] else (
        f"Leak audit: {'; '.join(leaks)}." if leaks else "The data were not audited."
    )  # fmt: skip
    commands = [found.get("command"), f"qhybrid report {study.path}"]
    return Section(
        "provenance",
        "How it was obtained",
        [
            "Every arm was trained with every seed on the same images. Intervals come from a bootstrap over seeds and "
            "images; claims of equivalence are two one-sided tests; p-values are corrected by Holm.",
            *tuning_in_words(found),
            audit,
        ],
        tables=[_settings(found), _sizes(found), _made_of(study)],
        folded=_versions(found),
        commands=[command for command in commands if command],
    )


def _settings(found: dict[str, Any]) -> Table:
    names = [arm["name"] for arm in found["arms"] if "changes" in arm]
    rows = [
        [key, *[_text(values.get(name, "as above")) for name in names]]
        for key, values in found["settings_that_differ"].items()
    ]
    rows += [[key, *[_text(value)] * len(names)] for key, value in found["budget"].items()]
    return Table("Settings that differ between arms, and the budget.", ["setting", *names], rows, 1 + len(names))


def _sizes(found: dict[str, Any]) -> Table:
    rows = []
    for arm in found["arms"]:
        parameters, images = arm.get("parameters") or {}, arm.get("training_images")
        counts = "" if images is None else "; ".join(
            f"{name}: {real} + {images['synthetic'][name]}" for name, real in images["real"].items()
        )  # fmt: skip
        sizes = [f"{parameters[key]:,}" if key in parameters else "" for key in ("head", "total")]
        flops = "" if arm.get("flops") is None else f"{arm['flops']:,}"
        rows.append([arm["name"], counts, *sizes, flops])
    heads = ["arm", "training images, real + synthetic", "parameters of the head", "of all", "operations of an image"]
    return Table("Sizes.", heads, rows, text_columns=2)


def _made_of(study: Study) -> Table:
    found, data = study.results, study.results["data"]
    rows = [
        ["data", str(data.get("source", ""))],
        ["fingerprint of the data", str(data.get("fingerprint", ""))],
        ["seeds", ", ".join(map(str, found["seeds"]))],
        ["reference arm", str(found["reference"])],
        ["margin", f"{found['margin']:g}"],
        ["description", str(found["description"])],
        ["source", str(found["source"])],
        ["code", str(found.get("git") or "not from a git checkout")],
        ["folder", str(study.path)],
    ]
    return Table("What it was made of.", ["what", "value"], [row for row in rows if row[1]], text_columns=2)


def _versions(found: dict[str, Any]) -> list[Table]:
    rows = [[name, str(version)] for name, version in found.get("versions", {}).items()]
    return [Table("Versions of the software.", ["package", "version"], rows, text_columns=2)] if rows else []


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
