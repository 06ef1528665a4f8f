"""Who asks, and may they? One way for every door.

In this order, so that who has no right learns nothing: the form of the key; is there such a key,
enabled, not expired, for this address, with this permission (one answer for all of these); the
signature over the bytes as they came; the time; and, of what changes something, that it was not
accepted before.
"""

import time
from collections.abc import Callable, Mapping

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
        if not signature:
            raise missing("signature")
        window = Window.of(sent.get("timestamp"), sent.get("recvWindow"))
        if not verify(key, payload, signature):
            raise of(BAD_SIGNATURE)
        window.check(int(self._clock() * 1e6))
        if changes:
            self._replays.accept(key, payload, window)
