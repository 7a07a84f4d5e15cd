"""Commands that are imported when called, so that `arbiter --help` answers at once."""

# ruff: noqa: ANN401  # contexts and commands are of the click that typer carries and does not export

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

PACKAGE = "engine.cli"


class LazyCommand(TyperCommand):
    """Stands for a command until it is called; `help` is the first sentence of the real one."""

    def __init__(self, name: str, help: str) -> None:
        super().__init__(name=name, help=help)

    def load(self) -> Any:
        """The real command, from `app` of its module."""
        command = typer.main.get_command(import_module(f"{PACKAGE}.{self.name}").app)
        command.name = self.name
        return command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the real command, which then runs in it."""
        return self.load().make_context(info_name, args, parent, **extra)


class LazyGroup(TyperGroup):
    """A group of lazy commands, in the order given."""

    lazily: ClassVar[Sequence[LazyCommand]] = ()

    def list_commands(self, _ctx: Any) -> list[str]:
        """Names, in order."""
        return [str(command.name) for command in self.lazily]

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None where there is none."""
        return next((command for command in self.lazily if command.name == cmd_name), None)
