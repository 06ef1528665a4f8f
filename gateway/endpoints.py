"""What an endpoint is: declared once, for whoever serves it and whoever documents it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from matchbox.gateway.keys import Key, Permission
from matchbox.gateway.parameters import Form


class Security(Enum):
    """What a request needs."""

    NONE = "none"
    KEY = "key"  # named in a header
    SIGNED = "signed"  # and signed with it


@dataclass
class Call:
    """One request, checked; `headers` are those of its answer."""

    values: dict[str, Any]
    sent: Mapping[str, str]
    address: str
    key: Key | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def account(self) -> int:
        assert self.key is not None
        return self.key.account


Handler = Callable[[Call], Awaitable[Any]]
Weight = int | Callable[[dict[str, Any]], int]


@dataclass(frozen=True)
class Endpoint:
    """One method of one path. `changes`: a request is accepted once."""

    method: str
    path: str
    handle: Handler
    form: Form = field(default_factory=Form)
    security: Security = Security.NONE
    permission: Permission = Permission.READ
    weight: Weight = 1
    changes: bool = False
    about: str = ""

    def weigh(self, values: dict[str, Any]) -> int:
        return self.weight if isinstance(self.weight, int) else self.weight(values)
