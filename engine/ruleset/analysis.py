"""What is right in a rule set and yet cannot work. Everything said here holds for every customer.

Reasoning is by regions (`reasoning.py`): exact or too large, so something may be overlooked and nothing
is claimed wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Final

from engine.core.reasons import MODEL_PLACEHOLDERS, PLACEHOLDERS
from engine.core.rulebook import ContactKind
from engine.domain import Effect
from engine.ruleset import diagnostics as codes
from engine.ruleset.asof import Standing, share_an_instant, standing
from engine.ruleset.definitions import Declared
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.documents import (
    ActionEntry,
    CatalogueDocument,
    ContactEntry,
    ContactPackDocument,
    ReasonEntry,
)
from engine.ruleset.facts import Fact, Facts, Scoped, window
from engine.ruleset.reading import Located
from engine.ruleset.regions import EVERYWHERE, Region, meet_regions
from engine.ruleset.values import Words

MAX_PAIRS: Final = 50_000
"""Pairs of rules that are compared; a set with more is compared in part."""
_SHOWN: Final = 3
_NEVER: Final = {
    Effect.ALLOW: "so it lets nobody pass",
    Effect.DENY: "so it removes nobody",
    Effect.LEVER: "so it never pulls",
    Effect.WEIGHT: "so it never weighs",
    Effect.VALUE: "so it sets no value",
}


def conditions(facts: Facts) -> Iterator[Diagnostic]:
    """Conditions that hold for nobody or for everybody, and rules whose time never comes."""
    for fact in facts.all:
        actions = facts.actions_of(fact)
        if not actions:
            continue
        yield from _windows(fact, actions)
        if not fact.of_table:
            yield from _truth(fact, actions)


def _truth(fact: Fact, actions: Sequence[ActionEntry]) -> Iterator[Diagnostic]:
    reaches = [fact.reach(action) for action in actions]
    if not any(found.true for found in reaches):
        message = f"this condition is never true, {_NEVER[fact.entry.effect]}"
        yield fact.problem(codes.NEVER_TRUE, message, "correct the condition, or remove the rule", "when")
    elif not fact.is_constant and not any(found.false for found in reaches):
        message = "this condition is never false; it is true, or an input is missing"
        yield fact.problem(
            codes.ALWAYS_TRUE, message, "write `true`, or ask has(...), if that is meant", "when"
        )


def _windows(fact: Fact, actions: Sequence[ActionEntry]) -> Iterator[Diagnostic]:
    if not any(share_an_instant(fact.window, window(action.valid)) for action in actions):
        message = f"`{fact.entry.id}` is never valid when {_names([a.id for a in actions])} is"
        yield fact.problem(
            codes.WINDOWS_NEVER_MEET, message, "correct one validity, or remove the rule", "valid"
        )


def whole_set(facts: Facts) -> Iterator[Diagnostic]:
    """What only rules together show; for sets without errors."""
    yield from _contradictions(facts)
    for scoped in facts.scoped:
        if facts.in_force(scoped.action.valid):
            yield from _possible(facts, scoped)
            yield from _worth(facts, scoped)
    yield from _unused_reasons(facts)
    yield from _contact(facts)


def not_in_force(facts: Facts) -> Iterator[Diagnostic]:
    """Rules and actions that have ended, or not begun, as of the instant asked about."""
    at_ms = facts.at_ms
    if at_ms is None:
        return
    for fact in facts.all:
        found = standing(*fact.window, at_ms)
        if found is not Standing.IN_FORCE:
            yield fact.problem(
                codes.NOT_IN_FORCE, f"the rule `{fact.entry.id}` is {_words(found)}", at="valid"
            )
    located = facts.rules.catalogue
    for scoped in facts.scoped if located else ():
        found = standing(*window(scoped.action.valid), at_ms)
        if located is not None and found is not Standing.IN_FORCE:
            message = f"the action `{scoped.action.id}` is {_words(found)}"
            yield located.problem((*scoped.path, "valid"), codes.NOT_IN_FORCE, message)


def _words(found: Standing) -> str:
    return "not yet in force then" if found is Standing.NOT_YET else "no longer in force then"


def _contradictions(facts: Facts) -> Iterator[Diagnostic]:
    """Pairs of gates that no case passes both of, with all actions they leave to nobody."""
    actions: dict[tuple[int, int], list[str]] = {}
    pairs: dict[tuple[int, int], tuple[Fact, Fact]] = {}
    apart: dict[tuple[int, int], bool] = {}
    left = MAX_PAIRS
    for scoped in facts.scoped:
        for one, other in combinations(facts.gates(scoped), 2):
            key = id(one), id(other)
            left -= 1
            if left < 0:
                break
            if key not in apart or one.by_action or other.by_action:
                apart[key] = _exclude(one, other, scoped.action)
            if apart[key] and share_an_instant(one.window, other.window, window(scoped.action.valid)):
                pairs[key] = one, other
                actions.setdefault(key, []).append(scoped.action.id)
    for key, (one, other) in pairs.items():
        whom = _names(actions[key])
        message = (
            f"with `{one.entry.id}` in {one.yaml.file}:{one.position[0]} this rule leaves {whom} to nobody"
        )
        yield other.problem(codes.CONTRADICTION, message, _contradiction_advice(one, other), "when")


def _exclude(one: Fact, other: Fact, action: ActionEntry) -> bool:
    """Whether each gate has a case that passes it, and none passes both."""
    first, second = one.passes(action), other.passes(action)
    if not first or not second or _variables(first).isdisjoint(_variables(second)):
        return False
    return not meet_regions(first, second)


def _variables(region: Region) -> set[object]:
    return {variable for box in region for variable in box}


def _contradiction_advice(one: Fact, other: Fact) -> str:
    if one.entry.effect is other.entry.effect is Effect.ALLOW:
        return "an action needs every allow to hold; join the two conditions with ||"
    return "whoever one of the two lets pass, the other removes; correct one condition or scope"


def _possible(facts: Facts, scoped: Scoped) -> Iterator[Diagnostic]:
    """Whether all rules together leave a case in which the action can be had, and on which channels."""
    located = facts.rules.catalogue
    assert located is not None  # an action is in it
    action = scoped.action
    gates = [fact for fact in facts.standing_gates(scoped) if fact.passes(action) != EVERYWHERE]
    permitted: Region = ({f"consents.{action.purpose}": Words(frozenset({"true"}))},)
    guilty = _guilty(permitted, gates, action)
    if guilty:
        message = f"no customer can ever get `{action.id}`, because of {_names([g.entry.id for g in guilty])}"
        advice = "correct one of the rules, or remove the action"
        yield located.problem((*scoped.path, "id"), codes.NEVER_POSSIBLE, message, advice)
        return
    blocked = {}
    for channel in dict.fromkeys(t.channel for t in action.treatments):
        here = meet_regions(permitted, ({"request.channel": Words(frozenset({channel}))},))
        blocked[channel] = _guilty(here, gates, action)
    yield from _blocked(located, scoped, blocked)


def _blocked(
    located: Located[CatalogueDocument], scoped: Scoped, blocked: dict[str, list[Fact]]
) -> Iterator[Diagnostic]:
    action = scoped.action
    advice = "correct one of the rules, or remove the treatment"
    if blocked and all(blocked.values()):
        who = dict.fromkeys(g.entry.id for guilty in blocked.values() for g in guilty)
        message = f"nobody can get `{action.id}` on any of its channels, because of {_names(list(who))}"
        yield located.problem((*scoped.path, "id"), codes.NO_CHANNEL, message, advice)
        return
    for i, treatment in enumerate(action.treatments):
        if guilty := blocked[treatment.channel]:
            message = f"`{treatment.id}` is never shown: {_names([g.entry.id for g in guilty])}"
            message += f" always removes `{action.id}` on {treatment.channel}"
            place = (*scoped.path, "treatments", i, "channel")
            yield located.problem(place, codes.TREATMENT_NEVER_SHOWN, message, advice)


def _guilty(start: Region, gates: Sequence[Fact], action: ActionEntry) -> list[Fact]:
    """Gates that together leave nothing of `start`, few of them; none where something is left.

    The gate at which nothing is left any more is one of them; with it in front the next one shows.
    """
    found: list[Fact] = []
    while True:
        region = start
        for gate in found:
            region = meet_regions(region, gate.passes(action))
        if not region:
            return sorted(found, key=gates.index)
        last = _last_straw(region, gates, action)
        if last is None or last in found:  # something is left, or regions were too many to be exact
            return found
        found.append(last)


def _last_straw(region: Region, gates: Sequence[Fact], action: ActionEntry) -> Fact | None:
    """The first gate at which nothing of a region is left."""
    for gate in gates:
        region = meet_regions(region, gate.passes(action))
        if not region:
            return gate
    return None


def _worth(facts: Facts, scoped: Scoped) -> Iterator[Diagnostic]:
    """Whether the priority can reach the threshold with a propensity of 1 and all that speaks for it."""
    catalogue, arbitration = facts.rules.catalogue, facts.rules.arbitration
    if catalogue is None or arbitration is None:
        return
    action = scoped.action
    active = [f for f in scoped.facts if f.entry.state == "active"]
    weight, shares, value = action.weight, 1.0, 0.0
    for fact in active:
        match fact.entry.effect:
            case Effect.WEIGHT:
                weight *= max(1.0, fact.amount)
            case Effect.LEVER:
                shares += max(0.0, fact.amount)
            case Effect.VALUE:
                value += max(0.0, fact.amount)
    best = max(0.0, max(action.value, value) - action.cost) * weight * shares
    threshold = arbitration.document.threshold
    if best < threshold:
        message = f"the priority of `{action.id}` is {best:g} at best, below the threshold of {threshold:g}"
        advice = "correct its value or cost, or the threshold of the arbitration"
        yield catalogue.problem((*scoped.path, "value"), codes.NEVER_WORTH_IT, message, advice)


def _unused_reasons(facts: Facts) -> Iterator[Diagnostic]:
    rules = facts.rules
    used = {*PLACEHOLDERS, *rules.model_reasons}
    written = [entry for pack in rules.policy_packs for entry in pack.document.rules]
    for entry in (*written, *rules.table_entries):
        used |= {code for code in (entry.reason, entry.otherwise) if code is not None}
    used |= {policy.reason for pack in rules.contact_packs for policy in pack.document.policies}
    for located in rules.reason_catalogues:
        for i, reason in enumerate(located.document.reasons):
            if reason.code not in used and (rules.model_reasons or not _is_for_models(reason)):
                message = f"nobody gives the reason `{reason.code}`"
                advice = "name it in a rule, or remove it"
                yield located.problem(("reasons", i, "code"), codes.UNUSED_REASON, message, advice)


def unused_names(declared: Iterable[Declared]) -> Iterator[Diagnostic]:
    """Constants, variables and segments that no condition names."""
    for found in declared:
        message = f"`{found.name}` is not used"
        yield found.yaml.problem(
            found.path, codes.UNUSED_NAME, message, "name it in a condition, or remove it", key=True
        )


def _is_for_models(reason: ReasonEntry) -> bool:
    """Whether the words are for a model's reason; which codes models give is not always known."""
    texts = [*reason.agent.values(), *reason.customer.values()]
    return any(f"{{{name}}}" in text for name in MODEL_PLACEHOLDERS for text in texts)


