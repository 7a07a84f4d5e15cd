"""A comparison of rule sets as Markdown, made to be pasted into a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from engine.comparing import RuleDiff, Side
from engine.domain import Stage
from engine.ruleset.changes import Change, FieldChange, How
from engine.ruleset.versions import short
from engine.service.impact import RETURNED, Impact, SegmentShift

_MAX_CHANGES = 60
_MAX_TEXT = 200


def markdown(diff: RuleDiff) -> str:
    """The whole comparison, ending in a line break."""
    parts = [
        f"## Rules: {_side(diff.before)} → {_side(diff.after)}",
        _headline(diff),
        *_section("What changes", _changes(diff.changes)),
    ]
    impact = diff.impact
    if impact.changed:
        parts += _section("Who gains and loses", _actions(impact))
        parts += _section("By segment", _segments(impact))
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
        f"Sum of first priorities: {impact.value_before:,.0f} → {impact.value_after:,.0f} {diff.currency}"
    )
    if impact.value_before:
        words += f" ({(impact.value_after / impact.value_before - 1) * 100:+.1f} %)"
    if impact.skipped:
        words += f". {impact.skipped:,} left out: one of the rule sets lacks their channel or placement"
    return words + "."


def _changes(changes: Sequence[Change]) -> Iterator[str]:
    for change in changes[:_MAX_CHANGES]:
        name = f" `{change.name}`" if change.name else ""
        lead = f"- {change.how.value} **{change.noun}**{name} ({change.file}:{change.line})"
        if change.how is not How.CHANGED:
            yield f"{lead}: {change.summary}" if change.summary else lead
        else:
            yield f"{lead}: {'; '.join(_field(field) for field in change.fields)}"
    if len(changes) > _MAX_CHANGES:
        yield f"- and {len(changes) - _MAX_CHANGES} more"


def _field(change: FieldChange) -> str:
    return f"{change.field} {_value(change.before)} → {_value(change.after)}"


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
    yield "| segment | customers | changed | first changed | actions gained | actions lost |"
    yield "|---|--:|--:|--:|--:|--:|"
    telling = {name: values for name, values in impact.segments.items() if len(values) > 1}
    for dimension, values in telling.items():
        for value, shift in sorted(values.items(), key=lambda item: (-item[1].cases, item[0])):
            yield _segment(f"{dimension}: {value}", shift)


def _segment(name: str, s: SegmentShift) -> str:
    changed, first = _share(s.changed, s.cases), f"{s.first_changed:,}"
    return f"| {_cell(name)} | {s.cases:,} | {changed} | {first} | {s.gained:,} | {s.lost:,} |"


def _gates(impact: Impact) -> Iterator[str]:
    for purpose, crossing in sorted(impact.consents.items()):
        more, fewer = f"{crossing.arrived:,}", f"{crossing.left:,}"
        yield f"- purpose **{purpose}** is permitted for {more} customers more, {fewer} fewer"
    for stage in Stage:
        gone = impact.stages.get(stage.value)
        if gone is not None:
            newly, no_longer = f"{gone.arrived:,} times newly", f"{gone.left:,} times no longer"
            yield f"- removed at **{stage.value}**: {newly}, {no_longer}"


def _movers(impact: Impact, currency: str) -> Iterator[str]:
    if not impact.movers:
        return
    yield f"| customer | channel | action | priority before | priority after ({currency}) |"
    yield "|---|---|---|--:|--:|"
    for m in impact.movers:
        yield (
            f"| {_cell(m.customer_id)} | {m.channel} | {m.action_id} | {_priority(m.before, m.fate_before)} "
            f"| {_priority(m.after, m.fate_after)} |"
        )


def _priority(priority: float | None, fate: str) -> str:
    words = "" if fate == RETURNED else f" ({fate})"
    return f"{'-' if priority is None else f'{priority:,.2f}'}{words}"


def _cost(diff: RuleDiff) -> str:
    cases = diff.impact.cases
    rate = f", {cases / diff.decide_s:,.0f} a second" if cases else ""
    compiled = f"compiled in {diff.compile_s:.1f} s"
    return f"<sub>{compiled}; {cases:,} decided with both in {diff.decide_s:.1f} s{rate}</sub>"


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole * 100:.1f} %)" if whole else f"{part:,}"


def _plural(noun: str, number: int) -> str:
    if number == 1 or noun.endswith("s"):
        return noun
    return noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
