"""`arbiter rules fmt` and `arbiter rules schema`: files in one form, with schemas for editors."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from engine.cli.console import EXIT_ERRORS, EXIT_FAILED, effective_settings, err, fail, out
from engine.cli.options import Rules
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.definitions import glossary_of
from engine.ruleset.diagnostics import Diagnostic, RuleSetInvalid, render
from engine.ruleset.documents import Document
from engine.ruleset.filekinds import KINDS
from engine.ruleset.layout import lay_out
from engine.ruleset.reading import read_documents
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.schemas import stale_schemas, write_schemas
from engine.ruleset.sources import RuleSources
from engine.settings import Settings
from engine.suites.cases import read_suites
from engine.suites.documents import SUITE_KINDS
from feature_store.errors import SchemaError
from feature_store.schema import load_schema

FILE_KINDS: Final[Mapping[str, type[Document]]] = {**KINDS, **SUITE_KINDS}
"""Every kind of file a rules folder may hold."""


def register(app: typer.Typer) -> None:
    """Adds the commands to `arbiter rules`."""
    app.command(name="fmt")(fmt)
    app.command(name="schema")(schema)


def fmt(
    rules: Rules = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; show what would change and exit 4 if anything.")
    ] = False,
) -> None:
    """Lay every rule file out the same way, with comments kept; write 70.0 where a decimal is meant."""
    settings = effective_settings(rules=rules, log_level="warning")
    try:
        every = {**RuleSources.from_directory(settings.rules), **(read_suites(settings.rules) or {})}
    except RuleSetInvalid as error:
        fail(str(error), EXIT_ERRORS)
    sources = {file: text for file, text in every.items() if file.endswith((".yaml", ".yml"))}
    problems: list[Diagnostic] = []
    changed: dict[str, str] = {}
    languages = _languages(settings)
    for file, text in sources.items():
        laid = lay_out(file, text, kinds=FILE_KINDS, language=languages.get(file))
        problems += laid.problems
        if laid.text != text:
            changed[file] = laid.text
    for file, text in changed.items():
        if check:
            sys.stdout.writelines(_difference(file, sources[file], text))
        else:
            _write(settings.rules / file, text)
            out.print(file)
    if problems:
        sys.stdout.write(render(sorted(problems)) + "\n")
        raise typer.Exit(EXIT_ERRORS)
    if check and changed:
        err.print(f"{len(changed)} of {len(sources)} files would change; `arbiter rules fmt` changes them")
        raise typer.Exit(EXIT_FAILED)


def _languages(settings: Settings) -> Mapping[str, ConditionLanguage]:
    """What the conditions of each file may say; nothing where the set cannot be read that far."""
    try:
        sources = RuleSources.from_directory(settings.rules)
        rules = RuleSet.of(read_documents(sources), load_schema(settings.feature_schema), ())
    except (RuleSetInvalid, SchemaError):
        return {}
    if rules.vocabulary is None or rules.consent is None:
        return {}
    glossary = glossary_of(rules)
    return {file: glossary.language(file) for file in sources}


def _difference(file: str, before: str, after: str) -> Iterator[str]:
    lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return difflib.unified_diff(*lines, fromfile=file, tofile=f"{file} (laid out)")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}", EXIT_ERRORS)


def schema(
    rules: Rules = None,
    write: Annotated[
        bool, typer.Option("--write", help="Bring the files in rules/schema up to date.")
    ] = False,
) -> None:
    """Say whether the JSON Schemas that editors use fit the file formats; --write makes them."""
    settings = effective_settings(rules=rules, log_level="warning")
    try:
        if write:
            for name in write_schemas(settings.rules, FILE_KINDS):
                out.print(name)
            return
        stale = list(stale_schemas(settings.rules, FILE_KINDS))
    except OSError as error:
        fail(f"{settings.rules}: schemas cannot be read or written: {error.strerror}", EXIT_ERRORS)
    if stale:
        err.print(f"not up to date: {', '.join(stale)}; `arbiter rules schema --write` makes them so")
        raise typer.Exit(EXIT_FAILED)
