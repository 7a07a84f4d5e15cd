"""Whether a customer's decision is the same with another rule set, without making it a second time.

A decision depends on the customer, the moment and, of a rule set, on what is compared here. Where all of
that agrees, everything after it is computed from the same values: what is returned, in which order, with
which priority, and at which stage each other action falls. Words are not compared. What cannot be shown
to be the same counts as different; then the decision is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from engine.core import consent, policy
from engine.core.inputs import InputLayout
from engine.core.pipeline import Examination
from engine.core.policy import PolicyStage, Verdict
from engine.core.rulebook import (
    ConsentPolicy,
    ContactKind,
    ContactPolicy,
    Mask,
    PolicyProgram,
    PolicyRule,
    Rulebook,
)
from engine.core.snapshot import Snapshot
from engine.domain import Action, Decision, DecisionRequest, Effect, LegalBasis
from feature_store.state import CustomerState, OutcomeType

_PULLS: Final = frozenset({Effect.LEVER, Effect.WEIGHT, Effect.VALUE})
_Rows = npt.NDArray[np.intp]


class Sameness:
    """Two rule sets, and which decisions of the first are also those of the second."""

    def __init__(self, before: Snapshot, after: Snapshot) -> None:
        self._after = after
        self._stages = (
            _StagePair.of(before.before_scores, after.before_scores, after.rulebook),
            _StagePair.of(before.after_scores, after.after_scores, after.rulebook),
        )
        self._possible = _same_ground(before, after) and all(pair.same_order for pair in self._stages)
        self._same_consent = _channels_judged_alike(before.rulebook, after.rulebook)
        self._same_contact = _contact(before.rulebook.contact) == _contact(after.rulebook.contact)
        self._possible &= _unprompted(before.rulebook.contact) == _unprompted(after.rulebook.contact)

    def holds(
        self,
        request: DecisionRequest,
        state: CustomerState,
        *,
        now_ms: int,
        decision: Decision,
        examination: Examination,
    ) -> bool:
        """Whether the second set decides as the first did, whose decision and examination are given."""
        if not self._possible or (state.contacts and not self._same_contact):
            return False
        known_alike = request.channel in self._same_consent
        if not known_alike and not self._judged_alike(request, state, now_ms, decision):
            return False
        pairs = zip(self._stages, examination.verdicts, examination.judged, strict=True)
        return all(pair.says_the_same(verdict, alive) for pair, verdict, alive in pairs)

    def _judged_alike(
        self, request: DecisionRequest, state: CustomerState, now_ms: int, decision: Decision
    ) -> bool:
        rules = self._after.rulebook.consent
        judged = consent.judge_request(rules, request, state, now_ms=now_ms)
        return tuple(judged.values()) == decision.consents


@runtime_checkable
class Divisible(Protocol):
    """A program whose rules can be compared with another's and run alone; any other is run as a whole."""

    def means_the_same(self, row: int, other: Any, other_row: int) -> bool:  # noqa: ANN401  # of its own type
        """Whether two rules have the same condition."""
        ...

    def only(self, rows: Sequence[int]) -> PolicyProgram:
        """The program of some of the rules, in their order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _StagePair:
    """The rules of one stage in both sets, without those that are the same to the last sign.

    `changed` are rules that differ in their condition alone: their rows in the first set's program and in
    `after`, the part of the second's that is left. `alone` are the rows of rules the other set lacks.
    """

    after: PolicyStage
    changed: tuple[_Rows, _Rows]
    alone: tuple[_Rows, _Rows]
    same_order: bool  # of the rules that pull: the order in which their amounts are added up

    @classmethod
    def of(cls, before: PolicyStage, after: PolicyStage, rulebook: Rulebook) -> _StagePair:
        was, now = _rows_by_rule(before), _rows_by_rule(after)
        both = [key for key in was if key in now]
        pulling = [now[key] for key in both if before.rules[was[key]].effect in _PULLS]
        changed = [key for key in both if not _same_condition(before, was[key], after, now[key])]
        alone = [row for key, row in now.items() if key not in was]
        rest, place = _part(after, sorted([*alone, *(now[key] for key in changed)]), rulebook)
        return cls(
            after=rest,
            changed=(_places(was[key] for key in changed), _places(place[now[key]] for key in changed)),
            alone=(
                _places(row for key, row in was.items() if key not in now),
                _places(place[row] for row in alone),
            ),
            same_order=pulling == sorted(pulling),
        )

    def says_the_same(self, said: Verdict, alive: Mask) -> bool:
        """Whether the second set's rules do to every action of `alive` what the first's did."""
        if len(self.alone[0]) and _does_something(said, self.alone[0], alive):
            return False
        if not self.after.rules:
            return True
        says = policy.evaluate(self.after, said.inputs)
        was, now = self.changed
        differs = said.truths[was] != says.truths[now]
        if differs.any() and (differs & said.applies[was] & alive).any():
            return False
        return not (len(self.alone[1]) and _does_something(says, self.alone[1], alive))


def _same_condition(before: PolicyStage, row: int, after: PolicyStage, other_row: int) -> bool:
    one, two = before.program, after.program
    if not isinstance(one, Divisible) or type(one) is not type(two):
        return False
    return one.means_the_same(row, two, other_row)


def _part(
    stage: PolicyStage, rows: Sequence[int], rulebook: Rulebook
) -> tuple[PolicyStage, Mapping[int, int]]:
    """The stage with some of its rules only, or as it is, and where each row stands in that."""
    program = stage.program
    if not isinstance(program, Divisible):
        return stage, {row: row for row in range(len(stage.rules))}
    return policy.prepare(program.only(rows), rulebook), {row: place for place, row in enumerate(rows)}


def _does_something(verdict: Verdict, rows: _Rows, alive: Mask) -> bool:
    """Whether one of these rules, where it is enforced, removes or pulls an action of `alive`."""
    removes = verdict.removals(alive) & verdict.stage.enforced
    return bool((removes | (verdict.held(told=False) & alive))[rows].any())


def _places(rows: Iterable[int]) -> _Rows:
    return np.fromiter(rows, dtype=np.intp)


def _rows_by_rule(stage: PolicyStage) -> dict[tuple[object, ...], int]:
    """The row of every rule, by all that it does besides its condition."""
    scopes = stage.program.scope
    return {_doing(rule, scopes[row]): row for row, rule in enumerate(stage.rules)}


def _doing(rule: PolicyRule, scope: Mask) -> tuple[object, ...]:
    validity = rule.valid_from_ms, rule.valid_to_ms
    return rule.id, rule.policy_class, rule.effect, rule.amount, rule.shadow, validity, scope.tobytes()


def _same_ground(before: Snapshot, after: Snapshot) -> bool:
    """Whether everything besides rules, consent and contact is the same: features, models, actions, cut."""
    was, now = before.rulebook, after.rulebook
    return (
        before.schema.digest == after.schema.digest
        and before.versions.models == after.versions.models
        and _places_of_inputs(before.layout) == _places_of_inputs(after.layout)
        and was.consent.profiling_purpose == now.consent.profiling_purpose
        and was.arbitration == now.arbitration
        and list(map(_wordless, was.actions)) == list(map(_wordless, now.actions))
        and np.array_equal(before.judged_by_churn, after.judged_by_churn)
        and _exclusions(was.contact) == _exclusions(now.contact)
    )


def _channels_judged_alike(was: Rulebook, now: Rulebook) -> frozenset[str]:
    """The channels on which every purpose has the same legal basis in both, and the same signals object."""
    if was.consent.gpc_purposes != now.consent.gpc_purposes:
        return frozenset()
    channels = was.vocabulary.channels.keys() & now.vocabulary.channels.keys()
    return frozenset(c for c in channels if _bases(was.consent, c) == _bases(now.consent, c))


def _bases(policy: ConsentPolicy, channel: str) -> list[tuple[str, LegalBasis]]:
    return [(p.purpose, p.channel_basis.get(channel, p.basis)) for p in policy.purposes.values()]


def _places_of_inputs(layout: InputLayout) -> tuple[object, ...]:
    vocabulary = layout.vocabulary
    return vocabulary.inputs, tuple(vocabulary.context), vocabulary.signals, layout.purposes


def _wordless(action: Action) -> Action:
    """The action without its words, which decide nothing."""
    bare = tuple(replace(t, headline=_NO_WORDS, body=_NO_WORDS, template_id="") for t in action.treatments)
    return replace(action, name=_NO_WORDS, treatments=bare)


_NO_WORDS: Final[Mapping[str, str]] = {}


def _contact(policies: Sequence[ContactPolicy]) -> list[tuple[object, ...]]:
    return [
        (p.id, p.kind, p.per, p.counts, p.limit, p.window_ms, p.reserve_ms, p.quiet, p.scope.tobytes())
        for p in policies
    ]


def _unprompted(policies: Sequence[ContactPolicy]) -> list[tuple[object, ...]]:
    """What limits also a customer without contacts: local hours, budgets that all customers share, and
    limits that count what the very decision returns.
    """
    standing = (ContactKind.QUIET_HOURS, ContactKind.BUDGET)
    return _contact([p for p in policies if p.kind in standing or OutcomeType.RESERVED in p.counts])


def _exclusions(policies: Sequence[ContactPolicy]) -> list[bytes]:
    """Scopes of which one decision returns one action only, whatever happened before."""
    return [p.scope.tobytes() for p in policies if p.kind is ContactKind.EXCLUSION]
