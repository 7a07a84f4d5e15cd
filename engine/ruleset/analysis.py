"""What is right in a rule set and yet cannot work. Everything said here holds for every customer.

Reasoning is by regions (`reasoning.py`): exact or too large, so something may be overlooked and nothing
is claimed wrongly.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Final

from engine.core.reasons import MODEL_PLACEHOLDERS, PLACEHOLDERS
from engine.core.rulebook import ContactKind
from engine.domain import Effect
from engine.ruleset import diagnostics as codes
from engine.ruleset.asof import Standing, share_an_instant, standing
from engine.ruleset.contradictions import contradictions, names
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
from engine.ruleset.regions import EVERYWHERE, Region, anything_left, is_exact, meet_regions
from engine.ruleset.values import Words
from feature_store.state import OutcomeType

MAX_STEPS: Final = 20_000
"""Steps in which a case must be found that all rules for an action let pass; some milliseconds."""
_FEWER: Final = "make several rules of it, with fewer alternatives each"
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
    yield from _too_many_cases(facts)


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


def _too_many_cases(facts: Facts) -> Iterator[Diagnostic]:
    """Conditions whose cases are too many to be looked at one by one; of a table's rows only the first."""
    tables: set[str] = set()
    for fact in facts.all:
        reaches = [fact.reach(action) for action in facts.actions_of(fact)]
        if all(is_exact(found.true) and is_exact(found.false) for found in reaches):
            continue
        what = "this condition has"
        if fact.of_table:
            table = fact.entry.id.rpartition(".")[0]  # rows have no dot in theirs
            if table in tables:
                continue
            tables.add(table)
            what = f"this and maybe other rows of `{table}` have"
        message = f"{what} too many cases to be analysed in full; what it contradicts may go unnoticed"
        yield fact.problem(codes.ANALYSED_IN_PART, message, _FEWER, "when")


def _windows(fact: Fact, actions: Sequence[ActionEntry]) -> Iterator[Diagnostic]:
    if not any(share_an_instant(fact.window, window(action.valid)) for action in actions):
        message = f"`{fact.entry.id}` is never valid when {names([a.id for a in actions])} is"
        yield fact.problem(
            codes.WINDOWS_NEVER_MEET, message, "correct one validity, or remove the rule", "valid"
        )


def whole_set(facts: Facts) -> Iterator[Diagnostic]:
    """What only rules together show; for sets without errors."""
    yield from contradictions(facts)
    interwoven: list[str] = []
    for scoped in facts.scoped:
        if facts.in_force(scoped.action.valid):
            yield from _possible(facts, scoped, interwoven)
            yield from _worth(facts, scoped)
    yield from _too_interwoven(facts, interwoven)
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


def _possible(facts: Facts, scoped: Scoped, interwoven: list[str]) -> Iterator[Diagnostic]:
    """Whether all rules together leave a case in which the action can be had, and on which channels.

    Where that cannot be found out, the action goes to `interwoven`.
    """
    located = facts.rules.catalogue
    assert located is not None  # an action is in it
    action = scoped.action
    gates = [fact for fact in facts.standing_gates(scoped) if fact.passes(action) != EVERYWHERE]
    permitted: Region = ({f"consents.{action.purpose}": Words(frozenset({"true"}))},)
    guilty = _guilty(permitted, gates, action)
    if guilty is None:
        interwoven.append(action.id)
        return
    if guilty:
        message = f"no customer can ever get `{action.id}`, because of {names([g.entry.id for g in guilty])}"
        advice = "correct one of the rules, or remove the action"
        yield located.problem((*scoped.path, "id"), codes.NEVER_POSSIBLE, message, advice)
        return
    blocked = {}
    for channel in dict.fromkeys(t.channel for t in action.treatments):
        here = meet_regions(permitted, ({"request.channel": Words(frozenset({channel}))},))
        blocked[channel] = _guilty(here, gates, action) or []
    yield from _blocked(located, scoped, blocked)


def _too_interwoven(facts: Facts, actions: Sequence[str]) -> Iterator[Diagnostic]:
    """Says of which actions it is not known whether their rules together leave a case."""
    located = facts.rules.catalogue
    if actions and located is not None:
        message = f"the rules for {names(actions)} are too interwoven to be analysed together"
        advice = "whether anybody can get them was not found out; narrow the scopes, or simplify the rules"
        yield located.problem(("actions",), codes.ANALYSED_IN_PART, message, advice)


