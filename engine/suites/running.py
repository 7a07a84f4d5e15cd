"""Runs cases: decides, holds the decision to the expectations, traces what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from engine.core.rulebook import SourcePosition
from engine.core.scoring import Scorer
from engine.core.snapshot import Snapshot
from engine.domain import Decision, Effect
from engine.ruleset.trace import RulePlaces, Trace, Tracer
from engine.suites.cases import ConcreteCase
from engine.suites.coverage import Coverage
from engine.suites.judging import Difference, judge
from engine.suites.recording import FALSE, TRUE, Asked, Record, record
from engine.suites.scores import TableScorer

MAX_TRACED = 12
"""Rules traced for one failing case; more hide the answer."""


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """What one rule saw when it decided on an action of a failing case."""

    rule_id: str
    action_id: str
    effect: Effect
    position: SourcePosition
    trace: Trace


@dataclass(frozen=True, slots=True)
class Result:
    """A case that ran: it holds where there are no differences."""

    case: ConcreteCase
    decision: Decision
    differences: tuple[Difference, ...]
    traces: tuple[RuleTrace, ...]

    @property
    def holds(self) -> bool:
        """Whether everything expected is so."""
        return not self.differences


class SuiteRun:
    """Runs cases against one snapshot and adds up what they cover."""

    def __init__(self, snapshot: Snapshot, places: RulePlaces, champion: Callable[[], Scorer]) -> None:
        self._snapshot = snapshot
        self._places = places
        self._load_champion = champion
        self._tracer = Tracer.of(snapshot.rulebook)
        self.coverage = Coverage(snapshot.rulebook, self._tracer, places)

    @cached_property
    def _champion(self) -> Scorer:
        return self._load_champion()

    def run(self, cases: Sequence[ConcreteCase]) -> list[Result]:
        """The results in order."""
        return [self._run(case) for case in cases]

    def _run(self, case: ConcreteCase) -> Result:
        facts = case.facts
        actions = self._snapshot.catalogue.actions
        table = TableScorer(actions=actions, churn=facts.churn, propensity=facts.propensity)
        recorded = record(self._snapshot, facts, self._champion if case.champion else table)
        self.coverage.add(recorded)
        differences = tuple(d for expect in case.expectations for d in judge(recorded.decision, expect))
        traces = tuple(self._traces(recorded, differences)) if differences else ()
        return Result(case, recorded.decision, differences, traces)

    def _traces(self, recorded: Record, differences: Sequence[Difference]) -> Iterator[RuleTrace]:
        shown: dict[tuple[str, str], Asked] = {}
        for difference in differences:
            for action in difference.actions:
                for asked in _telling(list(recorded.of_action(action)), difference.codes):
                    shown[asked.rule.id, action] = asked
        for (rule_id, action), asked in list(shown.items())[:MAX_TRACED]:
            trace = self._tracer.trace_rule(asked.rule, recorded.situation(asked))
            position = self._places.of(rule_id) or asked.rule.position
            yield RuleTrace(rule_id, action, asked.rule.effect, position, trace)


def _telling(asked: Sequence[Asked], codes: Sequence[str]) -> list[Asked]:
    """The rules that explain an action's fate: those that removed it, else those that pulled.

    Rules that could have given an expected reason come with them.
    """
    removing = [a for a in asked if _removes(a)]
    decided = removing or [
        a for a in asked if a.rule.effect not in (Effect.ALLOW, Effect.DENY) and a.truth == TRUE
    ]
    expected = [a for a in asked if {a.rule.reason, a.rule.otherwise} & set(codes) and a not in decided]
    return [*decided, *expected]


def _removes(asked: Asked) -> bool:
    if asked.rule.shadow:
        return False
    if asked.rule.effect is Effect.ALLOW:
        return asked.truth != TRUE
    return asked.rule.effect is Effect.DENY and asked.truth != FALSE


def chosen(cases: Sequence[ConcreteCase], wanted: str) -> list[ConcreteCase]:
    """Cases whose id holds `wanted`, or matches it where it has * or ?; letter case does not matter."""
    text = wanted.lower()
    if not any(sign in text for sign in "*?"):
        return [case for case in cases if text in case.id.lower()]
    return [case for case in cases if fnmatchcase(case.id.lower(), f"*{text}*")]
