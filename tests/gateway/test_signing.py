"""Signed requests: the bytes as sent, by every kind of key; from now; and accepted once."""

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from matchbox.gateway.errors import ApiError
from matchbox.gateway.keys import Key, KeyKind
from matchbox.gateway.signing import Replays, Window, split, verify

PAYLOAD = b"symbol=BTCUSDT&side=BUY&price=0%2E1&timestamp=1499827319559"
# The example of the venue's own documents.
EXAMPLE_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
EXAMPLE = (
    b"symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"
    b"&timestamp=1499827319559"
)
EXAMPLE_SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
PUBLIC = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def hmac_key(secret: str = "secret", key_id: str = "a" * 64) -> Key:
    return Key(key_id, 1, KeyKind.HMAC, secret)


def test_the_example_of_the_dialect_is_verified_in_any_case() -> None:
    key = hmac_key(EXAMPLE_SECRET)
    assert verify(key, EXAMPLE, EXAMPLE_SIGNATURE)
    assert verify(key, EXAMPLE, EXAMPLE_SIGNATURE.upper())
    # Query and body follow each other without anything between.
    query, body = EXAMPLE[:41], EXAMPLE[41:] + b"&signature=" + EXAMPLE_SIGNATURE.encode()
    assert split(query, body) == (EXAMPLE, EXAMPLE_SIGNATURE)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        (b"a=1&b=2&signature=s%2B", b""),
        (b"signature=s%2B&a=1&b=2", b""),
        (b"a=1&signature=s%2B&b=2", b""),
        (b"", b"a=1&b=2&signature=s%2B"),
        (b"a=1&b=2", b"signature=s%2B"),
        (b"a=1&b=2&signature=s%2B", b"signature=t"),
    ],
)
def test_the_signature_may_stand_anywhere(query: bytes, body: bytes) -> None:
    assert split(query, body) == (b"a=1&b=2", "s+")


def test_a_parameter_that_only_looks_like_it_is_signed() -> None:
    assert split(b"mysignature=1&a=2", b"") == (b"mysignature=1&a=2", None)


def test_signatures_of_each_kind_are_verified_and_no_others() -> None:
    ed25519 = Ed25519PrivateKey.generate()
    big = rsa.generate_private_key(65537, 2048)
    keys = {
        KeyKind.HMAC: hmac_key(),
        KeyKind.ED25519: Key(
            "b" * 64, 1, KeyKind.ED25519, ed25519.public_key().public_bytes(*PUBLIC).decode()
        ),
        KeyKind.RSA: Key("c" * 64, 1, KeyKind.RSA, big.public_key().public_bytes(*PUBLIC).decode()),
    }
    signatures = {
        KeyKind.HMAC: hmac.new(b"secret", PAYLOAD, hashlib.sha256).hexdigest(),
        KeyKind.ED25519: base64.b64encode(ed25519.sign(PAYLOAD)).decode(),
        KeyKind.RSA: base64.b64encode(
            big.sign(PAYLOAD, padding.PKCS1v15(), hashes.SHA256())
        ).decode(),
    }
    for of, key in keys.items():
        for by, signature in signatures.items():
            assert verify(key, PAYLOAD, signature) == (of == by)
            assert not verify(key, PAYLOAD + b"&", signature)
            assert not verify(key, PAYLOAD.replace(b"%2E", b"."), signature)
            assert not verify(key, PAYLOAD, signature[:-4] + "0000")


@given(st.text(max_size=100))
def test_no_text_is_a_signature_by_chance_or_an_error(text: str) -> None:
    assert not verify(hmac_key(), PAYLOAD, text)


NOW_US = 1_700_000_000_000_000


@pytest.mark.parametrize(
    ("behind_ms", "window", "code"),
    [
        (0, None, 0),
        (5000, None, 0),
        (5001, None, -1021),
        (-999, None, 0),
        (-1000, None, -1021),
        (60_000, "60000", 0),
        (2, "1.5", -1021),
        (1, "1.5", 0),
        (0, "60000.001", -1131),
        (0, "60001", -1131),
        (0, "-1", -1100),
        (0, "", -1100),
        (0, "1e3", -1100),
    ],
)
def test_a_request_is_good_within_its_window(behind_ms: int, window: str | None, code: int) -> None:
    timestamp = str(NOW_US // 1000 - behind_ms)
    if not code:
        Window.of(timestamp, window).check(NOW_US)
        return
    with pytest.raises(ApiError) as error:
        Window.of(timestamp, window).check(NOW_US)
    assert error.value.code == code
    assert code != -1021 or "Timestamp for this request" in error.value.message


@pytest.mark.parametrize(("timestamp", "code"), [(None, -1102), ("", -1102), ("x", -1100)])
def test_a_time_is_needed(timestamp: str | None, code: int) -> None:
    with pytest.raises(ApiError) as error:
        Window.of(timestamp, None)
    assert error.value.code == code


def test_a_request_is_accepted_once_by_whichever_worker(tmp_path: Path) -> None:
    now = [NOW_US / 1e6]
    one = Replays(tmp_path, lambda: now[0])
    window = Window.of(str(NOW_US // 1000), "5000")
    one.accept(hmac_key(), PAYLOAD, window)
    one.accept(hmac_key(key_id="b" * 64), PAYLOAD, window)
    one.accept(hmac_key(), PAYLOAD + b"1", window)
    one.close()
    other = Replays(tmp_path, lambda: now[0])
    with pytest.raises(ApiError) as error:
        other.accept(hmac_key(), PAYLOAD, window)
    assert error.value.code == -1022


def test_what_is_over_is_forgotten_and_nothing_before(tmp_path: Path) -> None:
    now = [NOW_US / 1e6]
    replays = Replays(tmp_path, lambda: now[0])
    for number in range(20):
        window = Window.of(str(NOW_US // 1000 + number), "1000")
        replays.accept(hmac_key(), b"%d" % number, window)
    assert len(replays) == 20
    now[0] += 1.0005  # the first one is over
    for number in range(10):
        window = Window.of(str(int(now[0] * 1000)), "1000")
        replays.accept(hmac_key(), b"more %d" % number, window)
    assert len(replays) == 29
    now[0] += 0.5  # all of the first twenty are
    for number in range(10):
        window = Window.of(str(int(now[0] * 1000)), "1000")
        replays.accept(hmac_key(), b"yet more %d" % number, window)
    assert len(replays) == 20
