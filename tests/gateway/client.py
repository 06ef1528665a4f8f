"""A client of the gateway as small as can be: signs as the documents say, and keeps no state."""

import hashlib
import hmac
import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from matchbox.gateway.keys import Key


@dataclass
class Response:
    """Status, headers in lower case, and what the JSON says."""

    status: int
    headers: dict[str, str]
    body: Any


class Client:
    """One connection, for one key or none."""

    def __init__(self, address: str, key: Key | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.key = key
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def close(self) -> None:
        self._connection.close()

    def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Response:
        """Exactly this."""
        self._connection.request(method, path, body or None, headers or {})
        answer = self._connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, found, json.loads(answer.read()))

    def get(self, path: str, **parameters: Any) -> Response:
        """A public request."""
        query = "?" + urlencode(parameters) if parameters else ""
        return self.send("GET", f"/api/v3/{path}{query}")

    def sign(self, parameters: dict[str, Any]) -> str:
        """The parameters with time and signature."""
        assert self.key is not None
        given = {"timestamp": time.time_ns() // 1_000_000} | parameters
        payload = urlencode({name: value for name, value in given.items() if value is not None})
        digest = hmac.new(self.key.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
        return f"{payload}&signature={digest}"

    def signed(self, method: str, path: str, **parameters: Any) -> Response:
        """A signed request, its parameters in the query string."""
        assert self.key is not None
        target = f"/api/v3/{path}?{self.sign(parameters)}"
        return self.send(method, target, headers={"X-MBX-APIKEY": self.key.id})

    def good(self, method: str, path: str, **parameters: Any) -> Any:
        """What a signed request that succeeds is answered with."""
        response = self.signed(method, path, **parameters)
        assert response.status == 200, response
        return response.body
