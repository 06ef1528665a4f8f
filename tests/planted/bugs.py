"""The bugs of bugs.toml: what each does, and the text that becomes another one."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("bugs.toml")
# Everything of the engine together, against the rules in plain Python.
SIMULATION = ("tests/simulation/test_exchange.py", "tests/simulation/test_followers.py")


class DoesNotFit(Exception):
    """The old text of a bug is not in its file, or more than once."""


@dataclass(frozen=True)
class Bug:
    name: str
    does: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...] = SIMULATION

    def planted(self, root: Path) -> str:
        """The file as it is with the bug. Raises DoesNotFit."""
        text = (root / self.file).read_text()
        count = text.count(self.old)
        if count != 1:
            raise DoesNotFit(
                f"{self.name}: {self.file} has the old text {count} times:\n{self.old}"
            )
        return text.replace(self.old, self.new)


def read() -> list[Bug]:
    """All of them, as listed."""
    found = tomllib.loads(LIST.read_text())
    return [
        Bug(
            name,
            **{key: tuple(value) if key == "caught_by" else value for key, value in bug.items()},
        )
        for name, bug in found.items()
    ]
