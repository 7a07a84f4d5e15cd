"""Questions in SQL over an export. Imported where DuckDB is there, which is an extra.

A question is one SELECT; it sees the files of the export and nothing else of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from engine.decisionlog import columns
from engine.decisionlog.exporting import DECISIONS, OUTCOMES
from engine.errors import SetupInvalid

VIEWS: Final = (DECISIONS, "candidates", OUTCOMES)
_CANDIDATES: Final = """
CREATE VIEW candidates AS SELECT * EXCLUDE (candidate), candidate.* FROM (
    SELECT decision_id, decided_at, day, customer, channel, placement, unnest(candidates) AS candidate
    FROM decisions
)
"""
"""One row for each action that a decision looked at, returned or suppressed."""
_READS: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question gave: names of the columns, then rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def ask(folder: Path, sql: str, *, memory_mb: int) -> Answer:
    """The answer to one SELECT over decisions, candidates and outcomes. Raises SetupInvalid."""
    with duckdb.connect(":memory:", config={"memory_limit": f"{memory_mb}MB"}) as database:
        try:
            _attach(database, folder / DECISIONS, DECISIONS, columns.DECISIONS)
            _attach(database, folder / OUTCOMES, OUTCOMES, columns.OUTCOMES)
            database.execute(_CANDIDATES)
            _confine(database, folder)
            _check(database, sql)
            found = database.execute(sql)
            names = tuple(column[0] for column in found.description or ())
            return Answer(names, tuple(found.fetchall()))
        except duckdb.Error as error:
            raise SetupInvalid(f"the query cannot be answered: {error}") from error


def _attach(database: duckdb.DuckDBPyConnection, folder: Path, name: str, schema: pa.Schema) -> None:
    """A view of the files in a folder; an empty one where there are none."""
    if next(folder.glob("day=*/part-*.parquet"), None) is None:
        database.register(name, schema.append(pa.field("day", pa.date32())).empty_table())
        return
    files = _quoted(f"{folder.resolve()}/day=*/part-*.parquet")
    database.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({files}, hive_partitioning = true)")  # noqa: S608  # quoted


def _confine(database: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """From here on the database reads the export, and no setting can be changed any more."""
    database.execute("SET TimeZone = 'UTC'")
    database.execute(f"SET allowed_directories = [{_quoted(str(folder.resolve()))}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def _check(database: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Whether it only reads: what is allowed to be read could be written too. Raises SetupInvalid."""
    statements = database.extract_statements(sql)
    if len(statements) != 1 or statements[0].type not in _READS:
        raise SetupInvalid(f"write one SELECT over {', '.join(VIEWS)}; nothing else is run")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
