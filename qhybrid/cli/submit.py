"""`qhybrid submit`: send a trained run's quantum layer to a machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.cli import options, results
from qhybrid.cli.costs import cost_dict, cost_lines, duration

if TYPE_CHECKING:
    from qhybrid.devices.runtime_cost import RuntimeEstimate
    from qhybrid.experiments.hardware import Submission


def submit(
    run: Annotated[Path | None, typer.Argument(help="Run folder; the newest complete run without it.")] = None,
    backend: options.Backend = None,
    device: options.Device = None,
    shots: options.Shots = None,
    mitigation: options.Mitigation = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: options.Limit = None,
    repeats: Annotated[int, typer.Option(help="Independent draws of the shots, all in one job.")] = 1,
    layout_seeds: options.LayoutSeeds = None,
    seed: Annotated[
        int, typer.Option(help="Of --limit and of the bootstrap. What was sent before is sent again with another seed.")
    ] = 0,
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Refuse to use more QPU seconds than this.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Send circuits whose signal will not survive, too.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result and evaluate it.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder of the runs, for finding the newest.")] = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """Send an evaluation to a machine; `qhybrid jobs collect` turns its result into metrics.

    Says what it would cost and asks. The job is in the ledger before it is sent: whatever happens to this process, to
    the network or to this computer, it is neither lost nor sent twice.
    """
    from rich.console import Console

    from qhybrid.errors import InputError
    from qhybrid.experiments.evaluation import open_head
    from qhybrid.experiments.hardware import Submission
    from qhybrid.experiments.job_records import was_sent
    from qhybrid.experiments.runs import open_run

    if backend is None and device is None:
        raise InputError("give the machine: --backend NAME, or --device FILE with a backend of its own")
    opened = open_run(run, root=runs)
    head = open_head(
        opened,
        {
            "device": device,
            "backend": backend,
            "shots": shots,
            "mitigation": mitigation,
            "layout_seeds": layout_seeds,
        },
        repeats=repeats,
        seed=seed,
    )
    submission = Submission.of(opened, head, split=split, limit=limit, repeats=repeats, seed=seed)
    console = Console(stderr=True)
    estimate = submission.estimate()
    if (job := submission.earlier()) is not None:
        console.print(was_sent(job), highlight=False, markup=False, soft_wrap=True)
    else:
        for line in (f"{'run':9} {opened.path}", *cost_lines(submission, estimate)):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        _check(submission, estimate, max_seconds=max_seconds, force=force)
        if not yes:
            _ask(estimate)
    job = submission.send()
    if wait:
        results.show(submission.wait(job, console), as_json=as_json)
        return
    (row, *_) = job.rows
    if as_json:
        rows = [{"tag": each.tag, "job_id": each.job_id, "state": each.state} for each in job.rows]
        options.print_json(cost_dict(submission, estimate) | {"jobs": rows})
        return
    ids = ", ".join(str(each.job_id) for each in job.rows)
    where = "result is here" if row.state == "collected" else f"{row.state} on {row.backend}"
    print(f"job {ids}: {where}; `qhybrid jobs collect {row.short}` turns it into metrics")


def _check(submission: "Submission", estimate: "RuntimeEstimate", *, max_seconds: float | None, force: bool) -> None:
    """Refuse what is too long, and what will give nothing."""
    from qhybrid.errors import InputError

    if max_seconds is not None and estimate.qpu_seconds > max_seconds:
        raise InputError(
            f"about {duration(estimate.qpu_seconds)} of QPU time is over --max-seconds {max_seconds:g}; nothing was "
            "sent: take fewer --shots or a smaller --limit"
        )
    if submission.report.level == "hardly" and not force:
        raise InputError(f"{submission.verdict}; nothing was sent: --force sends it all the same")


def _ask(estimate: "RuntimeEstimate") -> None:
    """Ask on a terminal; a script must say --yes."""
    from qhybrid.errors import InputError, Interrupted

    if not sys.stdin.isatty():
        raise InputError("nothing was sent: a script must say --yes")
    try:
        sure = typer.confirm(f"Send it to {estimate.machine}?", err=True)
    except typer.Abort:  # Ctrl-C
        sure = False
    if not sure:
        raise Interrupted("nothing was sent")
