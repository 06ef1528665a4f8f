"""What the processes of an exchange say as they go; where it goes may be full, or gone."""

import contextlib
import sys


def say(text: str) -> None:
    """A line on standard output; that it cannot be written is no reason to stop an exchange."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def complain(text: str) -> None:
    """A line on standard error, likewise."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
