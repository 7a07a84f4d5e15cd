"""Holds a decision to what a case expects: every difference in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.domain import Decision, Reason, Stage
from engine.suites.documents import Expectation, SuppressionExpectation


@dataclass(frozen=True, slots=True)
class Difference:
    """One expectation that does not hold; `actions` are those whose fate would explain it."""

    sentence: str
    actions: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


def judge(decision: Decision, expect: Expectation) -> list[Difference]:
    """Everything in which the decision is not as expected."""
    return [
        *_order(decision, expect),
        *_suppressions(decision, expect),
        *_reasons(decision, expect),
        *_whole(decision, expect),
    ]


def _returned(decision: Decision) -> tuple[str, ...]:
    return tuple(action.action_id for action in decision.actions)


def _order(decision: Decision, expect: Expectation) -> Iterator[Difference]:
    returned = _returned(decision)
    if expect.actions is not None and returned != expect.actions:
        concerned = tuple(dict.fromkeys((*expect.actions, *returned)))
        sentence = f"actions: expected {_listed(expect.actions)}, got {_listed(returned)}"
        yield Difference(
            sentence, tuple(a for a in concerned if (a in returned) != (a in expect.actions)) or concerned
        )
    if expect.first is not None and returned[:1] != (expect.first,):
        got = returned[0] if returned else "no action"
        yield Difference(f"first: expected {expect.first}, got {got}", (expect.first, *returned[:1]))
    for action in expect.returned:
        if action not in returned:
            fate = _fate_words(decision, action)
            yield Difference(f"returned: expected {action}, which was {fate}", (action,))
    for action in expect.not_returned:
        if action in returned:
            sentence = f"not_returned: {action} was returned at rank {returned.index(action) + 1}"
            yield Difference(sentence, (action,))


def _suppressions(decision: Decision, expect: Expectation) -> Iterator[Difference]:
    for action, wanted in expect.suppressed.items():
        wanted = SuppressionExpectation(stage=wanted) if isinstance(wanted, Stage) else wanted
        fate = next((f for f in decision.suppressed if f.action_id == action), None)
        if fate is None:
            yield Difference(f"suppressed: {action} was returned", (action,), wanted.reasons)
            continue
        if wanted.stage is not None and fate.stage is not wanted.stage:
            sentence = (
                f"suppressed: {action} at stage {wanted.stage.value}, got {_fate_words(decision, action)}"
            )
            yield Difference(sentence, (action,), wanted.reasons)
        found = [reason.code for reason in fate.reasons]
        for code in wanted.reasons:
            if code not in found:
                sentence = f"suppressed: {action} with reason {code}, got {_fate_words(decision, action)}"
                yield Difference(sentence, (action,), (code,))
        rules = [reason.rule_id for reason in fate.reasons]
        for rule in wanted.rules:
            if rule not in rules:
                sentence = f"suppressed: {action} by rule {rule}, got {_listed(rules)}"
                yield Difference(sentence, (action,))


def _reasons(decision: Decision, expect: Expectation) -> Iterator[Difference]:
    given = {action.action_id: [reason.code for reason in action.reasons] for action in decision.actions}
    for action, wanted in expect.reasons.items():
        if action not in given:
            fate = _fate_words(decision, action)
            yield Difference(f"reasons: {action} was not returned but {fate}", (action,), wanted)
            continue
        for code in wanted:
            if code not in given[action]:
                sentence = f"reasons: {action} with {code}, got {_listed(given[action])}"
                yield Difference(sentence, (action,), (code,))


def _whole(decision: Decision, expect: Expectation) -> Iterator[Difference]:
    yield from _nothing(decision, expect.no_action)
    band = decision.churn.band if decision.churn is not None else "not scored"
    if expect.churn_band is not None and band != expect.churn_band:
        yield Difference(f"churn_band: expected {expect.churn_band}, got {band}")
    if expect.profiled is not None and decision.profiled is not expect.profiled:
        yield Difference(f"profiled: expected {_yes(expect.profiled)}, got {_yes(decision.profiled)}")
    shadow = tuple(sorted(set(decision.shadow_rules)))
    if expect.shadow_rules is not None and shadow != tuple(sorted(expect.shadow_rules)):
        yield Difference(f"shadow_rules: expected {_listed(expect.shadow_rules)}, got {_listed(shadow)}")


def _nothing(decision: Decision, wanted: Sequence[str] | bool | None) -> Iterator[Difference]:
    if wanted is None:
        return
    nothing = decision.no_action is not None
    returned = _returned(decision)
    if nothing is not bool(wanted):
        yield Difference(f"no_action: expected {_yes(bool(wanted))}, got {_listed(returned)}", returned)
    elif not isinstance(wanted, bool):
        found = [reason.code for reason in decision.no_action or ()]
        for code in wanted:
            if code not in found:
                yield Difference(f"no_action: with reason {code}, got {_listed(found)}")


def _fate_words(decision: Decision, action: str) -> str:
    for returned in decision.actions:
        if returned.action_id == action:
            return f"returned at rank {returned.rank}"
    for fate in decision.suppressed:
        if fate.action_id == action:
            return f"removed at {fate.stage.value} ({', '.join(_reason_words(r) for r in fate.reasons)})"
    return "not in the catalogue"


def _reason_words(reason: Reason) -> str:
    return f"{reason.code} by {reason.rule_id}" if reason.rule_id else reason.code


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(names) + "]"


def _yes(value: bool) -> str:
    return "true" if value else "false"
