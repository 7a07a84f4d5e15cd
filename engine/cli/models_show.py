"""`arbiter models list`, `show` and `verify`: what is published, and whether it is intact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from engine.cli.console import EXIT_ERRORS, effective_settings, err, fail, out, present, print_document
from engine.cli.models_common import registry_errors, version_of
from engine.cli.options import AsJson, Registry
from model_registry import PublishedModel, Root, list_models, open_version
from model_registry import verify as verify_files
from model_registry.aliases import AliasFile, Promotion, read_aliases
from model_registry.errors import RegistryError

NamedVersion = Annotated[
    str, typer.Argument(metavar="NAME[/VERSION]", help="A model, or a version of it by number or alias.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(name="list")(list_)
    app.command()(show)
    app.command()(verify)


def list_(registry: Registry = None, as_json: AsJson = False) -> None:
    """List models, their versions and aliases, and what the champion's evaluation said."""
    settings = effective_settings(registry=registry, log_level="warning")
    with registry_errors():
        listed = list_models(settings.registry)
        figures = {
            m.name: dict(open_version(settings.registry, m.name, m.aliases["champion"]).manifest.metrics)
            for m in listed
            if "champion" in m.aliases
        }
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


def show(model: NamedVersion, registry: Registry = None, as_json: AsJson = False) -> None:
    """Show a version: its manifest, the aliases on it, and how they came to be."""
    settings = effective_settings(registry=registry, log_level="warning")
    with registry_errors():
        published = version_of(settings.registry, model)
        aliases = read_aliases(settings.registry, published.manifest.name)
    if as_json:
        print_document(_document(published, aliases))
        return
    present(_facts(published, aliases), _figures(published), _history(aliases))


def verify(registry: Registry = None, as_json: AsJson = False) -> None:
    """Check every file against its digest, and that each model reproduces its golden rows here."""
    settings = effective_settings(registry=registry, log_level="warning")
    found = []
    with registry_errors(), err.status("checking models"):
        for name, version, problems in _problems(settings.registry):
            found.append({"model": name, "version": version, "problems": problems})
            if not as_json:
                out.print(f"{name}/{version}: {'; '.join(problems) or 'fine'}", markup=False, soft_wrap=True)
    if as_json:
        print_document(found)
    if not found:
        fail(f"{settings.registry}: holds no published model; name its folder with --registry", EXIT_ERRORS)
    if any(row["problems"] for row in found):
        raise typer.Exit(EXIT_ERRORS)


def _problems(registry: Root) -> Iterator[tuple[str, int, list[str]]]:
    """Name, version and problems of each published version. Raises RegistryError."""
    from engine.models.errors import ModelRefused
    from engine.models.loading import load_model  # here, as listing needs none of it

    for row in verify_files(registry):
        problems = list(row.problems)
        if not problems:
            try:
                load_model(open_version(registry, row.name, row.version))
            except (RegistryError, ModelRefused) as error:
                problems.append(str(error))
        yield row.name, row.version, problems


def _document(published: PublishedModel, aliases: AliasFile) -> dict[str, object]:
    manifest = published.manifest
    return {
        "model": manifest.name,
        "version": manifest.version,
        "digest": published.digest,
        "place": str(published.folder),
        "aliases": _held(published, aliases),
        "manifest": manifest.model_dump(mode="json"),
        "history": [promotion.model_dump(mode="json") for promotion in aliases.history],
    }


def _held(published: PublishedModel, aliases: AliasFile) -> list[str]:
    return [alias for alias, version in aliases.aliases.items() if version == published.manifest.version]


def _facts(published: PublishedModel, aliases: AliasFile) -> Table:
    from engine.models.links import OF_CLASSIFIERS  # here, as listing needs none of it

    manifest = published.manifest
    table = Table(title=f"{manifest.name}/{manifest.version}", title_justify="left", show_header=False)
    classifier = f"calibrated by {'isotonic' if manifest.isotonic else 'platt'}"
    score = classifier if manifest.kind in OF_CLASSIFIERS else "which this server does not score"
    lineage = manifest.lineage
    for name, value in (
        ("aliases", ", ".join(_held(published, aliases)) or "none"),
        ("kind", f"{manifest.kind}, {score}, manifest format {manifest.format}"),
        ("created", manifest.created),
        ("intended use", manifest.intended_use),
        ("inputs", ", ".join(i.name for i in manifest.inputs)),
        ("training data", "\n".join(f"{k}: {v}" for k, v in manifest.training_data.items())),
        ("lineage", f"code {lineage.code}, config {lineage.config}" if lineage else "not in the manifest"),
        ("files", "\n".join(f"{name} {digest}" for name, digest in manifest.files.items())),
        ("manifest", published.digest),
        ("place", str(published.folder)),
    ):
        table.add_row(name, value)
    return table


def _figures(published: PublishedModel) -> Table:
    table = Table("figure", "value")
    for name, value in published.manifest.metrics.items():
        table.add_row(name, f"{value:.4f}")
    return table


def _history(aliases: AliasFile) -> Table:
    table = Table("when", "alias", "version", "why")
    for promotion in aliases.history:
        table.add_row(
            f"{promotion.at:%Y-%m-%d %H:%M:%SZ}",
            promotion.alias,
            f"{promotion.previous or 'none'} to {promotion.version or 'none'}",
            _why(promotion),
        )
    return table


def _why(promotion: Promotion) -> str:
    by = f" ({promotion.actor})" if promotion.actor else ""
    forced = f"; forced past {', '.join(promotion.gates)}" if promotion.forced else ""
    return f"{promotion.reason}{by}{forced}"
