"""A comparison of rule sets as Markdown, made to be pasted into a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final

from engine.comparing import RuleDiff, Side
from engine.domain import Stage
from engine.ruleset.changes import Change, FieldChange, How
from engine.ruleset.versions import short
from engine.service.impact import (
    ABSENT,
    RETURNED,
    SEGMENT,
    ActionShift,
    Crossing,
    Impact,
    Proposals,
    SegmentShift,
)

_MAX_CHANGES: Final = 60
_MAX_TEXT: Final = 200
_LONG: Final = 60
"""Texts from which only what differs is shown, with some words around it."""
_WORDS_AROUND: Final = 3
_MOST: Final = 2
"""How many actions a segment names."""
_ALWAYS_TOLD: Final = (Stage.CONSENT, Stage.CONTACT)
_STAGE_WORDS: Final = {Stage.CONTACT: "contact limits"}
_FROM_EVENTS: Final = frozenset({"signal", "event type"})


def markdown(diff: RuleDiff) -> str:
    """The whole comparison, ending in a line break."""
    parts = [
        f"## Rules: {_side(diff.before)} → {_side(diff.after)}",
        _headline(diff),
        *_section("What changes", _changes(diff.changes)),
    ]
    impact = diff.impact
    if impact.changed:
        parts += _section("Who gains and who loses", _actions(impact))
        parts += _section("By segment", _segments(impact))
    if impact.cases:
        parts += _section("Consent and contact", _gates(impact))
    parts += _section("Largest movers", _movers(impact, diff.currency))
    return "\n\n".join([*parts, _cost(diff)]) + "\n"


def _section(title: str, lines: Iterator[str]) -> list[str]:
    text = "\n".join(lines)
    return [f"### {title}", text] if text else []


def _side(side: Side) -> str:
    return f"`{side.name}`" if short(side.rules) in side.name else f"`{side.name}` ({short(side.rules)})"


def _headline(diff: RuleDiff) -> str:
    counted = Counter((change.noun, change.how.value) for change in diff.changes)
    told = [f"{number} {_plural(noun, number)} {how}" for (noun, how), number in counted.items()]
    changed = "; ".join(told) or "nothing"
    return f"**{changed[0].upper()}{changed[1:]}.** {_effect(diff)}"


def _effect(diff: RuleDiff) -> str:
    impact = diff.impact
    if not impact.cases:
        return f"Not tried on {diff.cases_are}."
    words = (
        f"Of {impact.cases:,} {diff.cases_are}, {_share(impact.changed, impact.cases)} get other actions, "
        f"{_share(impact.first_changed, impact.cases)} another first action. "
        f"With nothing to propose: {impact.nothing_before:,} → {impact.nothing_after:,}. "
        f"Sum of the priorities of first actions: {impact.value_before:,.0f} → {impact.value_after:,.0f} "
        f"{diff.currency}"
    )
    if impact.value_before:
        words += f" ({(impact.value_after / impact.value_before - 1) * 100:+.1f} %)"
    if impact.skipped:
        words += f". {impact.skipped:,} left out: one of the rule sets lacks their channel or placement"
    if any(change.noun in _FROM_EVENTS for change in diff.changes):
        words += (
            ". Signals count as they are stored: whom the changed patterns would give a signal, or take "
            "one from, is not among the figures"
        )
    return words + "."


def _changes(changes: Sequence[Change]) -> Iterator[str]:
    for change in changes[:_MAX_CHANGES]:
        name = f" `{change.name}`" if change.name else ""
        place = f"({change.file}:{change.line})"
        lead = f"- {change.how.value} **{change.noun}**{name} {place}"
        if change.how is not How.CHANGED:
            yield f"{lead}: {change.summary}" if change.summary else lead
        else:
            where = f" where {change.summary}" if change.summary else ""
            yield f"{lead}{where}: {'; '.join(_field(field) for field in change.fields)}"
    if len(changes) > _MAX_CHANGES:
        yield f"- and {len(changes) - _MAX_CHANGES} more"


def _field(change: FieldChange) -> str:
    before, after = _apart(change.before, change.after)
    return f"{change.field} {_value(before)} → {_value(after)}"


def _apart(before: str, after: str) -> tuple[str, str]:
    """Two texts; of long ones that begin or end alike what differs, with some words around it."""
    if min(len(before), len(after)) <= _LONG:
        return before, after
    was, now = before.split(), after.split()
    start = max(0, _alike(was, now) - _WORDS_AROUND)
    end = max(0, _alike(was[start:][::-1], now[start:][::-1]) - _WORDS_AROUND)
    return _cut(was, start, end), _cut(now, start, end)


def _alike(was: Sequence[str], now: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = enumerate(zip(was, now, strict=False))
    return next((i for i, (before, after) in pairs if before != after), min(len(was), len(now)))


def _cut(words: Sequence[str], start: int, end: int) -> str:
    inner = [*words[start : len(words) - end]]
    return " ".join([*(["…"] if start else []), *inner, *(["…"] if end else [])])


def _value(text: str) -> str:
    if not text:
        return "(not given)"
    shown = text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
    return f"``{shown}``" if "`" in shown else f"`{shown}`"


def _actions(impact: Impact) -> Iterator[str]:
    yield "| action | gain it | lose it | gain it as first | lose it as first |"
    yield "|---|--:|--:|--:|--:|"
    shifts = sorted(impact.actions.items(), key=lambda item: (-item[1].gained - item[1].lost, item[0]))
    for action, s in shifts:
        yield f"| {action} | {s.gained:,} | {s.lost:,} | {s.first_gained:,} | {s.first_lost:,} |"


def _segments(impact: Impact) -> Iterator[str]:
    yield "| segment | customers | get other actions | another first | gain most | lose most |"
    yield "|---|--:|--:|--:|---|---|"
    for dimension, values in sorted(impact.segments.items(), key=lambda item: not _is_named(item[0])):
        for value, shift in sorted(values.items(), key=lambda item: (-item[1].cases, item[0])):
            if _is_named(dimension):
                if value != "no":  # whoever is in no segment is among all
                    yield _segment(_named(dimension, value), shift)
            elif len(values) > 1:
                yield _segment(f"{dimension}: {value}", shift)


def _is_named(dimension: str) -> bool:
    return dimension.startswith(SEGMENT)


def _named(dimension: str, value: str) -> str:
    name = f"**{dimension.removeprefix(SEGMENT)}**"
    return name if value == "yes" else f"{name}: {value}"


def _segment(name: str, s: SegmentShift) -> str:
    changed, first = _share(s.changed, s.cases), f"{s.first_changed:,}"
    most = " | ".join(_most(s.actions, side) for side in ("gained", "lost"))
    return f"| {_cell(name)} | {s.cases:,} | {changed} | {first} | {most} |"


def _most(shifts: Mapping[str, ActionShift], side: str) -> str:
    """The actions most of a segment gain or lose, with how many."""
    number = attrgetter(side)
    first = sorted(shifts.items(), key=lambda item: (-number(item[1]), item[0]))[:_MOST]
    return ", ".join(f"{action} {number(shift):,}" for action, shift in first if number(shift)) or "-"


def _gates(impact: Impact) -> Iterator[str]:
    yield "| purpose | newly permitted for | no longer for | proposals before | after |"
    yield "|---|--:|--:|--:|--:|"
    for purpose in dict.fromkeys([*impact.proposals, *sorted(impact.consents)]):
        crossing = impact.consents.get(purpose, Crossing())
        proposals = impact.proposals.get(purpose, Proposals())
        permitted = f"{crossing.arrived:,} | {crossing.left:,}"
        yield f"| {purpose} | {permitted} | {proposals.before:,} | {proposals.after:,} |"
    yield ""
    yield "| an action of a customer is removed by | newly | no longer |"
    yield "|---|--:|--:|"
    for stage in Stage:
        gone = impact.stages.get(stage.value)
        if gone is not None or stage in _ALWAYS_TOLD:
            yield _crossing(_STAGE_WORDS.get(stage, stage.value), gone or Crossing())
        if stage is Stage.CONTACT:
            for policy, crossing in sorted(impact.contacts.items()):
                yield _crossing(f"- `{policy}`", crossing)
    yield ""
    yield f"{_share(impact.contacted, impact.cases)} have had contacts, which alone contact limits count."


def _crossing(what: str, crossing: Crossing) -> str:
    return f"| {what} | {crossing.arrived:,} | {crossing.left:,} |"


def _movers(impact: Impact, currency: str) -> Iterator[str]:
    if not impact.movers:
        return
    yield f"| customer | channel | action | priority before ({currency}) | after |"
    yield "|---|---|---|--:|--:|"
    for m in impact.movers:
        yield (
            f"| {_cell(m.customer_id)} | {m.channel} | {m.action_id} | {_priority(m.before, m.fate_before)} "
            f"| {_priority(m.after, m.fate_after)} |"
        )


def _priority(priority: float | None, fate: str) -> str:
    if priority is None:
        return fate if fate == ABSENT else f"removed: {fate}"
    return f"{priority:,.2f}" if fate == RETURNED else f"{priority:,.2f}, not returned"


def _cost(diff: RuleDiff) -> str:
    impact = diff.impact
    compiled = f"run time {diff.run_s:.1f} s: compiled in {diff.compile_s:.1f} s"
    if not impact.cases:
        return f"<sub>{compiled}</sub>"
    once = f"; {impact.decided_once:,} of them once, as the change cannot touch them"
    return (
        f"<sub>{compiled}, {impact.cases:,} read in {diff.read_s:.1f} s and decided with both in "
        f"{diff.decide_s:.1f} s{once if impact.decided_once else ''}</sub>"
    )


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole * 100:.1f} %)" if whole else f"{part:,}"


def _plural(noun: str, number: int) -> str:
    if number == 1 or noun.endswith("s"):
        return noun
    return noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
