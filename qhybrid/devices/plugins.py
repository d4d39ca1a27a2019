"""PennyLane plug-ins that qhybrid has profiles for: the extra that installs each, its credentials, what it can do."""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from qhybrid.errors import InputError

EXTRAS = {"braket.": "braket", "ionq.": "ionq"}
"""The extra of qhybrid that installs the plug-in of all devices whose PennyLane name begins so."""

_SAMPLING_ONLY = ("qiskit.", "ionq.", "aqt.")
"""These sample even where no shots are asked for, or refuse to run."""

_IONQ_KEYS = ("IONQ_API_KEY", "PENNYLANE_IONQ_API_KEY")
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_CREDENTIAL_OPTIONS = {"api_key", "token", "access_token", "refresh_token", "password"}
_WHERE = "the plug-ins read it from the environment (devices/README.md)"
_ACCOUNT = re.compile(r"(arn:aws[\w-]*:[\w-]*:[\w-]*:)\d{12}\S*")


def missing_plugin(name: str, short_name: str) -> str | None:
    """How to install the plug-in of a PennyLane device; None where qhybrid has no extra for it.

    Args:
        name: The name that the user gave.
        short_name: PennyLane's name of the device.
    """
    for prefix, extra in EXTRAS.items():
        if short_name.startswith(prefix):
            return f"device {name!r} needs a plug-in of PennyLane that is not installed: pip install 'qhybrid[{extra}]'"
    return None


def is_analytic(short_name: str, options: Mapping[str, Any]) -> bool:
    """Whether a PennyLane device gives exact values without shots; machines do not."""
    return not short_name.startswith(_SAMPLING_ONLY) and "/qpu/" not in str(options.get("device_arn", ""))


def check_credentials(name: str, short_name: str, options: Mapping[str, Any]) -> None:
    """Look for what a cloud asks for, before anything is sent to it.

    Args:
        name: The name that the user gave.
        short_name: PennyLane's name of the device.
        options: Of the plug-in.

    Raises:
        InputError: There are no credentials, or an option holds one: device files are copied and shared.
    """
    for option in sorted(_CREDENTIAL_OPTIONS & options.keys()):
        raise InputError(f"device {name!r}: options.{option}: a credential does not belong in a device file; {_WHERE}")
    if short_name.startswith("ionq.") and not any(os.environ.get(key) for key in _IONQ_KEYS):
        raise InputError(f"device {name!r} needs an API key of IonQ: set {_IONQ_KEYS[0]}")
    if short_name.startswith("braket.aws.") and find_spec("boto3"):
        import boto3

        session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
        if session.get_credentials() is None:
            raise InputError(
                f"device {name!r} needs AWS credentials: run `aws configure`, or set {_AWS_KEYS[0]} and {_AWS_KEYS[1]}"
            )
        if session.region_name is None:
            raise InputError(f"device {name!r} needs an AWS region: set AWS_REGION, for example to us-east-1")


def reason(error: Exception) -> str:
    """What a plug-in says went wrong, in one line, without the keys in the environment and AWS account numbers."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    for key in (*_IONQ_KEYS, *_AWS_KEYS):
        if secret := os.environ.get(key):
            text = text.replace(secret, "***")
    return _ACCOUNT.sub(r"\1***", text)
