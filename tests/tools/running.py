"""Commands of `matchbox` in this process: quicker than a process each."""

import contextlib
import io
import sys
from typing import Any
from unittest import mock

import pytest

from matchbox.tools import cli


def command(*arguments: Any, status: int = 0) -> str:
    """What it prints, first as output, then as errors; it must end with this status."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["matchbox", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    assert (ended.value.code or 0) == status, (arguments, out.getvalue(), err.getvalue())
    return out.getvalue() + err.getvalue()
