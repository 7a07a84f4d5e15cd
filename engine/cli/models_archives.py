"""`arbiter models export` and `import`: a version as one file, from one registry to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.console import EXIT_ERRORS, effective_settings, fail, out, print_document
from engine.cli.models_common import registry_errors
from engine.cli.models_promote import Name, VersionNumber
from engine.cli.options import AsJson, Registry
from model_registry.archives import MAX_PACKED_BYTES, export_version, import_version

Archive = Annotated[Path, typer.Argument(metavar="FILE.tar.gz", help="What `export` wrote.")]
Out = Annotated[Path, typer.Option("--out", help="File to write, such as churn-3.tar.gz.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(name="export")(export)
    app.command(name="import")(import_)


def export(
    name: Name, version: VersionNumber, file: Out, registry: Registry = None, as_json: AsJson = False
) -> None:
    """Write a version to one file; the same version gives the same bytes."""
    settings = effective_settings(registry=registry, log_level="warning")
    with registry_errors():
        content = export_version(settings.registry, name, version)
    try:
        file.write_bytes(content)
    except OSError as error:
        fail(f"{file}: cannot be written: {error.strerror}", EXIT_ERRORS)
    if as_json:
        print_document({"model": name, "version": version, "file": str(file), "bytes": len(content)})
        return
    out.print(f"{name}/{version}: {len(content)} bytes in {file}", markup=False, soft_wrap=True)


def import_(archive: Archive, registry: Registry = None, as_json: AsJson = False) -> None:
    """Publish the version of a file under its own number; no alias moves."""
    settings = effective_settings(registry=registry, log_level="warning")
    try:
        if archive.stat().st_size > MAX_PACKED_BYTES:
            fail(f"{archive}: more than {MAX_PACKED_BYTES} bytes", EXIT_ERRORS)
        content = archive.read_bytes()
    except OSError as error:
        fail(f"{archive}: cannot be read: {error.strerror}", EXIT_ERRORS)
    with registry_errors():
        done = import_version(settings.registry, content, source=archive)
    manifest = done.manifest
    if as_json:
        document = {"model": manifest.name, "version": manifest.version, "place": str(done.place)}
        print_document({**document, "new": done.is_new})
        return
    what = "published" if done.is_new else "was there already"
    out.print(f"{manifest.name}/{manifest.version}: {what}: {done.place}", markup=False, soft_wrap=True)
