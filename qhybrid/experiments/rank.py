"""`python -m qhybrid.experiments.rank RUN REPORT PARENT`: one of the processes of `run_ranks`."""

import os
import sys
import traceback
from pathlib import Path

from qhybrid.experiments.executors import die_with
from qhybrid.experiments.ranks import TOLD
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.training import take_part
from qhybrid.storage import write_json


def main() -> None:
    """Train; if that fails, write why into the report, and leave without waiting for the others."""
    folder, report, parent = sys.argv[1:]
    die_with(int(parent))
    try:
        take_part(open_run(folder, incomplete=True))
    except Exception as error:
        kind = next((name for name, each in TOLD.items() if isinstance(error, each)), type(error).__name__)
        message = str(error) if kind in TOLD else f"{type(error).__name__}: {' '.join(str(error).split())}"
        write_json(Path(report), {"kind": kind, "message": message, "traceback": traceback.format_exc()})
        os._exit(1)


if __name__ == "__main__":
    main()
