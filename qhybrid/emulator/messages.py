"""Requests and replies."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """A request, taken apart.

    Args:
        method: Such as GET.
        host: Without a port.
        path: Its parts.
        query: Name -> values.
        headers: By their names in lower case.
        body: As it came.
    """

    method: str
    host: str
    path: tuple[str, ...]
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def first(self, name: str) -> str | None:
        """A value of the query; None: it is not there."""
        return self.query.get(name, [None])[0]

    def json(self) -> dict[str, Any]:
        """The body.

        Raises:
            ValueError: It is no JSON object.
        """
        content = json.loads(self.body or b"{}")
        if not isinstance(content, dict):
            raise ValueError("the body is not a JSON object")
        return content


@dataclass(frozen=True)
class Reply:
    """A reply.

    Args:
        status: HTTP status; 0: close the connection instead.
        body: As it goes out.
        headers: Besides those of the body.
        cut: Announce the whole body and send half of it.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


CLOSED = Reply(0)


def ok(content: Any, status: int = 200) -> Reply:
    """JSON."""
    return Reply(status, json.dumps(content).encode())


def error(status: int, code: int, message: str, solution: str = "", **headers: str) -> Reply:
    """An error as IBM's runtime service words it."""
    more = f"https://quantum.cloud.ibm.com/docs/errors#{code}"
    entry = {"code": code, "message": message, "solution": solution, "more_info": more}
    content = {"errors": [entry], "trace": "qhybrid-emulator"}
    return Reply(status, json.dumps(content).encode(), dict(headers))
