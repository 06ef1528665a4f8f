"""Listen keys over REST: the endpoints of /api/v3/userDataStream."""

from typing import Any

from matchbox.gateway.endpoints import Call, Endpoint, Security
from matchbox.gateway.listen_keys import CHARACTERS, ListenKeys
from matchbox.gateway.parameters import Form, Parameter, Text

_NAMED = Form(Parameter("listenKey", Text(rf"^[A-Za-z0-9]{{{CHARACTERS}}}$"), required=True))


class UserData:
    """What the endpoints do."""

    def __init__(self, listen_keys: ListenKeys) -> None:
        self._listen_keys = listen_keys

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        path, key = "/api/v3/userDataStream", Security.KEY
        return [
            Endpoint("POST", path, self.make, security=key, weight=2, about="A listen key."),
            Endpoint("PUT", path, self.keep, _NAMED, key, weight=2, about="Another hour for it."),
            Endpoint("DELETE", path, self.end, _NAMED, key, weight=2, about="End it."),
        ]

    async def make(self, call: Call) -> dict[str, Any]:
        assert call.key is not None
        return {"listenKey": self._listen_keys.make(call.key)}

    async def keep(self, call: Call) -> dict[str, Any]:
        assert call.key is not None
        self._listen_keys.keep(call.values["listenKey"], call.key)
        return {}

    async def end(self, call: Call) -> dict[str, Any]:
        assert call.key is not None
        self._listen_keys.end(call.values["listenKey"], call.key)
        return {}
