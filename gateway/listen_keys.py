"""Listen keys: names by which a user stream is opened without a signature.

    DATA/gateway/listen_keys.mdb   LMDB: a listen key: whose it is, and until when; `@` and the
                                   number of an account: its listen key

A key lives for an hour, and for another from each time that its owner asks. It is known to all
workers, and to those that come after them. It ends with the API key that it was made with.
"""

import secrets
import string
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import msgspec

from matchbox.gateway.errors import NO_SUCH_LISTEN_KEY, of
from matchbox.gateway.keys import FOLDER, Key, Keys, Permission
from matchbox.shm.errors import MatchboxError

LIFE_S = 3600
CHARACTERS = 60
_LETTERS = string.ascii_letters + string.digits
_MAP_BYTES = 1 << 30
_SWEPT_AT_ONCE = 4


class ListenKey(msgspec.Struct, frozen=True):
    """What is known of one."""

    account: int
    key_id: str  # of the API key
    until_s: int


_DECODER = msgspec.json.Decoder(ListenKey)


def is_listen_key(name: str) -> bool:
    """Has it the form of one?"""
    return len(name) == CHARACTERS and name.isascii() and name.isalnum()


class ListenKeys:
    """The listen keys of an exchange. One object a process; one thread."""

    def __init__(self, data: Path, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        """Raises MatchboxError if they cannot be kept."""
        self._keys, self._clock = keys, clock
        path = data / FOLDER / "listen_keys.mdb"
        try:
            self._env = lmdb.open(
                str(path),
                subdir=False,
                mode=0o600,
                map_size=_MAP_BYTES,
                max_readers=512,
                sync=False,
                metasync=False,
            )
        except (OSError, lmdb.Error) as error:
            raise MatchboxError(f"cannot keep listen keys: {path}: {error}") from error

    def close(self) -> None:
        self._env.close()

    def make(self, key: Key) -> str:
        """The living listen key of an account, or a new one; it lives an hour from now."""
        owner = _owner(key.account)
        with self._env.begin(write=True) as change:
            self._sweep(change)
            known = change.get(owner)
            name = known.decode() if known is not None else ""
            if not name or self._living(change, name) is None:
                if name:
                    change.delete(name.encode())
                name = "".join(secrets.choice(_LETTERS) for _ in range(CHARACTERS))
                change.put(owner, name.encode())
            self._put(change, name, key)
        return name

    def keep(self, name: str, key: Key) -> None:
        """Have it live for an hour from now. Raises ApiError if it is none of the account's."""
        with self._env.begin(write=True) as change:
            self._owned(change, name, key)
            self._put(change, name, key)

    def end(self, name: str, key: Key) -> None:
        """Raises ApiError if it is none of the account's."""
        with self._env.begin(write=True) as change:
            self._owned(change, name, key)
            change.delete(name.encode())
            change.delete(_owner(key.account))

    def find(self, name: str, address: str) -> ListenKey | None:
        """A listen key that lives, of an API key that may read now, and from there."""
        with self._env.begin() as look:
            found = self._living(look, name)
        if found is None:
            return None
        key = self._keys.find(found.key_id)
        if key is None or key.disabled or key.expired(int(self._clock() * 1000)):
            return None
        return found if key.may(Permission.READ) and key.allows(address) else None

    def _living(self, look: "lmdb.Transaction", name: str) -> ListenKey | None:
        row = look.get(name.encode())
        if row is None or not is_listen_key(name):
            return None
        found = _DECODER.decode(row)
        return found if found.until_s > self._clock() else None

    def _owned(self, look: "lmdb.Transaction", name: str, key: Key) -> None:
        found = self._living(look, name) if is_listen_key(name) else None
        if found is None or found.account != key.account:
            raise of(NO_SUCH_LISTEN_KEY)

    def _put(self, change: "lmdb.Transaction", name: str, key: Key) -> None:
        row = ListenKey(key.account, key.id, int(self._clock()) + LIFE_S)
        change.put(name.encode(), msgspec.json.encode(row))

    def _sweep(self, change: "lmdb.Transaction") -> None:
        """Take some that are over out, from a place anywhere on."""
        with change.cursor() as cursor:
            there = cursor.set_range(secrets.choice(_LETTERS).encode())
            for _ in range(_SWEPT_AT_ONCE):
                if not there:
                    break
                owner = bytes(cursor.key()).startswith(b"@")
                if not owner and _DECODER.decode(cursor.value()).until_s <= self._clock():
                    there = cursor.delete()
                else:
                    there = cursor.next()


def _owner(account: int) -> bytes:
    return f"@{account}".encode()
