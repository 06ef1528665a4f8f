"""Who asks, and may they? One way for every door.

In this order, so that who has no right learns nothing: the form of the key; is there such a key,
enabled, not expired, for this address, with this permission (one answer for all of these); the
signature over the bytes as they came; the time; and, of what changes something, that it was not
accepted before.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from urllib.parse import urlencode

from matchbox.gateway.errors import (
    BAD_KEY,
    BAD_KEY_FORMAT,
    BAD_SIGNATURE,
    missing,
    of,
)
from matchbox.gateway.keys import Key, Keys, Permission, is_id
from matchbox.gateway.signing import Replays, Window, split, verify


class Authentication:
    """Checks requests against the keys."""

    def __init__(
        self, keys: Keys, replays: Replays, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys, self._replays, self._clock = keys, replays, clock

    def key(self, key_id: str | None, address: str, permission: Permission) -> Key:
        """The key that was named. Raises ApiError."""
        if not key_id or not is_id(key_id):
            raise of(BAD_KEY_FORMAT)
        key = self._keys.find(key_id)
        if (
            key is None
            or key.disabled
            or key.expired(int(self._clock() * 1000))
            or not key.allows(address)
            or not key.may(permission)
        ):
            raise of(BAD_KEY)
        return key

    def signed(
        self,
        key: Key,
        query: bytes,
        body: bytes,
        sent: Mapping[str, str],
        *,
        changes: bool,
    ) -> None:
        """Did the key's owner sign this request, now, and (if it changes something) for the first
        time? `sent` has its parameters. Raises ApiError.
        """
        payload, signature = split(query, body)
        self._check(key, [payload], signature, sent, changes=changes)

    def signed_parameters(
        self, key: Key, sent: Mapping[str, str], *, truths: Collection[str] = (), changes: bool
    ) -> None:
        """The same for parameters that are no text of their own: `name=value` by name is signed.
        `truths`: names of those that are true or false, which some clients sign as True or False.
        Raises ApiError.
        """
        pairs = sorted((name, value) for name, value in sent.items() if name != "signature")
        payloads = [urlencode(pairs).encode()]
        # Some clients encode what they sign, some do not; where it could be read in another way,
        # it must be.
        if not any("&" in value or "=" in value for _, value in pairs):
            payloads.append("&".join(f"{name}={value}" for name, value in pairs).encode())
        if truths:
            spelled = [(n, value.title() if n in truths else value) for n, value in pairs]
            payloads.append(urlencode(spelled).encode())
        self._check(key, payloads, sent.get("signature"), sent, changes=changes)

    def in_time(self, sent: Mapping[str, str]) -> None:
        """Is a request that needs no signature from now? Raises ApiError."""
        Window.of(sent.get("timestamp"), sent.get("recvWindow")).check(int(self._clock() * 1e6))

    def _check(
        self,
        key: Key,
        payloads: Sequence[bytes],
        signature: str | None,
        sent: Mapping[str, str],
        *,
        changes: bool,
    ) -> None:
        """One of the payloads was signed. Accepted is the first one: it is the same for all."""
        if not signature:
            raise missing("signature")
        window = Window.of(sent.get("timestamp"), sent.get("recvWindow"))
        if not any(verify(key, payload, signature) for payload in payloads):
            raise of(BAD_SIGNATURE)
        window.check(int(self._clock() * 1e6))
        if changes:
            self._replays.accept(key, payloads[0], window)
