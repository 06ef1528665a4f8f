"""The data folder: what it may be, whose it is, and whether its exchange lives."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from matchbox.shm.errors import ConfigError
from matchbox.tools import folder
from tests.integration.conftest import ExchangeProcess, make_exchange, wait_for
from tests.tools.test_status import matchbox_command

__all__ = ["make_exchange"]

Make = Callable[..., ExchangeProcess]


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(
    make_exchange: Make, tmp_path: Path, detach: tuple[str, ...]
) -> None:
    exchange = make_exchange()
    long = tmp_path / ("x" * (folder.MAX_PATH_BYTES + 1 - len(str(tmp_path)) - 1))
    result = matchbox_command("up", exchange.config, "--data", long, *detach)
    assert result.returncode == 1
    assert f"bytes=95, maximum={folder.MAX_PATH_BYTES}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not long.exists()
    assert exchange.segments() == []


def test_a_path_of_the_greatest_length_serves(make_exchange: Make, tmp_path: Path) -> None:
    exchange = make_exchange()
    exchange.data = tmp_path / ("x" * (folder.MAX_PATH_BYTES - len(str(tmp_path)) - 1))
    exchange.up("--data", str(exchange.data))
    exchange.connect().close()
    exchange.down()


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_a_file_in_place_of_the_folder_is_refused(
    make_exchange: Make, tmp_path: Path, detach: tuple[str, ...]
) -> None:
    exchange = make_exchange()
    (tmp_path / "file").write_text("")
    for data, text in (("file", "is a file"), ("file/data", "Not a directory")):
        result = matchbox_command("up", exchange.config, "--data", tmp_path / data, *detach)
        assert result.returncode == 1
        assert text in result.stderr
        assert "Traceback" not in result.stderr


def test_an_identity_is_kept_and_belongs_to_one_folder(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for data in (one, two):
        folder.prepare(data)
        file = folder.lock(data)
        assert file is not None
        assert folder.lock(data) is None
        file.close()
    known = folder.identity(one)
    assert len(known) == 32
    assert known != folder.identity(two)
    file = folder.lock(one)
    assert file is not None
    assert folder.identity(one) == known
    file.close()
    assert folder.identity(tmp_path / "none") == ""


def test_a_process_is_known_by_the_time_of_its_start() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = folder.process_start(process.pid)
        status = {"pid": process.pid, "processes": [os.getpid()], "started": [started, 1]}
        assert folder.living(status) == [process.pid]
        process.kill()
        wait_for(lambda: folder.process_start(process.pid) == 0, "it is dead, if not reaped")
    assert folder.living(status) == []
    assert folder.living({"pid": os.getpid(), "processes": []}) == []


def test_down_leaves_a_process_alone_that_has_the_number_of_a_dead_one(
    make_exchange: Make,
) -> None:
    exchange = make_exchange().up()
    exchange.down()
    program = "import matchbox; print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        stale = {**exchange.status, "state": "running", "pid": other.pid}
        (exchange.data / "instance.json").write_text(json.dumps(stale))
        result = matchbox_command("down", exchange.data)
        assert result.returncode == 1
        assert "it has died without stopping" in result.stderr
        assert matchbox_command("status", exchange.data).returncode == 1
        assert other.poll() is None
        other.kill()


def test_files_in_the_folder_are_for_its_user_and_the_socket_for_all(
    make_exchange: Make,
) -> None:
    exchange = make_exchange()
    assert matchbox_command("up", exchange.config, "--detach").returncode == 0
    try:
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in [exchange.data, *exchange.data.iterdir()]
        }
        assert modes == {
            "data": 0o711,
            "control.sock": 0o666,
            "instance.json": 0o600,
            "journal": 0o700,
            "lock": 0o600,
            "log.txt": 0o600,
        }
    finally:
        assert matchbox_command("down", exchange.data).returncode == 0


def test_a_second_start_in_the_background_keeps_what_the_first_has_said(
    make_exchange: Make,
) -> None:
    exchange = make_exchange()
    assert matchbox_command("up", exchange.config, "--detach").returncode == 0
    try:
        said = (exchange.data / "log.txt").read_text()
        assert "is running, epoch 1" in said
        second = matchbox_command("up", exchange.config, "--detach")
        assert second.returncode == 1
        assert "an exchange runs in this data folder" in second.stderr
        assert "is running" not in second.stderr
        assert (exchange.data / "log.txt").read_text().startswith(said)
    finally:
        assert matchbox_command("down", exchange.data).returncode == 0


def test_a_folder_that_may_not_be_shared_keeps_its_mode(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    folder.prepare(data)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    folder.prepare(data, shared=True)
    assert stat.S_IMODE(data.stat().st_mode) == 0o711


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for data in (tmp_path, tmp_path / "new"):
        with pytest.raises(ConfigError, match="no data folder there"):
            folder.prepare(data)
