"""The line between supervisor and host: messages of any length, descriptors, errors, the end."""

import os
import threading
from collections.abc import Iterator

import pytest

from matchbox.shm.errors import EngineDown, MatchboxError
from matchbox.tools.channel import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


@pytest.mark.parametrize("length", [0, 1, (1 << 17) - 40, 1 << 17, (1 << 17) + 1, 3_000_000])
def test_a_message_of_any_length_arrives_whole(ends: tuple[Channel, Channel], length: int) -> None:
    sender, receiver = ends
    message = {"text": "x" * length}
    thread = threading.Thread(target=sender.send, args=(message,))
    thread.start()
    received, fds = receiver.receive()
    thread.join()
    assert (received, fds) == (message, [])


def test_descriptors_come_with_the_end_of_a_long_message(ends: tuple[Channel, Channel]) -> None:
    sender, receiver = ends
    fd = os.memfd_create("matchbox-test")
    os.write(fd, b"content")
    thread = threading.Thread(target=sender.send, args=({"text": "y" * 400_000}, [fd]))
    thread.start()
    _, (received,) = receiver.receive()
    thread.join()
    assert os.pread(received, 100, 0) == b"content"
    os.close(fd)
    os.close(received)


def test_an_answer_is_what_the_host_says_or_an_error(ends: tuple[Channel, Channel]) -> None:
    asker, host = ends

    def serve() -> None:
        for answer in ({"ok": True, "n": 5}, {"ok": False, "error": "no"}):
            host.receive()
            host.send(answer)
        host.receive()
        host.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert asker.ask("count") == {"n": 5}
    with pytest.raises(MatchboxError, match="no"):
        asker.ask("fail")
    with pytest.raises(EngineDown, match="has died"):
        asker.ask("die")
    thread.join()
