"""Errors that are sentences to the user: what was given, where, what is allowed, the nearest match."""

import difflib
from collections.abc import Iterable


class QHybridError(Exception):
    """Something went wrong that the user should read about in one line, without a traceback."""

    exit_code = 1


class InputError(QHybridError, ValueError):
    """What the user gave is wrong: a name, a key, a value, a file."""

    exit_code = 2


class Interrupted(QHybridError):
    """The user stopped a command that can go on later; the message says how."""

    exit_code = 130


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Say what is allowed, the nearest match first.

    Args:
        given: What the user wrote.
        allowed: Everything that would have been right.

    Returns:
        A half sentence such as `did you mean 'angle_4q'? (allowed: angle_4q, sda_qec)`.
    """
    choices = sorted(allowed)
    listed = ", ".join(choices) or "nothing"
    near = difflib.get_close_matches(given.lower(), [choice.lower() for choice in choices], n=1, cutoff=0.5)
    if not near:
        return f"allowed: {listed}"
    match = next(choice for choice in choices if choice.lower() == near[0])
    return f"did you mean {match!r}? (allowed: {listed})"
