"""The example bot in C: compiled strictly as C and as C++, and run against a real exchange."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import matchbox
from tests.integration.conftest import ExchangeProcess, wait_for

SOURCE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "bot.c"
STRICT = ["-Wall", "-Wextra", "-Werror", "-O2", f"-I{matchbox.get_include()}"]
LANGUAGES = {
    "c": (os.environ.get("CC", "cc"), ["-std=gnu11"]),
    "c++": (os.environ.get("CXX", "c++"), ["-x", "c++", "-std=gnu++17"]),
}
SAID = """\
ACCEPTED c-sell quantity=5 leaves=5 reason=0
ACCEPTED c-buy quantity=3 leaves=3 reason=0
TRADE c-sell quantity=3 leaves=2 reason=0
TRADE c-buy quantity=3 leaves=0 reason=0
CANCELED c-sell quantity=2 leaves=0 reason=600
"""
Build = Callable[[str], Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(language: str) -> Path:
        compiler, flags = LANGUAGES[language]
        if not shutil.which(compiler):
            pytest.skip(f"no {language} compiler")
        program = tmp_path / "bot"
        subprocess.run([compiler, *flags, *STRICT, str(SOURCE), "-o", str(program)], check=True)
        return program

    return make


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_bot_trades_and_is_told_of_it(
    build: Build, language: str, exchange_process: ExchangeProcess
) -> None:
    exchange = exchange_process
    bot = build(language)
    with exchange.connect("alice") as observer:
        data = observer.market_data()
        observer.subscribe(account=1)
        for _ in range(2):  # the second finds everything as the first did
            result = run(bot, exchange.data, "alice", 1, 1000)
            assert (result.stderr, result.stdout) == ("", SAID)
            assert result.returncode == 0
        seen: list[str] = []

        def all_seen() -> bool:
            reports = observer.reports(timeout=0.1)
            seen.extend(matchbox.EventKind(r["kind"]).name for r in reports)
            return seen.count("CANCELED") == 2

        wait_for(all_seen, "the subscriber is told of the bot's orders")
        assert seen.count("TRADE") == 4
        trades = [r for r in data.read() if r["kind"] == matchbox.MarketDataKind.TRADE]
        assert [(int(r["price_ticks"]), int(r["quantity_lots"])) for r in trades] == [(1000, 3)] * 2


def test_what_is_refused_is_said(build: Build, exchange_process: ExchangeProcess) -> None:
    bot = build("c")
    nobody = run(bot, exchange_process.data, "nobody", 1, 1000)
    assert nobody.returncode == 1
    assert "no account of this name" in nobody.stderr
    nowhere = run(bot, exchange_process.data / "nowhere", "alice", 1, 1000)
    assert nowhere.returncode == 1
    assert "no exchange answers" in nowhere.stderr
    refused = run(bot, exchange_process.data, "alice", 99, 1000)
    assert refused.returncode == 1
    assert "REJECTED c-sell quantity=5 leaves=0 reason=200" in refused.stdout
