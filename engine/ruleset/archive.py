"""Keeps every rule set that ever served, by content address, so that any decision can be made again."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from engine.ruleset.diagnostics import RuleSetInvalid
from engine.ruleset.sources import RuleSources
from feature_store.schema import SchemaError, parse_schema


@dataclass(frozen=True, slots=True)
class ArchivedSet:
    """Rule files and feature schema as they served together."""

    sources: RuleSources
    feature_schema: str  # the schema file's text


class RuleArchive:
    """A folder of rule sets. Several processes may add to it; a set is never changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, archived: ArchivedSet, *, rules: str, feature_schema: str) -> None:
        """Adds a set under its versions; one that is there already stays. Raises OSError."""
        path = self._path(rules, feature_schema)
        if path.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        document = {"feature_schema": archived.feature_schema, "rules": dict(archived.sources)}
        handle, scratch = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            Path(scratch).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(scratch).unlink()
            raise

    def find(self, *, rules: str, feature_schema: str) -> ArchivedSet | None:
        """The set of these versions; None where it is not kept or not what it says it is."""
        try:
            document = json.loads(self._path(rules, feature_schema).read_text(encoding="utf-8"))
            sources = RuleSources.from_mapping(document["rules"])
            schema = str(document["feature_schema"])
        except (OSError, ValueError, KeyError, TypeError, RuleSetInvalid):
            return None
        return ArchivedSet(sources, schema) if sources.digest == rules else None

    def sources(self, rules: str) -> RuleSources | None:
        """The files of a rule set, whatever schema it served with; None where they are not held intact."""
        for path in sorted(self._folder.glob(f"{_digits(rules)}-*.json")):
            try:
                found = RuleSources.from_mapping(json.loads(path.read_text(encoding="utf-8"))["rules"])
            except (OSError, ValueError, KeyError, TypeError, RuleSetInvalid):
                continue
            if found.digest == rules:
                return found
        return None

    def feature_schemas(self) -> dict[str, str]:
        """Texts of the feature schemas that rule sets served with, by digest."""
        texts = set()
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                texts.add(str(json.loads(path.read_text(encoding="utf-8"))["feature_schema"]))
        found = {}
        for text in sorted(texts):
            with contextlib.suppress(SchemaError):
                found[parse_schema(text, source="archive").digest] = text
        return found

    def _path(self, rules: str, feature_schema: str) -> Path:
        return self._folder / f"{_digits(rules)}-{_digits(feature_schema)}.json"


def _digits(digest: str) -> str:
    return digest.removeprefix("sha256:")[:32]
