"""`arbiter settings`: what this machine's settings are."""

from __future__ import annotations

from pathlib import Path

import typer
from pydantic import SecretStr
from rich.padding import Padding
from rich.text import Text

from engine.cli.console import effective_settings, present, print_document
from engine.cli.options import AsJson, DataDir, Registry, Rules
from engine.settings import Settings
from feature_store.redis.address import without_secrets
from model_registry.places import RemotePlace

app = typer.Typer(add_completion=False)


@app.command()
def settings(
    data_dir: DataDir = None, rules: Rules = None, registry: Registry = None, as_json: AsJson = False
) -> None:
    """Show every setting: its value, where it comes from, and what it is for."""
    given: dict[str, Path | str | None] = {"data_dir": data_dir, "rules": rules, "registry": registry}
    effective = effective_settings(**given)
    rows = [_row(effective, name, given) for name in Settings.model_fields]
    if as_json:
        print_document(rows)
        return
    for row in rows:
        head = Text.assemble((f"{row['name']}", "bold"), f" = {row['value']}  ", (f"{row['from']}", "dim"))
        present(head, Padding(Text(f"{row['description']}", style="dim"), (0, 0, 0, 4)))


def _row(effective: Settings, name: str, given: dict[str, Path | str | None]) -> dict[str, object]:
    value = getattr(effective, name)
    source = "default"
    if name in effective.model_fields_set:
        source = "environment" if given.get(name) is None else "option"
    return {
        "name": f"ARBITER_{name.upper()}",
        "value": _shown(name, value),
        "from": source,
        "description": Settings.model_fields[name].description,
    }


def _shown(name: str, value: object) -> object:
    """A value without what is secret in it."""
    if name == "store":
        return without_secrets(str(value))
    if isinstance(value, tuple):
        return [_shown("", each) for each in value]
    if name == "registry" and isinstance(value, str):
        return str(RemotePlace(value))
    return str(value) if isinstance(value, Path | SecretStr) else value
