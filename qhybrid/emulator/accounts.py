"""The account of the emulator: one API key, one instance, and the tokens that are good for it."""

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from pathlib import Path
from typing import Any

from qhybrid.storage import write_bytes

DUMMY_TOKEN = "qhybrid-emulator-needs-no-token"
PLANS = ("open", "premium")
ACCOUNT = "qhybridemulator"
INSTANCE = f"crn:v1:bluemix:public:quantum-computing:us-east:a/{ACCOUNT}:{uuid.uuid5(uuid.NAMESPACE_DNS, ACCOUNT)}::"
INSTANCE_NAME = "qhybrid-emulator"
LIFETIME = 3600


class Account:
    """Who may use the emulator.

    Args:
        state: Folder; the key that tokens are signed with is kept there, so that they outlive the server.
        api_key: The only one that is accepted.
        plan: `open` (no sessions) or `premium`.
    """

    def __init__(self, state: Path, api_key: str = DUMMY_TOKEN, plan: str = "open") -> None:
        self.plan = plan
        self._api_key = api_key
        path = state / "tokens.key"
        if not path.exists():
            write_bytes(path, secrets.token_bytes(32), private=True)
        self._secret = path.read_bytes()

    def token(self, api_key: str) -> dict[str, Any] | None:
        """What IBM's identity service answers to an API key; None: it does not know it."""
        if not hmac.compare_digest(api_key.encode(), self._api_key.encode()):
            return None
        issued = int(time.time())
        claims = {"iat": issued, "exp": issued + LIFETIME, "sub": ACCOUNT, "at": time.time()}
        signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
        token = f"{signed}.{self._sign(signed)}"
        return {
            "access_token": token,
            "refresh_token": "not_supported",
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "expiration": issued + LIFETIME,
            "scope": "ibm openid",
        }

    def accepts(self, authorization: str, lifetime: float | None) -> bool:
        """Whether a request's header `Authorization` is good.

        Args:
            authorization: `Bearer TOKEN`, or `apikey KEY`.
            lifetime: Seconds that tokens hold whatever they say; None: as they say.
        """
        kind, _, given = authorization.partition(" ")
        if kind.lower() == "apikey":
            return hmac.compare_digest(given.encode(), self._api_key.encode())
        signed, _, signature = given.rpartition(".")
        if kind != "Bearer" or not hmac.compare_digest(signature.encode(), self._sign(signed).encode()):
            return False
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        ends: float = claims["exp"] if lifetime is None else claims["at"] + lifetime
        return time.time() < ends

    def _sign(self, text: str) -> str:
        return _base64(hmac.new(self._secret, text.encode(), hashlib.sha256).digest())


def _encode(content: dict[str, Any]) -> str:
    return _base64(json.dumps(content).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