def _blocked(
    located: Located[CatalogueDocument], scoped: Scoped, blocked: dict[str, list[Fact]]
) -> Iterator[Diagnostic]:
    action = scoped.action
    advice = "correct one of the rules, or remove the treatment"
    if blocked and all(blocked.values()):
        who = dict.fromkeys(g.entry.id for guilty in blocked.values() for g in guilty)
        message = f"nobody can get `{action.id}` on any of its channels, because of {names(list(who))}"
        yield located.problem((*scoped.path, "id"), codes.NO_CHANNEL, message, advice)
        return
    for i, treatment in enumerate(action.treatments):
        if guilty := blocked[treatment.channel]:
            message = f"`{treatment.id}` is never shown: {names([g.entry.id for g in guilty])}"
            message += f" always removes `{action.id}` on {treatment.channel}"
            place = (*scoped.path, "treatments", i, "channel")
            yield located.problem(place, codes.TREATMENT_NEVER_SHOWN, message, advice)


def _guilty(start: Region, gates: Sequence[Fact], action: ActionEntry) -> list[Fact] | None:
    """Gates that together leave nothing of `start`, few of them; none where something is left.

    None where that cannot be found out. The gate at which nothing is left any more is one of them; with
    it in front the next one shows.
    """

    def left(passed: Sequence[Fact]) -> bool | None:
        return anything_left([start, *(gate.passes(action) for gate in passed)], limit=MAX_STEPS)

    whole = left(gates)
    if whole is not False:
        return None if whole is None else []
    found: list[Fact] = []
    while left(found) is not False:
        taken = bisect_left(range(len(gates)), True, key=lambda n: left([*found, *gates[: n + 1]]) is False)
        if taken == len(gates) or gates[taken] in found:  # too many steps to be exact
            break
        found.append(gates[taken])
    return sorted(found, key=gates.index)


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
        if policy.kind is ContactKind.QUIET_HOURS and not _reach(facts, policy, scope):
            message = f"no action in the scope of `{policy.id}` is on its channels, so nothing is kept quiet"
            yield _useless(located, i, message, "correct its channels or its scope")
    for one, two in combinations(placed, 2):
        for (located, i, policy), (other_located, _, other) in ((one, two), (two, one)):
            if _is_behind(facts, (located.document, policy), (other_located.document, other)):
                yield _useless(located, i, *_behind_words(policy, other))
                break


def _reach(facts: Facts, policy: ContactEntry, scope: Sequence[bool]) -> bool:
    """Whether an action in scope has a treatment on a channel of the policy."""
    return any(
        held and (policy.channels is None or treatment.channel in policy.channels)
        for action, held in zip(facts.rules.actions, scope, strict=True)
        for treatment in action.treatments
    )


def _useless(located: Located[ContactPackDocument], i: int, message: str, advice: str) -> Diagnostic:
    return located.problem(("policies", i, "id"), codes.POLICY_NEVER_LIMITS, message, advice)


def _behind_words(policy: ContactEntry, stricter: ContactEntry) -> tuple[str, str]:
    message = f"`{policy.id}` never limits first: `{stricter.id}` counts the same and is stricter"
    return message, "remove it, or make it the stricter one"


_Placed = tuple[ContactPackDocument, ContactEntry]


def _is_behind(facts: Facts, one: _Placed, two: _Placed) -> bool:
    """Whether the second policy forbids whatever the first does."""
    (pack, policy), (other_pack, other) = one, two
    alike = policy.per is other.per and {policy.kind, other.kind} <= {ContactKind.CAP, ContactKind.COOLDOWN}
    if not alike or policy.counts is None or other.counts is None:
        return False
    if OutcomeType.RESERVED in policy.counts and pack.reserve_ms(policy) > other_pack.reserve_ms(other):
        return False
    inside = zip(facts.rules.in_scope(policy.applies_to), facts.rules.in_scope(other.applies_to), strict=True)
    return (
        all(held for mine, held in inside if mine)
        and set(policy.counts) <= set(other.counts)
        and (policy.window or 0) <= (other.window or 0)
        and (policy.limit or 1) >= (other.limit or 1)
    )
