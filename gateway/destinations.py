"""Where withdrawals are to go: what clients say beside the amount, for whoever sends it on.

    DATA/gateway/destinations.mdb    LMDB: account (4 bytes, big-endian) and digest; JSON

The engine holds the amount, and its record has 24 bytes for a note. They are the digest of the
destination, under which that is found here: so the log says where the money was to go, and nothing
that is written later changes it. A destination is on the disk before its request is sent.
"""

import hashlib
from pathlib import Path

import lmdb
import msgspec

from matchbox.gateway.keys import FOLDER
from matchbox.shm.errors import MatchboxError

_MAP_BYTES = 1 << 34
DIGEST_CHARACTERS = 24


class Destination(msgspec.Struct, frozen=True):
    """What a client said of a withdrawal."""

    address: str
    tag: str = ""
    network: str = ""
    order_id: str = ""  # the client's own


class Destinations:
    """Of all accounts; several processes may read and write them."""

    def __init__(self, data: Path, *, writable: bool = True) -> None:
        """Raises MatchboxError."""
        path = data / FOLDER / "destinations.mdb"
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._env = lmdb.open(
                str(path),
                subdir=False,
                mode=0o600,
                map_size=_MAP_BYTES,
                max_readers=512,
                readonly=not writable,
            )
        except (OSError, lmdb.Error) as error:
            raise MatchboxError(f"cannot keep destinations: {path}: {error}") from error

    def close(self) -> None:
        self._env.close()

    def put(self, account: int, destination: Destination) -> str:
        """Its digest, once it is on the disk."""
        value = msgspec.json.encode(destination)
        digest = hashlib.sha256(value).hexdigest()[:DIGEST_CHARACTERS]
        with self._env.begin(write=True) as transaction:
            transaction.put(_key(account, digest), value)
        return digest

    def get(self, account: int, digest: str) -> Destination | None:
        """Of what another door has asked for there is none."""
        with self._env.begin() as transaction:
            value = transaction.get(_key(account, digest))
        return None if value is None else msgspec.json.decode(value, type=Destination)


def _key(account: int, digest: str) -> bytes:
    return account.to_bytes(4, "big") + digest.encode()
