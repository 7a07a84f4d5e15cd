"""`arbiter models`: what is published, and whether it is intact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import typer
from rich.table import Table

from engine.cli.console import EXIT_ERRORS, effective_settings, err, fail, out, print_document
from engine.cli.options import AsJson, Registry
from model_registry import list_models, open_version
from model_registry import verify as verify_files
from model_registry.errors import RegistryError

app = typer.Typer(help="List published models and verify them.", no_args_is_help=True, add_completion=False)


@app.command(name="list")
def list_(registry: Registry = None, as_json: AsJson = False) -> None:
    """List models, their versions and aliases, and what the champion's evaluation said."""
    settings = effective_settings(registry=registry, log_level="warning")
    try:
        listed = list_models(settings.registry)
        figures = {
            m.name: dict(open_version(settings.registry, m.name, m.aliases["champion"]).manifest.metrics)
            for m in listed
            if "champion" in m.aliases
        }
    except RegistryError as error:
        fail(str(error), EXIT_ERRORS)
    if as_json:
        print_document(
            [{**asdict(m), "aliases": dict(m.aliases), "metrics": figures.get(m.name, {})} for m in listed]
        )
        return
    table = Table("model", "versions", "aliases", "champion's figures")
    for model in listed:
        table.add_row(
            model.name,
            ", ".join(map(str, model.versions)),
            ", ".join(f"{alias} {number}" for alias, number in model.aliases.items()),
            "\n".join(f"{name} {value:.4f}" for name, value in figures.get(model.name, {}).items()),
        )
    out.print(table)


@app.command()
def verify(registry: Registry = None, as_json: AsJson = False) -> None:
    """Check every file against its digest, and that each model reproduces its golden rows here."""
    settings = effective_settings(registry=registry, log_level="warning")
    found = []
    try:
        with err.status("checking models"):
            for name, version, problems in _problems(settings.registry):
                found.append({"model": name, "version": version, "problems": problems})
                if not as_json:
                    out.print(
                        f"{name}/{version}: {'; '.join(problems) or 'fine'}", markup=False, soft_wrap=True
                    )
    except RegistryError as error:
        fail(str(error), EXIT_ERRORS)
    if as_json:
        print_document(found)
    if not found:
        fail(f"{settings.registry}: holds no published model; name its folder with --registry", EXIT_ERRORS)
    if any(row["problems"] for row in found):
        raise typer.Exit(EXIT_ERRORS)


def _problems(registry: Path) -> Iterator[tuple[str, int, list[str]]]:
    """Name, version and problems of each published version. Raises RegistryError."""
    from engine.models.errors import ModelRefused
    from engine.models.loading import load_model
    from engine.rulefiles import MODELS  # here, as listing needs none of it

    for row in verify_files(registry):
        problems = list(row.problems)
        if not problems and row.name in MODELS:
            try:
                load_model(open_version(registry, row.name, row.version))
            except (RegistryError, ModelRefused) as error:
                problems.append(str(error))
        yield row.name, row.version, problems
