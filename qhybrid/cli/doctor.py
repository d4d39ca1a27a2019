"""`qhybrid doctor`: what works here; with --device, the conformance suite on one device."""

from typing import Annotated, Any

import typer

from qhybrid.cli import options
from qhybrid.errors import InputError


def doctor(
    device: Annotated[str | None, typer.Option(help="Run the conformance suite on this device.")] = None,
    noise: options.Noise = None,
    as_json: options.Json = False,
) -> None:
    """Say which versions are installed, which devices work here, and whether credentials are found."""
    if device is not None:
        _conformance(device, noise, as_json=as_json)
        return
    if noise is not None:
        raise InputError("--noise goes with --device: qhybrid doctor --device qhybrid.density --noise " + noise)
    from qhybrid.devices.spec import list_devices
    from qhybrid.experiments.environment import package_versions

    versions = package_versions()
    devices = list_devices(check=True)
    credentials = ibm_credentials()
    accelerator = _accelerator()
    if as_json:
        found = [{"device": e.name, "works": e.problem is None, "problem": e.problem} for e in devices]
        options.print_json(
            {"versions": versions, "devices": found, "ibm_credentials": credentials, "accelerator": accelerator}
        )
        return
    options.print_table("versions", ["package", "version"], [[k, v or "not installed"] for k, v in versions.items()])
    rows = [[e.name, "no" if e.problem else "yes", e.problem or e.description] for e in devices]
    options.print_table("devices", ["device", "works here", ""], rows)
    print(f"accelerator: {accelerator}")
    print(f"IBM Quantum credentials: {credentials}")


def ibm_credentials() -> str:
    """Where Qiskit would find credentials; never the credentials themselves."""
    import os
    from pathlib import Path

    if os.environ.get("QISKIT_IBM_TOKEN"):
        return "found in the environment (QISKIT_IBM_TOKEN)"
    account = Path.home() / ".qiskit" / "qiskit-ibm.json"
    return f"found in {account}" if account.is_file() else "none (only needed for IBM hardware)"


def _accelerator() -> str:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "none (torch runs on the CPU)"


def _conformance(device: str, noise: str | None, *, as_json: bool) -> None:
    from qhybrid.conformance import run_conformance

    rows: list[dict[str, Any]] = []
    words = {True: "pass", False: "FAIL", None: "-"}
    for check in run_conformance(device, noise=noise):
        rows.append({"check": check.name, "passed": check.passed, "detail": check.detail})
        if not as_json:
            print(f"{words[check.passed]:5} {check.name:22} {check.detail}", flush=True)
    if as_json:
        options.print_json(rows)
    if any(row["passed"] is False for row in rows):
        raise typer.Exit(1)
