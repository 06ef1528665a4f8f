"""What is installed: the files of the package, its console script, its types."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from matchbox.shm.reasons import Reason

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("core", "shm", "persistence", "gateway", "tools")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout without its compiled modules (those are tested in place)."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("*.so"))
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", str(folder)]
    environment = os.environ | {"MATCHBOX_EXTENSIONS": "none"}
    result = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return next(folder.glob("*.whl"))


def test_a_wheel_has_everything_but_sources_of_compiled_modules(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = (".py", ".pyi", ".pxd", ".h", ".toml", ".gz", "py.typed")
    expected = {
        f"matchbox/{path.relative_to(ROOT)}"
        for part in PARTS
        for path in (ROOT / part).rglob("*")
        if path.name.endswith(wanted) and "__pycache__" not in path.parts
    }
    assert expected <= packed
    assert not [name for name in packed if name.endswith((".pyx", ".so"))]
    # One import name, and nothing beside it that could hide other people's packages.
    assert {name.split("/")[0].split("-")[0] for name in packed} == {
        "matchbox",
        "matchbox_exchange",
    }


def test_a_wheel_has_the_licence_and_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert b"matchbox = matchbox.tools.cli:main" in archive.read(entry_points)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_headers_are_where_the_package_says() -> None:
    import matchbox.shm

    folder = Path(matchbox.shm.get_include())
    assert (folder / "records.h").is_file() and (folder / "ring.h").is_file()


def test_every_public_compiled_module_has_a_stub() -> None:
    stubbed = {path.stem for path in ROOT.glob("*/*.pyi")}
    for path in (*ROOT.glob("core/*.pyx"), *ROOT.glob("shm/*.pyx")):
        public = "\ncdef class " in path.read_text() or "\nclass " in path.read_text()
        if public:
            assert path.stem in stubbed, f"{path} has no .pyi"


def test_the_stub_of_reasons_lists_every_reason() -> None:
    lines = (ROOT / "shm" / "reasons.pyi").read_text().splitlines()
    assert [line.strip() for line in lines if " = " in line] == [
        f"{reason.name} = {reason.value}" for reason in Reason
    ]
