"""Leave one centre out: a study for each centre that is held out, and what all of them show together.

The folder of the whole, `studies/<name>/<hash>/`, holds `study.toml`, `progress.json`, the ordinary study of each
centre under `centres/`, the predictions of all centres together under `pooled/`, and at the end `study.json`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from qhybrid.errors import InputError
from qhybrid.experiments.environment import command_line, git_commit, package_versions
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.leave_one_out_results import pooled_results
from qhybrid.experiments.pooled_predictions import AdaptTask, Part, adapt_part, has_normalisation
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import claim
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml
from qhybrid.experiments.study import ROOT, Study, run_study
from qhybrid.experiments.study_arms import resolve_arms, study_hash, study_of
from qhybrid.experiments.study_devices import conditions_of
from qhybrid.experiments.study_runs import Trained
from qhybrid.storage import write_json, write_text


def run_leave_one_out(
    spec: ExperimentSpec,
    *,
    out: Path = ROOT,
    retry: bool = False,
    executor: Executor | None = None,
    console: Console | None = None,
) -> Study:
    """Train every arm with every seed once for each centre that is held out, and test the differences over all of them.

    Every image belongs to one centre, so every test image is predicted once by each arm and seed, by a network that has
    seen no image of its centre. These predictions together go through the statistics of `run_study`. As there, what is
    complete is not trained again.

    Args:
        spec: With a `[domains]` and a `[study]` table; where `domains.held_out` names a centre, only that is held out.
        out: Folder of all studies; this one is `<out>/<name>/<hash>/`.
        retry: As in `run_study`, and so on.
        executor: As in `run_study`.
        console: As in `run_study`.

    Returns:
        The study of the whole; `study.json` is written there and in the study of each centre.

    Raises:
        InputError: As in `run_study`; or there is no `[domains]`, or nothing to adapt at test.
        Interrupted: By the user.
    """
    console, executor = console or Console(stderr=True), executor or Executor()
    study, arms, domains = study_of(spec), resolve_arms(spec), spec.domains
    if domains is None:
        raise InputError(f"experiment {spec.name!r} has no [domains] table: there are no centres to leave out")
    cells = conditions_of(study)
    for arm in arms if study.adapt_at_test else ():
        if not has_normalisation(arm.spec.model.backbone):
            raise InputError(
                f"arm {arm.name!r}: {arm.spec.model.backbone} has no batch normalisation to adapt at test; leave out "
                "study.adapt_at_test"
            )
    folder = out / spec.name / study_hash(spec)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make a study folder under {str(out)!r} ({error.strerror})") from None
    with claim(Run(folder, spec)):
        write_text(folder / "study.toml", experiment_toml(spec))
        parts: list[Part] = []
        for number, name in enumerate(domains.parts):
            write_json(folder / "progress.json", {"state": "running", "done": number, "total": len(domains.parts)})
            part = part_of(spec, name)
            console.print(f"[{number + 1}/{len(domains.parts)}] {part.name}", highlight=False, markup=False)
            done = run_study(part, out=folder / "centres", retry=retry, executor=executor, console=console)
            parts.append(Part(part.name, done.path, done.results))
        adapted: Mapping[tuple[str, int], list[str]] = {}
        if study.adapt_at_test is not None:
            tasks = [
                AdaptTask(str(each.path), study.adapt_at_test, each.seed, tuple(cells))
                for part in parts
                for each in _complete(part, [arm.name for arm in arms])
            ]
            console.print(f"{len(tasks)} trainings are adapted to the test images", highlight=False)
            found = dict(executor.run(adapt_part, tasks))
            adapted = {(task.run, task.seed): found[number] for number, task in enumerate(tasks)}
        results: dict[str, Any] = pooled_results(spec, arms, parts, adapted, cells, folder)
        results |= {"versions": package_versions(), "git": git_commit(), "command": command_line()}
        write_json(folder / "study.json", results)
        write_json(folder / "progress.json", {"state": "complete", "done": len(parts), "total": len(parts)})
    return Study(folder, results)


def part_of(spec: ExperimentSpec, held_out: str) -> ExperimentSpec:
    """The ordinary study in which one centre is held out, or `none`."""
    assert spec.domains is not None
    study = study_of(spec).model_copy(update={"adapt_at_test": None})
    domains = spec.domains.model_copy(update={"held_out": held_out})
    name = "all-centres" if held_out == "none" else f"without-{held_out}"
    return spec.model_copy(update={"name": name, "domains": domains, "study": study})


def _complete(part: Part, names: list[str]) -> list[Trained]:
    return [each for name in names for each in part.trained(name) if not each.message]
