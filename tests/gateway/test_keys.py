"""API keys: secrets encrypted at rest, changes that count at once, and nothing else accepted."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from matchbox.gateway.keys import KeyKind, Keys, Permission, is_id
from matchbox.shm.errors import BadArgument, MatchboxError


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def pem(private: Ed25519PrivateKey | rsa.RSAPrivateKey) -> str:
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def test_a_key_is_found_as_it_was_made(keys: Keys) -> None:
    made = keys.create(
        3,
        permissions=(Permission.READ, Permission.WITHDRAW),
        addresses=("192.0.2.0/24", "2001:db8::/32"),
        label="for a bot",
        expires_ms=10,
    )
    assert is_id(made.id) and len(made.secret) == 64
    assert keys.find(made.id) == made
    assert keys.find("x" * 64) is None
    assert made.may(Permission.READ) and not made.may(Permission.TRADE)
    assert made.expired(10) and not made.expired(9)


def test_addresses_are_networks_and_mapped_ones_are_meant(keys: Keys) -> None:
    key = keys.create(1, addresses=("192.0.2.0/24", "::1"))
    assert key.allows("192.0.2.7") and key.allows("::ffff:192.0.2.7") and key.allows("::1")
    assert not any(map(key.allows, ("192.0.3.1", "::2", "", "localhost")))
    assert keys.create(1).allows("203.0.113.9")


def test_no_file_but_the_key_file_has_a_secret_and_nobody_else_reads_that(
    keys: Keys, tmp_path: Path
) -> None:
    secret = keys.create(1).secret
    folder = tmp_path / "gateway"
    assert all(secret.encode() not in path.read_bytes() for path in folder.iterdir())
    for path in (folder, *folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    keys.close()
    (folder / "keys.secret").chmod(0o640)
    with pytest.raises(MatchboxError, match="others may read"):
        Keys(tmp_path)


def test_without_its_key_file_no_secret_is_read(keys: Keys, tmp_path: Path) -> None:
    made = keys.create(1)
    keys.close()
    (tmp_path / "gateway" / "keys.secret").unlink()
    with pytest.raises(MatchboxError, match="cannot be read"):
        Keys(tmp_path).find(made.id)


def test_a_change_counts_at_once_for_who_has_read_the_key_before(
    keys: Keys, tmp_path: Path
) -> None:
    made = keys.create(1)
    assert keys.find(made.id) == made
    keys.disable(made.id)
    disabled = keys.find(made.id)
    assert disabled is not None and disabled.disabled and disabled.secret == made.secret
    keys.disable(made.id, False)
    assert keys.find(made.id) == made
    keys.delete(made.id)
    assert keys.find(made.id) is None
    for change in (keys.disable, keys.delete):
        with pytest.raises(BadArgument, match="no such API key"):
            change(made.id)


def test_keys_are_listed_by_account(keys: Keys) -> None:
    made = [keys.create(number) for number in (1, 2, 1)]
    assert {key.id for key in keys.all()} == {key.id for key in made}
    assert {key.id for key in keys.all(1)} == {made[0].id, made[2].id}


def test_public_keys_are_those_that_can_be_verified_with(keys: Keys) -> None:
    ed25519 = pem(Ed25519PrivateKey.generate())
    good = pem(rsa.generate_private_key(65537, 2048))
    small = pem(rsa.generate_private_key(65537, 1024))
    assert keys.create(1, kind=KeyKind.ED25519, public_key=ed25519).secret == ed25519
    assert keys.create(1, kind=KeyKind.RSA, public_key=good).secret == good
    for kind, text, problem in (
        (KeyKind.ED25519, good, "of this kind"),
        (KeyKind.RSA, ed25519, "of this kind"),
        (KeyKind.RSA, small, "2048"),
        (KeyKind.RSA, "nonsense", "PEM"),
        (KeyKind.HMAC, good, "no public key"),
    ):
        with pytest.raises(BadArgument, match=problem):
            keys.create(1, kind=kind, public_key=text)


def test_what_makes_no_sense_makes_no_key(keys: Keys) -> None:
    with pytest.raises(BadArgument, match="may do something"):
        keys.create(1, permissions=())
    with pytest.raises(BadArgument, match="192.0.2.0/24"):
        keys.create(1, addresses=("192.0.2.1/24",))
    with pytest.raises(BadArgument, match="label"):
        keys.create(1, label="a\nb")
    assert keys.all() == []
