"""Documents: their links lead somewhere, and every command and option is explained."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from matchbox.tools import cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(cli.make_app())
    return dict(group.commands)


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings_that_exist(path: Path) -> None:
    for link in LINK.findall(path.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{path.name}: {link}"


def test_every_command_and_option_is_in_the_operations_guide() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    for name, command in commands().items():
        assert f"`matchbox {name}" in guide, f"matchbox {name} is not explained"
        heading = f"## `matchbox {name}"
        section = heading + guide.partition(heading)[2].partition("\n## ")[0]
        parts = getattr(command, "commands", {"": command})
        for part, leaf in parts.items():
            assert f"matchbox {name} {part}".strip() in section, f"matchbox {name} {part}"
            for parameter in leaf.params:
                longest = max(parameter.opts, key=len)
                if longest.startswith("--") and longest != "--help":
                    assert f"`{longest}" in section, f"matchbox {name} {longest} is not explained"


def test_the_operations_guide_explains_no_command_that_there_is_not() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    explained = set(re.findall(r"^## `matchbox ([a-z-]+)", guide, re.MULTILINE))
    assert explained == set(commands())


def test_every_target_of_the_makefile_is_explained_at_its_top() -> None:
    text = (ROOT / "Makefile").read_text()
    explained = set(re.findall(r"^#   make ([a-z]+)", text, re.MULTILINE))
    assert explained == set(TARGET.findall(text)) - {"help"}


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("sdk.md", "As records, a list is"),
        ("sdk.md", "## The matcher without"),
        ("trading-rules.md", "## An example"),
    ],
)
def test_examples_print_what_the_documents_say(name: str, heading: str) -> None:
    section = (ROOT / "docs" / name).read_text().partition(heading)[2].partition("\n## ")[0]
    program, output = re.findall(r"```(?:python|text)\n(.*?)```", section, re.DOTALL)
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == (output, "")


def test_help_imports_nothing_that_only_some_commands_need() -> None:
    program = (
        "import sys\n"
        "from matchbox.tools import cli\n"
        "cli.make_app()\n"
        "print([m for m in ('lmdb', 'sanic', 'matplotlib', 'rich.progress', 'asyncio')"
        " if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")
