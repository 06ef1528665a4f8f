"""The command line as a whole: version, help, errors, and `matchbox bench`."""

from pathlib import Path

import pytest

import matchbox
from matchbox.shm.errors import BadArgument
from matchbox.tools import cli, commands_bench


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit status of `matchbox ARGUMENTS`."""
    monkeypatch.setattr("sys.argv", ["matchbox", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_version_is_the_one_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"matchbox {matchbox.__version__}\n"


def test_help_lists_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    for name in ("replay", "log", "reconcile", "bench"):
        assert f"  {name} " in out


def test_a_bad_command_line_has_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "fly") == 2
    assert run(monkeypatch, "replay") == 2
    assert run(monkeypatch, "log", "x", "--from", "many") == 2


def test_benchmarks_are_the_modules_that_can_be_run(tmp_path: Path) -> None:
    names = commands_bench.benchmarks()
    assert "journal" in names and "report" not in names and "build" not in names
    with pytest.raises(BadArgument, match="run from a checkout"):
        commands_bench.benchmarks(tmp_path)


def test_a_benchmark_gets_the_arguments_behind_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "bench", "journal", "--help") == 0
    assert "--tiny" in capsys.readouterr().out


def test_a_benchmark_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "bench", "journal", "--no-such-option") == 1
    assert run(monkeypatch, "bench", "no-such-benchmark") == 1
