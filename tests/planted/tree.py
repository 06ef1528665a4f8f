"""Copies of the checkout to plant bugs in, compiled only where they differ.

    build/planted/clean    the checkout as it is, built
    build/planted/tree     the same with a bug; made equal to `clean` again before the next

Copies keep the times of files, so that a build finds everything up to date but what was patched:
C files in build/c, extensions in build/lib.*, from where it copies them beside their sources.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tests.planted.bugs import Bug

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "planted"
FOLDERS = ("core", "shm", "persistence", "gateway", "tools", "tests")
BUILT = ("build/c", f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
# What is compiled for a bug is compiled quickly; what it does is the same.
QUICKLY = {"MATCHBOX_CFLAGS": "-O1"}


class DoesNotBuild(Exception):
    """The compiler does not accept the sources."""


def prepare() -> Path:
    """The clean copy, up to date and built."""
    clean = PLACE / "clean"
    copy(ROOT, clean, (*FOLDERS, *BUILT))
    build(clean, QUICKLY)
    return clean


def plant(bug: Bug | None) -> Path:
    """A tree with the bug in it, built. Raises DoesNotFit, DoesNotBuild."""
    tree = PLACE / "tree"
    copy(PLACE / "clean", tree, (*FOLDERS, *BUILT))
    if bug is not None:
        (tree / bug.file).write_text(bug.planted(tree))
    build(tree, QUICKLY)
    return tree


def build(tree: Path, environment: dict[str, str]) -> None:
    """Compile what has changed. Raises DoesNotBuild."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DoesNotBuild(done.stdout[-2000:] + done.stderr[-4000:])


def digest(tree: Path) -> str:
    """Of all sources and tests: results hold for these."""
    state = hashlib.sha256()
    for folder in FOLDERS:
        for path in _files(tree / folder):
            if path.suffix != ".so":
                state.update(str(path.relative_to(tree)).encode() + b"\0" + path.read_bytes())
    return state.hexdigest()[:16]


def debug_build(bug: Bug | None = None) -> Path:
    """The checkout with MATCHBOX_DEBUG=1, in build/debug; with a bug, in build/debug-broken."""
    tree = ROOT / "build" / "debug"
    if bug is None:
        copy(ROOT, tree, (*FOLDERS, BUILT[0]), leave=".so")
    else:
        copy(tree, ROOT / "build" / "debug-broken", (*FOLDERS, *BUILT))
        tree = ROOT / "build" / "debug-broken"
        (tree / bug.file).write_text(bug.planted(tree))
    build(tree, {"MATCHBOX_DEBUG": "1"})
    return tree


def copy(source: Path, target: Path, folders: tuple[str, ...], leave: str = "-") -> None:
    """Make `target` equal to `source`, touching only what differs in size or time.

    Files whose name ends with `leave` are neither copied nor removed.
    """
    wanted = [source / name for name in FILES]
    for folder in folders:
        wanted += [path for path in _files(source / folder) if path.suffix != leave]
        there = {path.relative_to(source) for path in wanted}
        for path in _files(target / folder):
            if path.suffix != leave and path.relative_to(target) not in there:
                path.unlink()
    for path in wanted:
        other = target / path.relative_to(source)
        if not (other.exists() and _same(path, other)):
            other.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, other)


def _same(a: Path, b: Path) -> bool:
    x, y = a.stat(), b.stat()
    return (x.st_size, x.st_mtime_ns) == (y.st_size, y.st_mtime_ns)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            yield path
