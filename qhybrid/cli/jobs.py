"""`qhybrid jobs`: the ledger of what was sent to machines: list, show, collect, cancel, forget."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.cli import options, results

if TYPE_CHECKING:
    from qhybrid.devices.job_row import JobRow
    from qhybrid.devices.jobs import Ledger

app = typer.Typer(no_args_is_help=True, help="Jobs on machines: list, show, collect, cancel or forget them.")

SHOWN = 40
Tags = Annotated[list[str], typer.Argument(metavar="JOB...", help="Tag, the beginning of one, or IBM's job id.")]


@app.command("list")
def list_jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; may be repeated.")] = None,
    run: Annotated[Path | None, typer.Option(help="Only jobs of this run.")] = None,
    backend: Annotated[str | None, typer.Option(help="Only jobs on this machine.")] = None,
    everything: Annotated[bool, typer.Option("--all", help=f"All of them, not only the newest {SHOWN}.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the jobs of the ledger, the newest first, as it was when it last heard of them."""
    from qhybrid.devices.job_row import TRANSITIONS
    from qhybrid.devices.jobs import Ledger
    from qhybrid.errors import InputError, did_you_mean

    for each in state or ():
        if each not in TRANSITIONS:
            raise InputError(f"--state {each}: {did_you_mean(each, TRANSITIONS)}")
    ledger = Ledger()
    found = ledger.find(states=state or None, run=None if run is None else str(run.resolve()), backend=backend)
    rows = found if everything or as_json else found[:SHOWN]
    if as_json:
        options.print_json([vars(row) for row in rows])
        return
    if not rows:
        print(f"no jobs in {ledger.path}" if not (state or run or backend) else "no such jobs")
        return
    options.print_table(
        "",
        ["job", "state", "machine", "circuit", "circuits", "shots", "for", "created", "QPU s", "IBM's id"],
        [
            [
                row.short,
                row.state,
                row.backend,
                row.circuit,
                row.circuits,
                row.shots,
                " ".join([row.purpose, *([f"({row.part + 1} of {row.parts})"] if row.parts > 1 else [])]),
                row.created[:16],
                _seconds(row),
                row.job_id,
            ]
            for row in rows
        ],
    )
    if len(rows) < len(found):
        print(f"and {len(found) - len(rows)} older ones: --all")


@app.command()
def show(job: Annotated[str, typer.Argument(help="Tag, the beginning of one, or IBM's job id.")]) -> None:
    """Show all that the ledger knows of a job, as JSON."""
    from qhybrid.devices.jobs import Ledger

    ledger = Ledger()
    row = ledger.by_tag(job)
    options.print_json({**vars(row), "files": str(ledger.files(row.tag))})


@app.command()
def collect(
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help="As in `qhybrid jobs show`.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever has finished meanwhile.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for jobs that have not ended.")] = False,
    run: Annotated[Path | None, typer.Option(help="Folder of the run, if it was moved.")] = None,
    as_json: options.Json = False,
) -> None:
    """Fetch results, and turn evaluations into the same metrics as on every other device.

    A job whose sender died is looked up by its tag; it is sent only if the service has never seen it.
    """
    from rich.console import Console

    from qhybrid.devices.jobs import Ledger
    from qhybrid.devices.runtime_jobs import job_of
    from qhybrid.errors import QHybridError
    from qhybrid.experiments.hardware import EVALUATION, evaluate_job, is_open
    from qhybrid.experiments.runs import open_run
    from qhybrid.experiments.waiting import StatusLine

    ledger, console = Ledger(), Console(stderr=True)
    if everything:
        rows = [row for row in ledger.find() if row.part == 0 and is_open(row, ledger)]
    else:
        rows = [_first_part(ledger.by_tag(each), ledger) for each in jobs or [_only_one(ledger)]]
    opened = None if run is None else open_run(run)
    problems: list[QHybridError] = []
    for row in rows:
        try:
            with StatusLine(console) as status:
                timeout = None if wait else 0
                if row.request.get("kind") != EVALUATION:
                    job_of(row, ledger).result(timeout=timeout, progress=status)
                    continue
                evaluation = evaluate_job(row, ledger, run=opened, timeout=timeout, progress=status)
            results.show(evaluation, as_json=as_json)
        except QHybridError as error:
            if not everything or error.exit_code == 130:
                raise
            console.print(str(error), highlight=False, markup=False, soft_wrap=True)
            problems.append(error)
    if everything and not rows:
        console.print("nothing to collect")


@app.command()
def cancel(jobs: Tags) -> None:
    """Cancel jobs on the machine; what has run already is billed."""
    from qhybrid.devices.jobs import Ledger
    from qhybrid.devices.runtime_jobs import job_of

    ledger = Ledger()
    for row in [ledger.by_tag(each) for each in jobs]:
        for part in job_of(row, ledger).cancel():
            print(f"{part.short} {part.job_id or '(never sent)'} on {part.backend}: {part.state}")


@app.command()
def forget(
    jobs: Tags,
    force: Annotated[bool, typer.Option("--force", help="Even jobs that may still run: they would go on.")] = False,
) -> None:
    """Delete jobs and their results from the ledger; on the service they stay."""
    from qhybrid.devices.jobs import Ledger
    from qhybrid.errors import InputError

    ledger = Ledger()
    rows = [ledger.by_tag(each) for each in jobs]
    for row in rows:
        if row.state in ("submitting", "queued", "running", "done") and not force:
            raise InputError(
                f"job {row.short} is {row.state}: `qhybrid jobs collect {row.short}` or `qhybrid jobs cancel "
                f"{row.short}` first; --force forgets it all the same"
            )
    for row in rows:
        ledger.forget(row.tag)
        print(f"{row.short}: forgotten")


def _first_part(row: "JobRow", ledger: "Ledger") -> "JobRow":
    return ledger.find(batch=row.batch)[0] if row.batch else row


def _only_one(ledger: "Ledger") -> str:
    """The one job that is open."""
    from qhybrid.errors import InputError
    from qhybrid.experiments.hardware import is_open

    rows = [row for row in ledger.find() if row.part == 0 and is_open(row, ledger)]
    if len(rows) == 1:
        return rows[0].tag
    listed = ", ".join(row.short for row in rows[:5]) or "none is open"
    raise InputError(f"which job? {listed}; or --all")


def _seconds(row: "JobRow") -> Any:
    if row.usage is not None:
        return f"{row.usage:.1f}"
    return "" if row.estimate is None else f"~{row.estimate:.1f}"
