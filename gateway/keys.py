"""API keys: who may do what in an account's name.

    DATA/gateway/keys.mdb      LMDB: `keys`, by id: a Key as JSON
    DATA/gateway/keys.secret   32 random bytes, mode 0600, with which secrets are encrypted

An id is 64 letters and digits. The secret of an HMAC key is encrypted at rest (AES-256-GCM, bound
to the id and its account); of an Ed25519 or RSA key only the public half is here. Who has the LMDB
file alone, as in a backup, can sign nothing.

Any process of the appliance's user reads and writes them at any time. A change counts from the next
request on, in every worker: what was read is kept only as long as the row has the same bytes.
"""

import ipaddress
import os
import re
import secrets
import string
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import lmdb
import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from matchbox.shm.errors import BadArgument, MatchboxError

FOLDER = "gateway"
ID_CHARACTERS = 64
_LETTERS = string.ascii_letters + string.digits
_ID = re.compile(r"[A-Za-z0-9]{64}")
_LABEL = re.compile(r"[ -~]{0,64}")
_MAP_BYTES = 1 << 32
_NONCE_BYTES, _SECRET_KEY_BYTES = 12, 32
_LEAST_RSA_BITS, _MOST_RSA_BITS = 2048, 4096


class KeyKind(StrEnum):
    """How its requests are signed."""

    HMAC = "hmac"
    ED25519 = "ed25519"
    RSA = "rsa"


class Permission(StrEnum):
    """What it may do."""

    READ = "read"
    TRADE = "trade"
    WITHDRAW = "withdraw"


@dataclass(frozen=True)
class Key:
    """One key. `secret`: of HMAC what requests are signed with, else the public key as PEM."""

    id: str
    account: int
    kind: KeyKind
    secret: str
    permissions: tuple[Permission, ...] = (Permission.READ,)
    addresses: tuple[str, ...] = ()  # networks that it may be used from; none: from anywhere
    label: str = ""
    created_ms: int = 0
    expires_ms: int = 0  # 0: never
    disabled: bool = False
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = field(
        default=(), compare=False, repr=False
    )

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def expired(self, now_ms: int) -> bool:
        return bool(self.expires_ms) and now_ms >= self.expires_ms

    def allows(self, address: str) -> bool:
        """May it be used from this address?"""
        if not self.networks:
            return True
        try:
            asking = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(asking, ipaddress.IPv6Address) and asking.ipv4_mapped is not None:
            asking = asking.ipv4_mapped
        return any(asking in network for network in self.networks)


class _Row(msgspec.Struct, frozen=True):
    """A key as it stands in LMDB; `secret` is encrypted where it is one."""

    account: int
    kind: str
    secret: bytes
    permissions: list[str]
    addresses: list[str]
    label: str
    created_ms: int
    expires_ms: int
    disabled: bool


_DECODER = msgspec.json.Decoder(_Row)


