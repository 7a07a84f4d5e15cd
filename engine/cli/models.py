"""`arbiter models`: what is published, and whether it is intact."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import typer
from rich.table import Table

from engine.bootstrap import MODELS
from engine.cli.common import EXIT_ERRORS, AsJson, Registry, effective_settings, fail, out
from engine.models.errors import ModelRefused
from engine.models.loading import load_model
from model_registry import list_models, open_version
from model_registry import verify as verify_files
from model_registry.errors import RegistryError

app = typer.Typer(help="List published models and verify them.", no_args_is_help=True)


@app.command(name="list")
def list_(registry: Registry = None, as_json: AsJson = False) -> None:
    """List models, their versions and aliases, and what the champion's evaluation said."""
    settings = effective_settings(registry=registry, log_level="warning")
    try:
        listed = list_models(settings.registry)
        champions = {
            m.name: open_version(settings.registry, m.name, m.aliases["champion"]).manifest
            for m in listed
            if "champion" in m.aliases
        }
    except RegistryError as error:
        fail(str(error), EXIT_ERRORS)
    if as_json:
        rows = [{**asdict(m), "aliases": dict(m.aliases)} for m in listed]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table("model", "versions", "aliases", "champion's figures")
    for model in listed:
        manifest = champions.get(model.name)
        figures = {} if manifest is None else manifest.metrics
        table.add_row(
            model.name,
            ", ".join(map(str, model.versions)),
            ", ".join(f"{alias} {number}" for alias, number in model.aliases.items()),
            "\n".join(f"{name} {value:.4f}" for name, value in figures.items()),
        )
    out.print(table)


@app.command()
def verify(registry: Registry = None, as_json: AsJson = False) -> None:
    """Check every file against its digest, and that each model reproduces its golden rows here."""
    settings = effective_settings(registry=registry, log_level="warning")
    try:
        rows = verify_files(settings.registry)
    except RegistryError as error:
        fail(str(error), EXIT_ERRORS)
    found = []
    for row in rows:
        problems = list(row.problems)
        if not problems and row.name in MODELS:
            try:
                load_model(open_version(settings.registry, row.name, row.version))
            except (RegistryError, ModelRefused) as error:
                problems.append(str(error))
        found.append({"model": row.name, "version": row.version, "problems": problems})
        if not as_json:
            out.print(f"{row.name}/{row.version}: " + ("fine" if not problems else "; ".join(problems)))
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    if any(row["problems"] for row in found):
        raise typer.Exit(EXIT_ERRORS)
