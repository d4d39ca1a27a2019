"""How a result was obtained: data, model, environment, calibrations, statistics, and the commands to repeat it."""

from pathlib import Path
from typing import Any

from qhybrid.errors import InputError
from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS
from qhybrid.report.page import Section, Table
from qhybrid.report.run_data import RunData
from qhybrid.storage import read_json


def provenance_section(data: RunData) -> Section:
    """The last part of a run's report."""
    run = data.run
    try:
        environment = read_json(run.path / "environment.json")
    except InputError:
        environment = {}
    commands = [environment.get("command"), *[each.get("command") for each in data.results]]
    if data.comparison is not None:
        commands.append(data.comparison.get("command"))
    commands.append(f"qhybrid report {run.path}")
    return Section(
        "provenance",
        "How it was obtained",
        [
            f"Intervals of proportions are Wilson's, all others come from a stratified bootstrap with "
            f"{BOOTSTRAP_DRAWS} draws (BCa). Differences are paired. Every number is computed from stored predictions; "
            "the same seeds give the same numbers.",
            _leaks(run.data),
        ],
        commands=list(dict.fromkeys(command for command in commands if command)),
        tables=[_made_of(data, environment), *_calibrations(data)],
        folded=[*_versions(environment), _files(data)],
    )


def _leaks(described: dict[str, Any]) -> str:
    leaks = described.get("leaks")
    if leaks is None:
        return "The data were not audited for images in more than one split."
    if not leaks:
        return "Leak audit: no image occurs in more than one split."
    dropped = "copies were dropped from training" if described.get("leaks_dropped") else "copies were kept"
    return f"Leak audit: {'; '.join(leaks)}; {dropped}."


def _made_of(data: RunData, environment: dict[str, Any]) -> Table:
    run, model, train = data.run, data.run.spec.model, data.run.spec.train
    parameters = run.data.get("parameters", {})
    rows = [
        ["data", str(run.data["source"])],
        ["fingerprint of the data", str(run.data["fingerprint"])],
        ["model", f"{model.backbone}, weights {model.weights}, {model.feature_dim} features, {model.head} head"],
        ["circuit", model.circuit if model.has_circuit else "none"],
        ["parameters", ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in parameters.items())],
        ["trained on", run.spec.device.name if model.has_circuit else "no quantum device"],
        ["augmentation", run.spec.augment.kind],
        ["seed of the training", str(train.seed)],
        ["epochs, batch, learning rate", f"{train.epochs}, {train.batch_size}, {train.learning_rate:g}"],
        ["machine", f"{environment.get('platform', '?')}; {environment.get('cpu', '?')}, "
                    f"{environment.get('cpu_cores', '?')} cores; GPU: {environment.get('gpu') or 'none'}"],
        ["code", str(environment.get("git") or "not from a git checkout")],
        ["run", str(run.path)],
        ["comparison", "none" if data.comparison is None else
         f"{data.comparison['file']}, code {data.comparison.get('git') or '?'}"],
    ]  # fmt: skip
    return Table("What it was made of.", ["what", "value"], [row for row in rows if row[1]], text_columns=2)


def _calibrations(data: RunData) -> list[Table]:
    found: dict[str, dict[str, Any]] = {}
    for condition in data.conditions:
        noise = condition.cell["device"]["noise"]
        if noise is not None:
            found.setdefault(noise["fingerprint"] if noise["scale"] == 1 else noise["name"], noise)
    by_name = {noise["name"]: noise for noise in sorted(found.values(), key=lambda each: each["scale"] == 1)}
    rows = [
        [
            noise["name"],
            (noise.get("date") or "none: parametric")[:19],
            noise["fingerprint"],
            "; ".join(noise["remarks"]),
        ]
        for noise in by_name.values()
    ]
    for each in data.results:
        if each["device"].get("calibrations"):
            dates = ", ".join(date[:19] for date in each["device"]["calibrations"])
            jobs = ", ".join(str(job["job_id"]) for job in each["device"].get("jobs", []))
            rows.append([str(each["device"].get("machine")), dates, "", f"sent as job {jobs}" if jobs else ""])
    if not rows:
        return []
    caption = "Calibrations: noise models that were simulated, machines that were sent jobs."
    return [Table(caption, ["machine", "calibrated", "fingerprint", "remarks"], rows, text_columns=4)]


def _versions(environment: dict[str, Any]) -> list[Table]:
    versions = environment.get("versions", {})
    if not versions:
        return []
    rows = [[name, str(version)] for name, version in versions.items()]
    return [Table("Versions of the software at the training.", ["package", "version"], rows, text_columns=2)]


def _files(data: RunData) -> Table:
    folder = data.run.path
    rows = [[str(Path(name)), what] for name, what in (
        ("config.toml", "the experiment, all keys resolved"),
        ("data.json", "classes, counts, leaks, parameters"),
        ("environment.json", "versions, machine, command"),
        ("metrics.csv", "each epoch"),
        ("predictions/", "probabilities and expectation values of each evaluation"),
        ("results/", "metrics of each evaluation"),
        ("comparison/", "cells of the grid"),
    ) if (folder / name).exists()]  # fmt: skip
    return Table("Files of the run that this report was made from.", ["file", "holds"], rows, text_columns=2)
