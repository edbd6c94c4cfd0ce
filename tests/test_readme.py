"""What the README says is what the program does."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer
from conftest import ROOT

from uadbench.cli import app
from uadbench.export import COLUMNS, LONG_COLUMNS
from uadbench.metrics.table import METRICS
from uadbench.registry import Registry
from uadbench.scaffold import new_method

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(?:.*/)?uadbench [^\n]*", README.replace("\\\n", " "), re.MULTILINE)
COMMANDS += re.findall(r"^\| `(uadbench [^`]*)`", README, re.MULTILINE)


def test_the_columns_of_the_tables_are_listed() -> None:
    for columns in (COLUMNS, LONG_COLUMNS):
        rows = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in columns.items())
        assert rows.strip() in README
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert all(f"| `{m.name}` | {m.description} |" in page for m in METRICS.values())


def test_the_plugin_is_the_one_that_the_program_writes(tmp_path: Any) -> None:
    written = new_method("my_method", tmp_path, Registry())[0].read_text(encoding="utf-8")
    assert f"<!-- plug-in -->\n```python\n{written}```" in README
    assert 25 <= len(written.splitlines()) <= 40


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line.partition("uadbench ")[2], comments=True)
    command: Any = typer.main.get_command(app)
    while getattr(command, "commands", None):
        word = words.pop(0)
        assert word in command.commands, line
        command = command.commands[word]
    command.make_context("uadbench", words, resilient_parsing=False).close()


def test_there_are_commands_to_try() -> None:
    assert len(COMMANDS) > 12


def test_the_picture_was_made_and_is_small() -> None:
    (picture,) = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", README)
    assert 20_000 < (ROOT / picture).stat().st_size < 600_000


def test_the_page_of_definitions_is_up_to_date() -> None:
    from uadbench.definitions import page

    assert (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8") == page()
