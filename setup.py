"""Build script: the checkout's folders install as matchbox.core, matchbox.shm, ...

setuptools can install a folder under another name (package_dir). Cython cannot: to
resolve ``from matchbox.shm.ring cimport mb_ring`` it needs a directory on its include
path that really contains matchbox/shm/ring.pxd. link_tree() makes one out of
symlinks under build/, and setuptools, pytest and mypy are all pointed at that same
place, so there is exactly one import name everywhere.

Environment:
    MATCHBOX_MARCH        value for -march (default "native": Matchbox is built on the host that
                          runs it; say x86-64-v2 or so for a wheel that travels)
    MATCHBOX_DEBUG        "1": little optimised, and after every round the engine checks what must
                          hold of its books and balances, and ends where it does not
    MATCHBOX_CFLAGS       further flags for the C compiler, after ours
    MATCHBOX_EXTENSIONS   "none" compiles nothing: `make` installs in editable mode first, which
                          takes a second, and then compiles in place only what has changed
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).parent
TREE = "build/tree"
PARTS = ("core", "shm", "persistence", "gateway", "tools")
VERSION = "0.1.0"
IN_PLACE = "build_ext" in sys.argv
COMPILE_ARGS = [
    "-O3",
    f"-march={os.environ.get('MATCHBOX_MARCH', 'native')}",
    "-std=gnu11",
    "-D_GNU_SOURCE",
    # GCC packs pairs of stores (next and count, say) into a vector register, and the loads that
    # follow wait for it.
    "-fno-tree-slp-vectorize",
    "-Wall",
    # Cython's own boilerplate, not ours, trips these two.
    "-Wno-unused-function",
    "-Wno-maybe-uninitialized",
    *(["-O1", "-g", "-DMB_DEBUG=1"] if os.environ.get("MATCHBOX_DEBUG") == "1" else []),
    *os.environ.get("MATCHBOX_CFLAGS", "").split(),
]
DIRECTIVES = {
    "language_level": "3",
    "embedsignature": True,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}
FACADE = f'''"""Matchbox: a crypto exchange in one box. These are the names that bots import."""

from matchbox.shm import *  # noqa: F403
from matchbox.shm import __all__ as __all__

__version__ = "{VERSION}"
'''


def link_tree() -> None:
    """Create build/tree/matchbox with one symlink per part and the facade __init__."""
    package = ROOT / TREE / "matchbox"
    package.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        link = package / part
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(ROOT / part, package), target_is_directory=True)
    # A real __init__ rather than a namespace package: a directory that merely happens
    # to be called matchbox (such as this checkout, seen from its parent) must not win.
    target = package / "__init__.py"
    if not target.exists() or target.read_text() != FACADE:
        target.write_text(FACADE)
    (package / "py.typed").touch()


def extensions() -> list[Extension]:
    """One extension per .pyx, named by its install name."""
    if os.environ.get("MATCHBOX_EXTENSIONS") == "none":
        return []
    sources = {
        ".".join(("matchbox", *source.relative_to(ROOT).with_suffix("").parts)): source
        for part in PARTS
        for source in sorted((ROOT / part).rglob("*.pyx"))
    }
    # Benchmarks run from a checkout; their compiled parts lie beside them and go into no wheel.
    if IN_PLACE:
        for source in sorted((ROOT / "benchmarks").glob("*.pyx")):
            sources[f"benchmarks.{source.stem}"] = source
    headers = [str(h.relative_to(ROOT)) for h in sorted((ROOT / "shm").glob("*.h"))]
    return [
        Extension(
            name,
            [str(source.relative_to(ROOT))],
            include_dirs=["shm"],
            depends=headers,
            extra_compile_args=COMPILE_ARGS,
        )
        for name, source in sources.items()
    ]


link_tree()
setup(
    version=VERSION,
    # A src layout whose src is generated: everything below matchbox/ is found there. It is the only
    # entry but in place, so that an editable install is one .pth line.
    packages=find_packages(TREE),
    package_dir={"": TREE} | ({"benchmarks": "benchmarks"} if IN_PLACE else {}),
    package_data={"": ["py.typed", "*.pyi", "*.pxd", "*.h", "*.c", "*.toml", "data/*.csv.gz"]},
    include_package_data=False,
    ext_modules=cythonize(
        extensions(),
        include_path=[TREE],
        build_dir="build/c",
        nthreads=os.cpu_count() or 1,
        compiler_directives=DIRECTIVES,
    ),
)