class Keys:
    """The keys in a data folder. One object a process; one thread."""

    def __init__(self, data: Path) -> None:
        """Raises MatchboxError if they cannot be read."""
        folder = data / FOLDER
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._cipher = AESGCM(_secret_key(folder / "keys.secret"))
            self._env = lmdb.open(
                str(folder / "keys.mdb"),
                subdir=False,
                mode=0o600,
                map_size=_MAP_BYTES,
                max_dbs=1,
                max_readers=512,
            )
            self._table = self._env.open_db(b"keys")
        except (OSError, lmdb.Error) as error:
            raise MatchboxError(f"the API keys cannot be opened: {folder}: {error}") from error
        self._known: dict[str, tuple[bytes, Key]] = {}

    def close(self) -> None:
        self._env.close()

    # -- looking

    def find(self, key_id: str) -> Key | None:
        """The key of this id, as it is now; None if there is none."""
        with self._env.begin(db=self._table, buffers=True) as look:
            row = look.get(key_id.encode())
            if row is None:
                return None
            known = self._known.get(key_id)
            if known is not None and known[0] == row:
                return known[1]
            raw = bytes(row)
        key = self._read(key_id, raw)
        if len(self._known) >= 1 << 16:
            self._known.clear()
        self._known[key_id] = (raw, key)
        return key

    def all(self, account: int = 0) -> list[Key]:
        """Every key of an account (0: of all), oldest first."""
        with self._env.begin(db=self._table) as look:
            rows = [(bytes(name).decode(), bytes(row)) for name, row in look.cursor()]
        found = [self._read(name, row) for name, row in rows]
        return sorted(
            (key for key in found if account in (0, key.account)),
            key=lambda key: (key.created_ms, key.id),
        )

    # -- changing

    def create(
        self,
        account: int,
        *,
        kind: KeyKind = KeyKind.HMAC,
        public_key: str = "",
        permissions: tuple[Permission, ...] = (Permission.READ, Permission.TRADE),
        addresses: tuple[str, ...] = (),
        label: str = "",
        expires_ms: int = 0,
    ) -> Key:
        """A new key; of HMAC, its `secret` is told here for the only time. Raises BadArgument."""
        if not permissions:
            raise BadArgument(f"a key may do something; allowed: {', '.join(Permission)}")
        if _LABEL.fullmatch(label) is None:
            raise BadArgument(f"a label is up to 64 printable ASCII characters: label={label!r}")
        if kind is KeyKind.HMAC:
            if public_key:
                raise BadArgument("an HMAC key has a secret, and no public key")
            secret = _random()
        else:
            secret = _checked(public_key, kind)
        key = Key(
            id=_random(),
            account=account,
            kind=kind,
            secret=secret,
            permissions=tuple(dict.fromkeys(permissions)),
            addresses=addresses,
            label=label,
            created_ms=int(time.time() * 1000),
            expires_ms=expires_ms,
            networks=_networks(addresses),
        )
        self._write(key)
        return key

    def disable(self, key_id: str, disabled: bool = True) -> None:
        """Have it accepted no more, or again. Raises BadArgument if there is none."""
        with self._env.begin(db=self._table, write=True) as change:
            row = change.get(key_id.encode())
            if row is None:
                raise _no_such(key_id)
            values = msgspec.structs.asdict(_DECODER.decode(row)) | {"disabled": disabled}
            change.put(key_id.encode(), msgspec.json.encode(_Row(**values)))

    def delete(self, key_id: str) -> None:
        """Remove it for good. Raises BadArgument if there is none."""
        with self._env.begin(db=self._table, write=True) as change:
            if not change.delete(key_id.encode()):
                raise _no_such(key_id)

    def _write(self, key: Key) -> None:
        secret = key.secret.encode()
        if key.kind is KeyKind.HMAC:
            nonce = secrets.token_bytes(_NONCE_BYTES)
            secret = nonce + self._cipher.encrypt(nonce, secret, _bound(key.id, key.account))
        row = _Row(
            account=key.account,
            kind=key.kind.value,
            secret=secret,
            permissions=[each.value for each in key.permissions],
            addresses=list(key.addresses),
            label=key.label,
            created_ms=key.created_ms,
            expires_ms=key.expires_ms,
            disabled=key.disabled,
        )
        with self._env.begin(db=self._table, write=True) as change:
            if not change.put(key.id.encode(), msgspec.json.encode(row), overwrite=False):
                raise MatchboxError("a random id was there already")

    def _read(self, key_id: str, raw: bytes) -> Key:
        try:
            row = _DECODER.decode(raw)
            secret = row.secret
            if row.kind == KeyKind.HMAC:
                nonce, sealed = secret[:_NONCE_BYTES], secret[_NONCE_BYTES:]
                secret = self._cipher.decrypt(nonce, sealed, _bound(key_id, row.account))
        except (msgspec.MsgspecError, InvalidTag, ValueError) as error:
            raise MatchboxError(
                f"an API key cannot be read; is keys.secret another one's? id={key_id}: "
                f"{type(error).__name__}"
            ) from error
        return Key(
            id=key_id,
            account=row.account,
            kind=KeyKind(row.kind),
            secret=secret.decode(),
            permissions=tuple(Permission(each) for each in row.permissions),
            addresses=tuple(row.addresses),
            label=row.label,
            created_ms=row.created_ms,
            expires_ms=row.expires_ms,
            disabled=row.disabled,
            networks=_networks(row.addresses),
        )


def is_id(text: str) -> bool:
    """Has it the form of a key's id?"""
    return _ID.fullmatch(text) is not None


def _random() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(ID_CHARACTERS))


def _bound(key_id: str, account: int) -> bytes:
    """What a secret is encrypted for: in another row it cannot be read."""
    return f"{key_id}:{account}".encode()


def _no_such(key_id: str) -> BadArgument:
    return BadArgument(f"there is no such API key: id={key_id}; `matchbox key list` has them all")


def _networks(
    addresses: tuple[str, ...] | list[str],
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(address) for address in addresses)
    except ValueError as error:
        raise BadArgument(
            f"not an address or network: {error}; allowed: such as 192.0.2.7, 192.0.2.0/24, ::1"
        ) from None


def _checked(pem: str, kind: KeyKind) -> str:
    """A public key as PEM, if it is one of this kind. Raises BadArgument."""
    try:
        found = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadArgument(f"not a public key as PEM: {error}") from None
    if kind is KeyKind.ED25519 and isinstance(found, Ed25519PublicKey):
        return pem
    if kind is KeyKind.RSA and isinstance(found, RSAPublicKey):
        if _LEAST_RSA_BITS <= found.key_size <= _MOST_RSA_BITS:
            return pem
        raise BadArgument(
            f"an RSA key has {_LEAST_RSA_BITS} to {_MOST_RSA_BITS} bits: bits={found.key_size}"
        )
    raise BadArgument(f"not a public key of this kind: kind={kind.value}")


def _secret_key(path: Path) -> bytes:
    """What is in the file, which is made if it is not there. Raises MatchboxError if others may
    read it.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    if not path.exists():
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(secrets.token_bytes(_SECRET_KEY_BYTES))
            out.flush()
            os.fsync(out.fileno())
        try:
            # Whole or not at all, and never in the place of another process's.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise MatchboxError(f"others may read {path}: mode={mode:03o}; allowed: 600")
    key = path.read_bytes()
    if len(key) != _SECRET_KEY_BYTES:
        raise MatchboxError(f"{path} has not {_SECRET_KEY_BYTES} bytes: bytes={len(key)}")
    return key
