"""`qhybrid report`: a run or a study as one HTML page with its figures."""

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli import options


def report(
    path: Annotated[
        Path | None, typer.Argument(help="Folder of a run or of a study; the newest run without it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The HTML file; report/index.html in the folder without it.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    comparison: Annotated[
        str | None,
        typer.Option(help="Of a run: the comparison's file or its name, as compare prints it; else the newest."),
    ] = None,
    root: Annotated[Path, typer.Option("--runs", help="Folder of the runs, for finding the newest.")] = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """Write a report: one HTML page that holds everything, and its figures as SVG and PNG.

    The verdict comes first, in plain words with its uncertainty; then the tables and figures; then how it was obtained.
    """
    from qhybrid.errors import InputError
    from qhybrid.experiments.runs import open_run
    from qhybrid.report.page import write_page

    if path is not None and (path / "study.toml").is_file():
        from qhybrid.experiments.study import open_study
        from qhybrid.report.study_report import study_page

        if comparison is not None:
            raise InputError("--comparison is for the report of a run; this is a study")
        study = open_study(path)
        folder, page = study.path, study_page(study)
    else:
        from qhybrid.report.run_report import run_page

        run = open_run(path, root=root)
        folder, page = run.path, run_page(run, split=split, comparison=comparison)
    written = write_page(page, folder / "report" / "index.html" if out is None else out)
    if as_json:
        options.print_json({"page": written[0], "figures": written[1:]})
        return
    print(f"report   {written[0]}")
    print(f"figures  {written[0].parent / 'figures'} ({len(written) // 2} as SVG and PNG)")
