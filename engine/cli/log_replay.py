"""`arbiter log replay`: logged decisions made again, one, some, or all of a range of time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
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
from engine.cli.values import instant_ms
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
    jobs: Annotated[
        int,
        typer.Option("--jobs", help="Processes that share a range; one a core is best.", min=1, max=64),
    ] = 1,
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
    elif ids:
        _many(lambda: _part_of(_replayed(settings, _named(log, ids))), as_json=as_json)
    else:
        span = _Span(instant_ms(since), instant_ms(until), limit)
        _many(lambda: _shared(settings, span, jobs), as_json=as_json)


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


@dataclass(frozen=True, slots=True)
class _Span:
    """A range of time, and at most how many of it."""

    since_ms: int | None
    until_ms: int | None
    limit: int | None


@dataclass(slots=True)
class _Part:
    """What came of some decisions: how many there were, and those that are not the same."""

    count: int = 0
    others: list[Replayed] = field(default_factory=list)


def _shared(settings: Settings, span: _Span, jobs: int) -> _Part:
    """Replays a range, with other processes where there is more than one job; this one takes a share too."""
    if jobs == 1:
        return _share(settings, span, 0, 1)
    with ProcessPoolExecutor(jobs - 1, mp_context=multiprocessing.get_context("spawn")) as pool:
        helped = [pool.submit(_share, settings, span, place, jobs) for place in range(1, jobs)]
        parts = [_share(settings, span, 0, jobs), *(part.result() for part in helped)]
    others = [other for part in parts for other in part.others]
    return _Part(sum(part.count for part in parts), sorted(others, key=lambda other: other.decision_id))


def _share(settings: Settings, span: _Span, place: int, jobs: int) -> _Part:
    """Every decision of a range that falls to one of the jobs."""
    log = DecisionLog(settings.data_dir / "decisions")
    records = islice(log.scan(since_ms=span.since_ms, until_ms=span.until_ms), span.limit)
    return _part_of(_replayed(settings, islice(records, place, None, jobs)), jobs=jobs, quiet=place > 0)


def _part_of(replayed: Iterator[Replayed], *, jobs: int = 1, quiet: bool = False) -> _Part:
    part, begun = _Part(), time.perf_counter()
    told = begun
    for again in replayed:
        part.count += 1
        if not again.same:
            part.others.append(again)
        now = time.perf_counter()
        if err.is_terminal and not quiet and now - told >= _TOLD_EVERY_S:
            told = now
            about = part.count * jobs
            err.print(f"{about:,} decisions, {about / (now - begun):,.0f}/s", end="\r")
    return part


def _many(work: Callable[[], _Part], *, as_json: bool) -> None:
    begun = time.perf_counter()
    try:
        part = work()
    except (ArbiterError, LogError) as error:
        fail(str(error), EXIT_ERRORS)
    count, others = part.count, part.others
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


def _fields(again: Replayed) -> dict[str, object]:
    if again.same:
        return {}
    return {"differences": [asdict(difference) for difference in again.differences]}


def _difference(again: Replayed) -> str:
    """Where the two decisions part."""
    shown = [f"{d.field} was {d.logged!r}, is {d.again!r}" for d in again.differences[:_SHOWN]]
    more = len(again.differences) - _SHOWN
    return f"different: {'; '.join(shown)}" + (f"; and {more} more fields" if more > 0 else "")
