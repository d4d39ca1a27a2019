"""Processes that send and collect, and can be stopped between any two of their steps to be killed there.

Every line of standard input is an order, a step to stop at and a ledger's folder. The order is `submit`, `collect`, or
`all`: collect whatever there is, again and again until the job has ended. A process of its own carries it out, forked
from this one, which has done the imports. It says its id, at the stop the step, where another line lets it go on, and
in the end `over`, dead or alive.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopback import MACHINE
from runtime_rounds import SHOTS, angles

from qhybrid.circuits.spec import load_circuit
from qhybrid.devices import jobs, runtime_jobs
from qhybrid.devices.job_row import OPEN
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime import RuntimeDevice
from qhybrid.devices.runtime_client import Client
from qhybrid.devices.runtime_jobs import StillRunning, collect

STEPS = (
    "circuits.qpy", "written", "claimed", "posted", "queued", "running", "done", "fetched", "result.json", "collected"
)  # fmt: skip
"""circuits.qpy: that file is written, and no row; written: the row is, `prepared`; claimed: `submitting`; posted: the
service has answered; fetched: so it has with the result, which is not saved; result.json: it is saved; the others:
states of the row."""

STOP = [""]
"""Where the process that is forked next is to stop, once."""


def stopped_after(owner: Any, name: str, step: Callable[..., str]) -> None:
    """Let a function stop when it has done its work, in a process that is to stop there.

    Args:
        owner: Class or module that has it.
        name: Its name.
        step: Its arguments -> the step that is done with it.
    """
    function = getattr(owner, name)

    def stopping(*arguments: Any, **options: Any) -> Any:
        found = function(*arguments, **options)
        if step(*arguments) == STOP[0]:
            print(STOP[0], flush=True)
            STOP[0] = ""
            sys.stdin.readline()
        return found

    setattr(owner, name, stopping)


def main() -> None:
    runtime_jobs.LOOKUPS, runtime_jobs.RETRY = (0.0, 0.1, 0.2), (0.05, 0.2)
    stopped_after(jobs, "write_bytes", lambda path, content: path.name)
    stopped_after(Ledger, "add", lambda *_: "written")
    stopped_after(Ledger, "claim", lambda *_: "claimed")
    stopped_after(Ledger, "set_state", lambda ledger, tag, state: state)
    stopped_after(Client, "send", lambda *_: "posted")
    stopped_after(Client, "result", lambda *_: "fetched")
    print("ready", flush=True)
    while line := sys.stdin.readline().strip():
        order, STOP[0], folder = line.split(maxsplit=2)
        process = os.fork()
        if not process:
            print(os.getpid(), flush=True)
            carry_out(order, Ledger(Path(folder)))
            os._exit(0)
        os.waitpid(process, 0)
        print("over", flush=True)


def carry_out(order: str, ledger: Ledger) -> None:
    if order == "submit":
        device = RuntimeDevice(backend=MACHINE, layout_seeds=2)
        device.ledger = ledger
        device.submit(device.prepare(load_circuit("angle_4q")), angles(), shots=SHOTS).result()
    elif order == "collect":
        collect(ledger.find()[0], ledger, timeout=None)
    while order == "all" and (not ledger.find() or ledger.find(states=OPEN)):
        for row in ledger.find(states=OPEN):
            with contextlib.suppress(StillRunning):
                collect(row, ledger)


if __name__ == "__main__":
    main()
