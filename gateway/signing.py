"""Is a request from whom it says it is, and new?

    split()      what was signed, and the signature: the bytes as they came, never encoded again
    verify()     HMAC-SHA256, Ed25519, RSA (PKCS#1 v1.5 with SHA-256)
    Window       `timestamp` and `recvWindow`: is it from now?
    Replays      what was accepted within its window, in all workers

The payload is the query string and right behind it the body, without the `signature=` pair,
wherever that stands.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import lmdb
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from matchbox.gateway.errors import (
    AHEAD_OF_TIME,
    OUTSIDE_WINDOW,
    REPLAYED,
    ApiError,
    illegal,
    missing,
    of,
)
from matchbox.gateway.keys import FOLDER, Key, KeyKind
from matchbox.shm.errors import MatchboxError

DEFAULT_WINDOW_MS, MAX_WINDOW_MS = 5000, 60_000
# A client's clock may be so far ahead of ours.
AHEAD_MS = 1000
_WINDOW = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,3}))?", re.ASCII)
_PAIR = b"signature="
_MAP_BYTES = 1 << 32
_SWEPT_AT_ONCE = 4


def split(query: bytes, body: bytes) -> tuple[bytes, str | None]:
    """What was signed, and the signature; None if there is none."""
    signed_query, in_query = _without(query)
    signed_body, in_body = _without(body)
    found = in_query if in_query is not None else in_body
    return signed_query + signed_body, found


def _without(text: bytes) -> tuple[bytes, str | None]:
    """A text of parameters without its signature."""
    if _PAIR not in text:
        return text, None
    parts = text.split(b"&")
    kept = [part for part in parts if not part.startswith(_PAIR)]
    found = next((part for part in parts if part.startswith(_PAIR)), None)
    if found is None:
        return text, None
    return b"&".join(kept), unquote(found[len(_PAIR) :].decode("ascii", "replace"))


def verify(key: Key, payload: bytes, signature: str) -> bool:
    """Did the owner of the key sign this? What is compared is compared in constant time."""
    try:
        if key.kind is KeyKind.HMAC:
            given = bytes.fromhex(signature)
            return hmac.compare_digest(hmac.digest(key.secret.encode(), payload, "sha256"), given)
        given = base64.b64decode(signature, validate=True)
        public = _public(key.secret)
        if isinstance(public, Ed25519PublicKey):
            public.verify(given, payload)
        else:
            public.verify(given, payload, padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, binascii.Error, InvalidSignature):
        return False
    return True


_publics: dict[str, Ed25519PublicKey | RSAPublicKey] = {}


def _public(pem: str) -> Ed25519PublicKey | RSAPublicKey:
    """The public key of a PEM, read once."""
    known = _publics.get(pem)
    if known is None:
        found = serialization.load_pem_public_key(pem.encode())
        if not isinstance(found, Ed25519PublicKey | RSAPublicKey):
            raise MatchboxError(f"an API key of an unknown kind: {type(found).__name__}")
        if len(_publics) >= 1 << 14:
            _publics.clear()
        known = _publics[pem] = found
    return known


@dataclass(frozen=True)
class Window:
    """From when to when a request is good, in microseconds since 1970."""

    signed_us: int
    until_us: int

    @classmethod
    def of(cls, timestamp: str | None, recv_window: str | None) -> "Window":
        """Of the parameters as they were sent. Raises ApiError."""
        if not timestamp:
            raise missing("timestamp")
        if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 19):
            raise illegal("timestamp", "^[0-9]{1,19}$")
        signed_us = int(timestamp) * 1000
        window_us = DEFAULT_WINDOW_MS * 1000
        if recv_window is not None:
            found = _WINDOW.fullmatch(recv_window)
            if found is None:
                raise illegal("recvWindow", r"^[0-9]{1,6}(\.[0-9]{1,3})?$")
            window_us = int(found[1]) * 1000 + int((found[2] or "").ljust(3, "0"))
            if window_us > MAX_WINDOW_MS * 1000:
                raise ApiError(-1131, f"recvWindow must be less than {MAX_WINDOW_MS}.")
        return cls(signed_us, signed_us + window_us)

    def check(self, now_us: int) -> None:
        """Raises ApiError unless it is from now."""
        if now_us > self.until_us:
            raise of(OUTSIDE_WINDOW)
        if self.signed_us >= now_us + AHEAD_MS * 1000:
            raise of(AHEAD_OF_TIME)


class Replays:
    """The requests that were accepted and could still be sent again, known to all workers.

    DATA/gateway/replays.mdb: the end of a request's window (8 bytes, microseconds, big-endian) and
    a hash of it: nothing. What is over goes, some at each request. It is not flushed: a machine
    that comes up again has taken longer than a window lasts.
    """

    def __init__(self, data: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        folder = data / FOLDER
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._env = lmdb.open(
                str(folder / "replays.mdb"),
                subdir=False,
                mode=0o600,
                map_size=_MAP_BYTES,
                max_readers=512,
                sync=False,
                metasync=False,
            )
        except (OSError, lmdb.Error) as error:
            raise MatchboxError(f"cannot keep what was accepted: {folder}: {error}") from error

    def close(self) -> None:
        self._env.close()

    def accept(self, key: Key, payload: bytes, window: Window) -> None:
        """Accept a request whose signature is right, once. Raises ApiError if it was before."""
        name = hashlib.blake2b(payload, digest_size=24, key=key.id.encode()[:64]).digest()
        now = int(self._clock() * 1e6).to_bytes(8, "big")
        with self._env.begin(write=True) as change:
            if not change.put(window.until_us.to_bytes(8, "big") + name, b"", overwrite=False):
                raise of(REPLAYED)
            cursor = change.cursor()
            for _ in range(_SWEPT_AT_ONCE):
                if not cursor.first() or cursor.key()[:8] >= now:
                    break
                cursor.delete()

    def __len__(self) -> int:
        """How many are kept."""
        return int(self._env.stat()["entries"])
