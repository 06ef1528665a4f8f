"""`matchbox key`: keys made, listed and ended, whether the exchange runs or not."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from matchbox.gateway.keys import Keys, Permission
from matchbox.shm.errors import MatchboxError
from matchbox.tools import cli, folder

CONFIG = """
instance = "keys"
data = "data"
[[account]]
number = 7
name = "alice"
"""
ED25519 = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of an exchange that has stopped."""
    config, data = tmp_path / "exchange.toml", tmp_path / "data"
    config.write_text(CONFIG)
    folder.prepare(data, shared=False)
    folder.write_status(data, {"state": "stopped", "config": str(config)})
    return data


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli.make_app(), ["key", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_key_is_made_listed_disabled_enabled_and_deleted(data: Path) -> None:
    made = json.loads(
        run("create", data, "alice", "--label", "bot", "--permission", "read",
            "--address", "192.0.2.0/24", "--days", "2", "--json")
    )  # fmt: skip
    assert (made["account"], made["kind"], made["permissions"]) == (7, "hmac", ["read"])
    assert made["expires_ms"] - made["created_ms"] == pytest.approx(2 * 86_400_000, abs=1000)
    listed = json.loads(run("list", data, "--account", "7", "--json"))
    assert listed == {name: value for name, value in made.items() if name != "secret"}
    key = made["key"]
    assert "disabled" in run("disable", data, key)
    assert json.loads(run("list", data, "--json"))["state"] == "disabled"
    assert "enabled" in run("enable", data, key)
    assert "alice" in run("list", data) and made["secret"] not in run("list", data)
    run("delete", data, key)
    assert run("list", data, "--json") == ""


def test_the_secret_that_is_shown_is_the_one_that_counts(data: Path) -> None:
    words = run("create", data, "7").split()
    keys = Keys(data)
    (key,) = keys.all()
    assert words[words.index("secret") + 1] == key.secret
    assert key.permissions == (Permission.READ, Permission.TRADE)
    keys.close()


def test_a_public_key_says_itself_which_kind_it_is(data: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(ED25519)
    made = json.loads(run("create", data, "alice", "--public-key", tmp_path / "key.pem", "--json"))
    assert made["kind"] == "ed25519" and "secret" not in made


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["create", "bob"], "no such account"),
        (["create", "8"], "no such account"),
        (["create", "alice", "--permission", "all"], "read, trade, withdraw"),
        (["create", "alice", "--address", "here"], "not an address"),
        (["disable", "x"], "no such API key"),
        (["delete", "x"], "no such API key"),
    ],
)
def test_what_cannot_be_is_said(data: Path, arguments: list[str], problem: str) -> None:
    command, *rest = arguments
    with pytest.raises(MatchboxError, match=problem):
        run(command, data, *rest)
