"""docs/cli.md and docs/settings.md name all there is, and pages name only what there is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from engine.cli.app import COMMANDS, app
from engine.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
CLI = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
SETTINGS = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
PAGES = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("*/README.md")]
_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_PROMPT = re.compile(r"^\s*(?:\$ )?(?:\.venv/bin/)?")


def every_command() -> Iterator[tuple[str, Any]]:
    """Full name and click command of everything that can be called."""
    for lazy in COMMANDS:
        yield from commands_in(str(lazy.name), lazy.load())


def commands_in(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The command itself, or those of the group it is, and of groups in it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    else:
        for word, each in inner.items():
            yield from commands_in(f"{name} {word}", each)


COMMANDS_BY_NAME = dict(every_command())


def section(name: str) -> str:
    """The part of docs/cli.md about a command."""
    _, _, rest = CLI.partition(f"### `arbiter {name}`\n")
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", COMMANDS_BY_NAME)
def test_every_command_has_its_section(name: str) -> None:
    """A command that docs/cli.md does not name is not done."""
    assert section(name)


@pytest.mark.parametrize("name", COMMANDS_BY_NAME)
def test_every_option_is_told_of(name: str) -> None:
    """In the command's own section, or among the options that several commands share."""
    shared = CLI.partition("They share these options")[2].partition("###")[0]
    takes_place = name.split()[0] in ("decide", "explain", "consent")
    text = section(name) + (shared if takes_place else "") + CLI.partition("## Try it")[0]
    group = re.search(
        rf"^## [^\n]*\n((?:(?!^##).)*)### `arbiter {name.split()[0]} ", CLI, re.MULTILINE | re.DOTALL
    )
    text += group[1] if group else ""

    options = {
        o for p in COMMANDS_BY_NAME[name].params for o in (*p.opts, *p.secondary_opts) if o[:2] == "--"
    }

    assert {option for option in options if f"`{option}`" not in text} == set()


def test_options_of_the_whole_program_are_told_of() -> None:
    """Such as those for completion."""
    options = {o for p in typer.main.get_command(app).params for o in p.opts}

    assert {option for option in options if option not in CLI} == set()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_told_of_with_its_default(name: str) -> None:
    """One row for each setting, with the default in force."""
    row = next((r for r in SETTINGS.splitlines() if r.startswith(f"| `ARBITER_{name.upper()}` |")), "")

    default = Settings.model_fields[name].default
    shown = default
    if isinstance(default, Path) and default.is_absolute():
        shown = default.relative_to(REPOSITORY)
    assert f"`{shown}`" in row.split("|")[2]


def test_no_setting_is_told_of_that_is_not_there() -> None:
    """A page must not promise what nobody reads."""
    told = set(re.findall(r"ARBITER_\w+[A-Z]", SETTINGS + CLI))

    assert told <= {f"ARBITER_{name.upper()}" for name in Settings.model_fields}


def code_of(page: Path) -> list[str]:
    """Lines of fenced blocks and pieces of inline code."""
    text = page.read_text(encoding="utf-8")
    blocks = _FENCED.findall(text)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [_PROMPT.sub("", line) for line in (*joined.splitlines(), *_INLINE.findall(_FENCED.sub("", text)))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_make_target_a_page_names_exists(page: Path) -> None:
    """`make x` works for every x that a page names."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))

    named = {m[1] for line in code_of(page) if (m := re.match(r"make ([a-z][\w-]*)", line))}

    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_a_page_names_exists(page: Path) -> None:
    """Command and options of every `arbiter ...` that a page names."""
    wrong = [line for line in code_of(page) if line.startswith("arbiter ") and not _exists(line)]

    assert wrong == []


def _exists(line: str) -> bool:
    words = shlex.split(line, comments=True)[1:]
    if "|" in words:
        words = words[: words.index("|")]
    top = {str(command.name) for command in COMMANDS}
    if words[0] in ("...", "COMMAND") or words[0].startswith("--"):
        return all(o in CLI for o in words if o.startswith("--"))
    names = (" ".join(words[:length]) for length in (3, 2))
    name = next((found for found in names if found in COMMANDS_BY_NAME), words[0])
    command = COMMANDS_BY_NAME.get(name)
    if command is None:  # a group, named without one of its commands
        return name in top and not words[1:]
    options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    return all(word.partition("=")[0] in options for word in words if word.startswith("--"))
