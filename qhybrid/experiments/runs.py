"""Make, find, list and claim run folders, `runs/<experiment>/<time>-<hash>/`."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from qhybrid import catalog
from qhybrid.errors import InputError, QHybridError, did_you_mean
from qhybrid.experiments.environment import describe_environment
from qhybrid.experiments.run_folder import Features, Run, State
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml
from qhybrid.storage import locked, write_json, write_text

__all__ = [
    "Features", "Run", "State", "claim", "create_run", "how_to_go_on", "is_stop", "list_runs", "open_run", "state_kept",
]  # fmt: skip

ROOT = Path("runs")


def create_run(spec: ExperimentSpec, root: Path = ROOT) -> Run:
    """Make the folder of a new run, in state `running`.

    Args:
        spec: The resolved experiment, written as `config.toml`.
        root: The folder of all runs.

    Returns:
        The run; no other run is touched.

    Raises:
        InputError: The folder cannot be made.
    """
    config = experiment_toml(spec)
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{hashlib.sha256(config.encode()).hexdigest()[:6]}"
    folder = root / spec.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        attempt = 1
        while True:  # the same experiment may start twice within one second
            try:
                path.mkdir()
                break
            except FileExistsError:
                attempt += 1
                path = folder / f"{name}-{attempt}"
    except OSError as error:
        raise InputError(f"cannot make a run folder under {str(root)!r} ({error.strerror})") from None
    run = Run(path, spec)
    run.set_state("running")
    write_text(path / "config.toml", config)
    write_json(path / "environment.json", describe_environment(seed=spec.train.seed))
    return run


def open_run(path: Path | str | None = None, *, root: Path = ROOT, incomplete: bool = False) -> Run:
    """Open a run folder.

    Args:
        path: The folder; None: the newest complete run under `root`.
        root: The folder of all runs, where `path` is None.
        incomplete: Accept a run whose training has not finished, in order to resume it.

    Raises:
        InputError: There is none, the folder is not a run, it is incomplete, or a file is damaged.
    """
    if path is None:
        return _newest(root, incomplete=incomplete)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        near = sorted(folder.parent.glob("*")) if folder.parent.is_dir() else []
        hint = did_you_mean(folder.name, [entry.name for entry in near if entry.is_dir()][-20:])
        raise InputError(f"run folder {str(folder)!r} does not exist; {hint}")
    if not (folder / "status.json").is_file() or not (folder / "config.toml").is_file():
        inside = [run.path for run in list_runs(folder)]
        hint = f"it holds runs: {str(inside[-1])!r}" if inside else "it has no status.json and config.toml"
        raise InputError(f"{str(folder)!r} is not a run; {hint}")
    config = folder / "config.toml"
    run = Run(folder, catalog.parse(ExperimentSpec, catalog.load_toml(config), str(config)))
    if run.state != "complete" and not incomplete:
        raise InputError(f"run {str(folder)!r} is incomplete ({_state_in_words(run)}); {how_to_go_on(run)}")
    return run


def list_runs(root: Path = ROOT) -> list[Run]:
    """Every readable run under a folder, complete or not, the newest last."""
    found: list[tuple[str, Run]] = []
    for status in root.glob("**/status.json"):
        try:
            run = open_run(status.parent, incomplete=True)
            found.append((str(run.status["created"]), run))
        except (QHybridError, KeyError):
            continue
    return [run for _, run in sorted(found, key=lambda entry: (entry[0], entry[1].path))]


@contextmanager
def claim(run: Run) -> Iterator[None]:
    """Hold a run for writing; the operating system lets go of it when the process ends, however it ends.

    Raises:
        InputError: Another process holds it.
    """

    def refuse() -> None:
        raise InputError(f"run {str(run.path)!r} is being trained by another process")

    with locked(run.path, refuse):
        yield


@contextmanager
def state_kept(run: Run) -> Iterator[None]:
    """Mark a run that ends early as failed, with the reason; a killed one stays `running`."""
    run.set_state("running")
    try:
        yield
    except BaseException as error:
        run.set_state("failed", "interrupted" if is_stop(error) else f"{type(error).__name__}: {error}")
        raise


def is_stop(error: BaseException | None) -> bool:
    """Whether the user ended it: Lightning turns Ctrl-C into SystemExit, torch while it writes into a RuntimeError."""
    while error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        error = error.__context__
    return error is not None


def _newest(root: Path, *, incomplete: bool) -> Run:
    runs = list_runs(root)
    # What takes the newest run takes a classifier.
    fitting = [run for run in runs if incomplete or (run.state == "complete" and not run.spec.trains_generator)]
    if fitting:
        return fitting[-1]
    if runs:
        raise InputError(f"no complete run under {str(root)!r}; {how_to_go_on(runs[-1])}")
    raise InputError(f"no run under {str(root)!r}; `qhybrid train` makes one")


def _state_in_words(run: Run) -> str:
    message = str(run.status.get("message", ""))
    if run.state == "failed":
        return f"failed: {message}" if message else "failed"
    return "still running, or killed"


def how_to_go_on(run: Run) -> str:
    """What to do with a run that is not complete."""
    if can_go_on(run):
        return f"go on with `qhybrid train --resume {run.path}`"
    return f"it had not begun: start again with `qhybrid train {run.spec.name}`"


def can_go_on(run: Run) -> bool:
    """Whether a run has all that its training needs; without a checkpoint it goes on from the start."""
    return run.last_checkpoint.is_file() or (run.path / "data.json").is_file()
