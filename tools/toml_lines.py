"""On which line a key of a TOML document stands; tomllib does not say.

The scanner expects a document that tomllib has accepted: it looks for where keys and values begin
and end, and checks nothing.
"""

from bisect import bisect_right

Path = tuple[str | int, ...]

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def key_lines(text: str) -> dict[Path, int]:
    """Line, from 1, of every key, table and array element of `text`.

    A path names a value as one would reach it in tomllib's result: ("market", 0, "symbol"). A table
    that several lines contribute to has the line of the first.
    """
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}  # tables in each array of tables
        self.newlines = [i for i, character in enumerate(self.text) if character == "\n"]

    def run(self) -> dict[Path, int]:
        here: Path = ()
        self.skip_blank()
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                here = self.header()
            else:
                self.pair(here)
            self.skip_blank()
        return self.lines

    def note(self, path: Path, at: int) -> None:
        """Every part of `path` is there from `at` on."""
        line = bisect_right(self.newlines, at - 1) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def skip_blank(self, also: str = "") -> None:
        """Go past white space, comments, and the characters of `also`."""
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif character in " \t\n" or character in also:
                self.at += 1
            else:
                return

    def header(self) -> Path:
        """[a.b] or [[a.b]]; returns the path of the table that it opens."""
        start = self.at
        array = self.text.startswith("[[", start)
        self.at += 2 if array else 1
        parts = self.key()
        self.at = self.text.index("]]" if array else "]", self.at) + (2 if array else 1)
        path: Path = ()
        for number, part in enumerate(parts):
            path += (part,)
            last = number == len(parts) - 1
            if last and array:
                self.counts[path] = self.counts.get(path, 0) + 1
            if path in self.counts and (array or not last):
                path += (self.counts[path] - 1,)
        self.note(path, start)
        return path

    def key(self) -> list[str]:
        """A dotted key; ends before the character that is no part of it."""
        parts = []
        while True:
            self.skip_blank()
            if self.text[self.at] in "\"'":
                parts.append(self.quoted())
            else:
                start = self.at
                while self.text[self.at] in _BARE:
                    self.at += 1
                parts.append(self.text[start : self.at])
            self.skip_blank()
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def pair(self, here: Path) -> None:
        """key = value"""
        start = self.at
        path = here + tuple(self.key())
        self.note(path, start)
        self.at += 1  # =
        self.value(path)

    def value(self, path: Path) -> None:
        self.skip_blank()
        self.note(path, self.at)
        character = self.text[self.at]
        if character in "\"'":
            self.quoted()
        elif character in "[{":
            self.at += 1
            self.items(path, "]" if character == "[" else "}")
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
                self.at += 1

    def items(self, path: Path, end: str) -> None:
        """What an array or an inline table holds."""
        number = 0
        self.skip_blank(",")
        while self.text[self.at] != end:
            if end == "]":
                self.value((*path, number))
            else:
                self.pair(path)
            number += 1
            self.skip_blank(",")
        self.at += 1

    def quoted(self) -> str:
        """A string of any of the four forms; its value, if it is on one line."""
        quote = self.text[self.at]
        literal = quote == "'"
        delimiter = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.at += len(delimiter)
        parts: list[str] = []
        while not self.text.startswith(delimiter, self.at):
            if self.text[self.at] == "\\" and not literal:
                parts.append(self.escape())
            else:
                parts.append(self.text[self.at])
                self.at += 1
        self.at += len(delimiter)
        if len(delimiter) == 3:  # one or two more quotes at the end belong to the string
            while self.text.startswith(quote, self.at):
                self.at += 1
        return "".join(parts)

    def escape(self) -> str:
        character = self.text[self.at + 1]
        digits = {"u": 4, "U": 8}.get(character, 0)
        code = self.text[self.at + 2 : self.at + 2 + digits]
        self.at += 2 + digits
        return chr(int(code, 16)) if digits else _ESCAPES.get(character, "")
