"""`arbiter log replay`: logged decisions made again, one, some, or all of a range of time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    effective_settings,
    err,
    fail,
    out,
    print_document,
    require_data,
)
from engine.cli.options import AsJson, DataDir, Registry
from engine.decisionlog.errors import LogError
from engine.decisionlog.log import DecisionLog
from engine.errors import ArbiterError
from engine.service.decisions import read_decision

if TYPE_CHECKING:
    from engine.decisionlog.record import DecisionRecord
    from engine.service.replaying import Replayed
    from engine.settings import Settings

_TOLD_EVERY_S = 1.0
_SHOWN = 10
"""Decisions and fields shown to a person; `--json` has more."""


def replay(
    decision_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of decisions, as replies give them.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="All from this date or instant on.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="All before this date or instant.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many of a range.", min=1)] = None,
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Decide logged decisions again with their own versions, and compare to the byte.

    Needs neither a server nor today's rules: the data directory holds every rule set that served.
    """
    ids = decision_ids or []
    if bool(ids) == bool(since or until):
        raise typer.BadParameter("name decisions, or a range with --since or --until")
    settings = effective_settings(data_dir=data_dir, registry=registry, log_level="warning")
    log = DecisionLog(require_data(settings, "decisions"))
    if len(ids) == 1:
        _one(settings, log, ids[0], as_json=as_json)
    else:
        records = _named(log, ids) if ids else _ranged(log, since, until)
        _many(settings, islice(records, limit), as_json=as_json)


def _one(settings: Settings, log: DecisionLog, decision_id: str, *, as_json: bool) -> None:
    (record,) = _named(log, [decision_id])
    (again,) = _replayed(settings, [record])
    if again.cause:
        fail(f"{decision_id}: {again.cause}", EXIT_ERRORS)
    from engine.decisionlog.record import decision_bytes

    size = len(decision_bytes(record.decision))
    if as_json:
        print_document({"decisionId": decision_id, "same": again.same, "bytes": size, **_fields(again)})
    elif again.same:
        versions = record.decision.versions
        models = ", ".join(f"{name}/{number}" for name, number in sorted(versions.models.items()))
        out.print(f"same to the byte: {size} bytes; rules {versions.rules[:19]}, {models}")
    if not again.same:
        fail(f"{_difference(again)}; show the record with `arbiter log show`", EXIT_FAILED)


def _many(settings: Settings, records: Iterable[DecisionRecord], *, as_json: bool) -> None:
    begun = time.perf_counter()
    count, others = 0, []
    try:
        for again in _progress(_replayed(settings, records), begun):
            count += 1
            if not again.same:
                others.append(again)
    except (ArbiterError, LogError) as error:
        fail(str(error), EXIT_ERRORS)
    seconds = time.perf_counter() - begun
    different, causes = [o for o in others if not o.cause], [o for o in others if o.cause]
    if as_json:
        print_document(
            {
                "decisions": count,
                "same": count - len(others),
                "different": [{"decisionId": o.decision_id, **_fields(o)} for o in different],
                "notReplayed": [{"decisionId": o.decision_id, "cause": o.cause} for o in causes],
                "seconds": round(seconds, 3),
                "perSecond": round(count / seconds, 1),
            }
        )
    else:
        _tell(count, different, causes, seconds)
    if others:
        raise typer.Exit(EXIT_FAILED if different else EXIT_ERRORS)


def _tell(count: int, different: Sequence[Replayed], causes: Sequence[Replayed], seconds: float) -> None:
    for other in different[:_SHOWN]:
        err.print(f"{other.decision_id}: {_difference(other)}", markup=False, soft_wrap=True)
    for cause in dict.fromkeys(other.cause for other in causes):
        of_it = sum(other.cause == cause for other in causes)
        err.print(f"{of_it:,} not replayed: {cause}", markup=False, soft_wrap=True)
    same = count - len(different) - len(causes)
    out.print(
        f"{count:,} decisions: {same:,} same to the byte, {len(different):,} different, "
        f"{len(causes):,} not replayed; {count / seconds:,.0f}/s"
    )


def _replayed(settings: Settings, records: Iterable[DecisionRecord]) -> Iterator[Replayed]:
    from functools import partial

    from engine.service.replaying import replay_all
    from engine.snapshots import past_snapshot

    return replay_all(records, partial(past_snapshot, settings))


def _named(log: DecisionLog, ids: Sequence[str]) -> Iterator[DecisionRecord]:
    """Ends the command where the log does not hold one."""
    for decision_id in ids:
        try:
            yield read_decision(log, decision_id)
        except (ArbiterError, LogError) as error:
            fail(f"{decision_id}: {error}", EXIT_ERRORS)


def _ranged(log: DecisionLog, since: str | None, until: str | None) -> Iterator[DecisionRecord]:
    from engine.cli.values import instant_ms

    return log.scan(since_ms=instant_ms(since), until_ms=instant_ms(until))


def _progress(replayed: Iterator[Replayed], begun: float) -> Iterator[Replayed]:
    """Says each second at a terminal how far it is."""
    told = begun
    for count, again in enumerate(replayed, start=1):
        now = time.perf_counter()
        if err.is_terminal and now - told >= _TOLD_EVERY_S:
            told = now
            err.print(f"{count:,} decisions, {count / (now - begun):,.0f}/s", end="\r")
        yield again


def _fields(again: Replayed) -> dict[str, object]:
    if again.same:
        return {}
    return {"differences": [asdict(difference) for difference in again.differences]}


def _difference(again: Replayed) -> str:
    """Where the two decisions part."""
    shown = [f"{d.field} was {d.logged!r}, is {d.again!r}" for d in again.differences[:_SHOWN]]
    more = len(again.differences) - _SHOWN
    return f"different: {'; '.join(shown)}" + (f"; and {more} more fields" if more > 0 else "")
