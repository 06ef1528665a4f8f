"""Compiling the C and C++ parts of benchmarks with the system's compiler."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
C_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE")
CXX_FLAGS = ("-std=c++17", "-O3", "-march=native", "-Wall", "-Wextra")


class NoCompiler(RuntimeError):
    """The system has no compiler for this language."""


def compiler(language: str) -> str:
    """The compiler for "c" or "c++", by $CC / $CXX or the usual names. Raises NoCompiler."""
    variable, names = {"c": ("CC", ("cc", "gcc", "clang")), "c++": ("CXX", ("c++", "g++"))}[
        language
    ]
    for name in (os.environ.get(variable), *names):
        if name and shutil.which(name):
            return name
    raise NoCompiler(
        f"no {language} compiler: set {variable}, or install one of {', '.join(names)}"
    )


def build(source: Path, *more: str, flags: tuple[str, ...] | None = None) -> Path:
    """The program made from `source` (.c or .cpp), in build/bench; made anew when anything changed.

    `more` are further arguments: -D options, further sources, libraries. Headers of shm/ are on
    the include path. Raises NoCompiler, or CalledProcessError when the source does not compile.
    """
    language = "c" if source.suffix == ".c" else "c++"
    chosen = flags if flags is not None else (C_FLAGS if language == "c" else CXX_FLAGS)
    command = [compiler(language), *chosen, f"-I{ROOT / 'shm'}", str(source), *more]
    inputs = [source, *sorted((ROOT / "shm").glob("*.h")), *sorted(source.parent.glob("*.h*"))]
    inputs += [Path(argument) for argument in more if Path(argument).is_file()]
    digest = hashlib.sha256("\0".join(command).encode())
    for path in inputs:
        digest.update(path.read_bytes())
    program = ROOT / "build" / "bench" / f"{source.stem}-{digest.hexdigest()[:16]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        partial = program.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(partial)], check=True)
        partial.rename(program)
    return program
