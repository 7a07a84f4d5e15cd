"""The overview: what the server does now, and what the latest decisions were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from engine.service.glancing import (
    NO_ACTION,
    OTHERS,
    Glance,
    GlancedOutcome,
    action_mix,
    funnel,
    reason_codes,
)
from engine.web.console.charts import TONES, Chart, Series, Tone
from engine.web.console.pages import House, asked, put, said
from engine.web.console.story import Teller
from engine.web.console.traffic import Seen
from engine.web.look.words import Words
from engine.web.sessions import Session

_PARTS: Final = 12
_ACTIONS: Final = 6
_CODES: Final = 12
_DAY_MS: Final = 86_400_000


def overview(house: House, request: Request, session: Session) -> Response:
    """The page; with `live=off` its figures stand still."""
    words, glances = said(request), house.recent.decisions()
    teller = Teller(house.application.live.current, words.language)
    seen = house.traffic.look()
    return put(
        request,
        session,
        "overview",
        seen=seen,
        live=asked(request, "live") != "off",
        count=len(glances),
        since_ms=glances[-1].now_ms if glances else None,
        pictures=[*_latency(seen, words), *_pictures(glances, house.recent.outcomes(), teller, words)],
    )


def live(house: House, request: Request, session: Session) -> Response:
    """The part of it that is asked for every few seconds."""
    return put(request, session, "live", seen=house.traffic.look(), live=True)


def _latency(seen: Seen, words: Words) -> Iterator[Chart]:
    total = sum(band.calls for band in seen.latency)
    if not total or seen.p50_ms is None or seen.p99_ms is None:
        return
    last = seen.latency[-2].until_ms if len(seen.latency) > 1 else 0.0
    slowest = max(place for place, band in enumerate(seen.latency) if band.calls)
    bands = seen.latency[: slowest + 1]
    labels = [f"≤ {band.until_ms:g}" if band.until_ms else f"> {last:g}" for band in bands]
    yield Chart(
        kind="bar",
        title=words("console.overview.latency"),
        words=words(
            "console.overview.latency_words",
            p50=f"{seen.p50_ms:.2f}",
            p99=f"{seen.p99_ms:.2f}",
            over=words("console.overview.over", seconds=round(seen.over_s))
            if seen.over_s
            else words("console.overview.over_all"),
        ),
        labels=labels,
        series=[Series(words("console.overview.calls"), [band.calls for band in bands])],
        head=[words("console.overview.took"), words("console.overview.calls"), "%"],
        rows=[
            (label, f"{band.calls:,}", f"{100 * band.calls / total:.1f}")
            for label, band in zip(labels, bands, strict=True)
        ],
        across="ms",
    )


def _pictures(
    glances: Sequence[Glance], outcomes: Sequence[GlancedOutcome], teller: Teller, words: Words
) -> Iterator[Chart]:
    if not glances:
        return
    yield _funnel(glances, outcomes, words)
    yield _mix(glances, teller, words)
    yield _reasons(glances, words)


def _funnel(glances: Sequence[Glance], outcomes: Sequence[GlancedOutcome], words: Words) -> Chart:
    steps = funnel(glances, outcomes)
    names = [words(f"console.funnel.{step.name}") for step in steps]
    most = max(steps, key=lambda step: step.removed if step.name != "accepted" else 0)
    return Chart(
        kind="bar",
        title=words("console.overview.funnel"),
        words=words("console.overview.funnel_words", step=words(f"console.funnel.{most.name}")),
        labels=[f"{name}  {step.left:,}" for name, step in zip(names, steps, strict=True)],
        series=[
            Series(words("console.overview.left"), [step.left for step in steps]),
            Series(words("console.overview.removed"), [step.removed for step in steps], tone="quiet"),
        ],
        head=[
            words("console.overview.step"),
            words("console.overview.left"),
            words("console.overview.removed"),
        ],
        rows=[(name, f"{step.left:,}", f"{step.removed:,}") for name, step in zip(names, steps, strict=True)],
        sideways=True,
        stacked=True,
    )


def _mix(glances: Sequence[Glance], teller: Teller, words: Words) -> Chart:
    mix = action_mix(glances, parts=_PARTS, most=_ACTIONS)
    totals = [sum(values[place] for _, values in mix.actions) for place in range(len(mix.starts_ms))]
    own = {NO_ACTION: words("console.overview.no_action"), OTHERS: words("console.overview.others")}
    labels = [_clock(at_ms, mix.starts_ms) for at_ms in mix.starts_ms]
    tones: Sequence[Tone] = TONES
    first, counts = mix.actions[0]
    return Chart(
        kind="bar",
        title=words("console.overview.mix"),
        words=words(
            "console.overview.mix_words",
            action=own.get(first) or teller.name(first),
            percent=round(100 * sum(counts) / len(glances)),
        ),
        labels=labels,
        series=[
            Series(own.get(name) or teller.name(name), _shares(values, totals), tone)
            for (name, values), tone in zip(mix.actions, tones, strict=False)
        ],
        head=[
            words("console.overview.from"),
            *(own.get(name) or teller.name(name) for name, _ in mix.actions),
        ],
        rows=[
            (label, *(str(values[place]) for _, values in mix.actions)) for place, label in enumerate(labels)
        ],
        stacked=True,
        up=words("console.overview.share"),
        most=100,
    )


def _shares(values: Sequence[int], totals: Sequence[int]) -> list[float]:
    return [round(100 * value / total, 1) for value, total in zip(values, totals, strict=True)]


def _reasons(glances: Sequence[Glance], words: Words) -> Chart:
    found = reason_codes(glances, most=_CODES)
    spoke, stood = words("console.overview.for"), words("console.overview.against")
    return Chart(
        kind="bar",
        title=words("console.overview.reasons"),
        words=words("console.overview.reasons_words", code=found[0][0] if found else "–"),
        labels=[code for code, _, _ in found],
        series=[
            Series(spoke, [for_ for _, for_, _ in found], "good"),
            Series(stood, [against for _, _, against in found], "quiet"),
        ],
        head=[words("console.overview.code"), spoke, stood],
        rows=[(code, f"{for_:,}", f"{against:,}") for code, for_, against in found],
        sideways=True,
        stacked=True,
    )


def _clock(at_ms: int, all_ms: Sequence[int]) -> str:
    """The time of day, with seconds within an hour; the date too where there are several."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    span_ms = all_ms[-1] - all_ms[0]
    if span_ms > _DAY_MS:
        return f"{at:%m-%d %H:%M}"
    return f"{at:%H:%M}" if span_ms > _DAY_MS // 24 else f"{at:%H:%M:%S}"
