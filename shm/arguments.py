"""What the calls of the SDK accept. Each check raises BadArgument, with what is allowed."""

from numbers import Real
from typing import Any

from matchbox.shm.errors import BadArgument
from matchbox.shm.records import Assurance

WAITS = ("park", "spin")
ASSURANCES = {each.name.lower(): each for each in Assurance}
MAX_TIMEOUT_S = 1e9
_MAX_NAME = 36


def whole(value: Any, name: str, maximum: int) -> int:
    """`value`, an integer from 0 to `maximum`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadArgument(f"{name} must be an integer: {name}={value!r}")
    number = int(value)
    if not 0 <= number <= maximum:
        raise BadArgument(f"{name} is out of range: {name}={number}, maximum={maximum}")
    return number


def seconds(timeout: Any) -> None:
    """A number of seconds, or None: for ever. One below 0 is as good as 0."""
    if timeout is None:
        return
    # A comparison with NaN is false.
    if isinstance(timeout, bool) or not isinstance(timeout, Real) or not timeout <= MAX_TIMEOUT_S:
        raise BadArgument(
            f"timeout must be None or a number of seconds: timeout={timeout!r}, "
            f"maximum={MAX_TIMEOUT_S:.0f}"
        )


def label(text: Any, name: str) -> str:
    """The name of an account or session, or "" for none."""
    if not isinstance(text, str):
        raise BadArgument(f"{name} must be a str: {name}={text!r}")
    if len(text) > _MAX_NAME or not all("!" <= c <= "~" for c in text):
        raise BadArgument(
            f"{name} must be up to {_MAX_NAME} printable ASCII characters without blanks: "
            f"{name}={text!r}"
        )
    return text


def assurance(name: Any) -> Assurance:
    """What a session's reports wait for."""
    if not isinstance(name, str) or name not in ASSURANCES:
        raise BadArgument(f"assurance must be one of {', '.join(ASSURANCES)}: assurance={name!r}")
    return ASSURANCES[name]


def wait_strategy(wait: Any) -> str:
    """How a session waits."""
    if wait not in WAITS:
        raise BadArgument(f"wait must be one of {', '.join(WAITS)}: wait={wait!r}")
    return str(wait)