def _contact(facts: Facts) -> Iterator[Diagnostic]:
    """Contact policies that cannot limit: an exclusion of one action, a cap behind a stricter one."""
    placed = [
        (located, i, policy)
        for located in facts.rules.contact_packs
        for i, policy in enumerate(located.document.policies)
    ]
    for located, i, policy in placed:
        scope = facts.rules.in_scope(policy.applies_to)
        if policy.kind is ContactKind.EXCLUSION and sum(scope) == 1:
            message = f"`{policy.id}` excludes one action from itself, which limits nothing"
            yield _useless(located, i, message, "widen its scope, or use a cooldown")
    for (located, i, policy), (other_located, j, other) in combinations(placed, 2):
        if _is_behind(facts, policy, other):
            yield _useless(located, i, *_behind_words(policy, other))
        elif _is_behind(facts, other, policy):
            yield _useless(other_located, j, *_behind_words(other, policy))


def _useless(located: Located[ContactPackDocument], i: int, message: str, advice: str) -> Diagnostic:
    return located.problem(("policies", i, "id"), codes.POLICY_NEVER_LIMITS, message, advice)


def _behind_words(policy: ContactEntry, stricter: ContactEntry) -> tuple[str, str]:
    message = f"`{policy.id}` never limits first: `{stricter.id}` counts the same and is stricter"
    return message, "remove it, or make it the stricter one"


def _is_behind(facts: Facts, policy: ContactEntry, other: ContactEntry) -> bool:
    """Whether `other` forbids whatever `policy` does."""
    if ContactKind.EXCLUSION in (policy.kind, other.kind) or policy.per is not other.per:
        return False
    inside = zip(facts.rules.in_scope(policy.applies_to), facts.rules.in_scope(other.applies_to), strict=True)
    return (
        all(held for mine, held in inside if mine)
        and set(policy.counts) <= set(other.counts)
        and policy.window <= other.window
        and (policy.limit or 1) >= (other.limit or 1)
    )


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
