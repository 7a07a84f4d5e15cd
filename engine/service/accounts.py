"""Why, why not and what if, for the actions of one logged decision: findings, traces and places together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.core.change import Case, Grounds, NumberRange
from engine.core.counterfactual import WhatIf, what_if
from engine.core.inputs import PROPENSITY_SCORE
from engine.core.pipeline import Examination, examine
from engine.core.rulebook import Rulebook, SourcePosition
from engine.core.snapshot import Snapshot
from engine.core.whynot import ActionFindings, RuleFinding, findings
from engine.decisionlog.record import DecisionRecord
from engine.domain import Action
from engine.ruleset.comparisons import compared_literals
from engine.ruleset.sources import RuleSources
from engine.ruleset.trace import RulePlaces, Situation, Trace, Tracer, shown_value

NOT_SCORED = "not scored"

SourcesOf = Callable[[str], RuleSources | None]
"""The files of a rule set by its version; None where they are no longer held."""
RangesOf = Callable[[Mapping[str, int]], Mapping[str, NumberRange]]
"""Where numbers lie among customers, by input name, from the references of model versions."""


@dataclass(frozen=True, slots=True)
class SubCondition:
    """A part of a condition, where it is written, and the value it had; `missing` says why it had none."""

    text: str
    position: SourcePosition | None
    value: str
    missing: str
    parts: tuple[SubCondition, ...]


@dataclass(frozen=True, slots=True)
class RuleAccount:
    """One rule that judged the action, with its condition taken apart; None where that is not possible."""

    finding: RuleFinding
    condition: SubCondition | None


@dataclass(frozen=True, slots=True, eq=False)
class ActionAccount:
    """One action's way through the decision; `what_if` only where one action was asked for."""

    found: ActionFindings
    rules: tuple[RuleAccount, ...]
    what_if: WhatIf | None


@dataclass(frozen=True, slots=True, eq=False)
class RuleReader:
    """What explains the rules of one version: their parts, their places, what they compare."""

    tracer: Tracer
    places: RulePlaces | None
    grounds: Grounds


def read_rules(
    rulebook: Rulebook, sources: RuleSources | None, ranges: Mapping[str, NumberRange]
) -> RuleReader:
    """Prepares the explanations of a rule set; `sources` None leaves out the places inside conditions."""
    rules = (*rulebook.before_scores.rules, *rulebook.after_scores.rules)
    tracer = Tracer.of(rulebook)
    conditions = []
    for rule in rules:
        try:
            conditions.append(tracer.outline(rule.condition, file=rule.position.file).node)
        except ValueError:  # only this rule goes without its parts
            continue
    reads = frozenset(name for rule in rules for name in rule.reads)
    grounds = Grounds(reads, compared_literals(conditions), ranges)
    files = {rule.position.file for rule in rules}
    held = {file: text for file, text in (sources or {}).items() if file in files}
    return RuleReader(tracer, RulePlaces(RuleSources(held)) if held else None, grounds)


@dataclass(slots=True)
class Accounts:
    """Makes the accounts of one decision."""

    snapshot: Snapshot
    record: DecisionRecord
    reader: RuleReader
    examined: Examination = field(init=False)
    case: Case = field(init=False)

    def __post_init__(self) -> None:
        record = self.record
        self.case = Case(record.request, record.state, record.supplied)
        self.examined = examine(self.snapshot, record.request, record.state, now_ms=record.now_ms)

    def of_action(self, action_id: str) -> ActionAccount:
        """One action in full: every rule that judged it, and what would have changed its fate."""
        found = self._found(self._action(action_id))
        changed = what_if(
            self.snapshot,
            self.case,
            action=found.action,
            decision=self.record.decision,
            grounds=self.reader.grounds,
            now_ms=self.record.now_ms,
        )
        return ActionAccount(found, self._rules(found.rules, found.action), changed)

    def of_all(self) -> tuple[ActionAccount, ...]:
        """Every action in catalogue order with the rules that removed or moved it, without what-if."""
        known = {a.action_id for a in self.record.decision.actions}
        known |= {s.action_id for s in self.record.decision.suppressed}
        return tuple(self._short(self._found(a)) for a in self.snapshot.rulebook.actions if a.id in known)

    def _short(self, found: ActionFindings) -> ActionAccount:
        telling = [f for f in found.rules if f.removes or f.pulls]
        return ActionAccount(found, self._rules(telling, found.action), None)

    def _found(self, action: Action) -> ActionFindings:
        return findings(
            self.snapshot,
            self.case,
            self.examined,
            action=action,
            decision=self.record.decision,
            now_ms=self.record.now_ms,
        )

    def _action(self, action_id: str) -> Action:
        return next(a for a in self.snapshot.rulebook.actions if a.id == action_id)

    def _rules(self, found: Sequence[RuleFinding], action: Action) -> tuple[RuleAccount, ...]:
        situation = self._situation(action)
        return tuple(self._rule(finding, situation) for finding in found)

    def _rule(self, finding: RuleFinding, situation: Situation) -> RuleAccount:
        rule = finding.rule
        try:
            trace = self.reader.tracer.trace_rule(rule, situation)
        except ValueError:  # see read_rules
            return RuleAccount(finding, None)
        return RuleAccount(finding, self._part(rule.id, trace))

    def _part(self, rule_id: str, trace: Trace) -> SubCondition:
        places = self.reader.places
        here = None if places is None else places.of(rule_id, trace.offset)
        return SubCondition(
            text=trace.text,
            position=trace.position or here,
            value="" if trace.value is None else shown_value(_rounded(trace.value), trace.kind),
            missing=trace.missing,
            parts=tuple(self._part(rule_id, part) for part in trace.parts),
        )

    def _situation(self, action: Action) -> Situation:
        """What a condition saw of the customer and one action."""
        inputs, snapshot = self.examined.inputs, self.snapshot
        frame = inputs.frame
        declared = snapshot.rulebook.vocabulary.inputs
        values = {item.name: value for item, value in zip(declared, frame.values, strict=True)}
        causes = {item.name: str(inputs.cause(place)) for place, item in enumerate(declared)}
        index = snapshot.rulebook.actions.index(action)
        scored = None if frame.propensity is None else float(frame.propensity[index])
        values[PROPENSITY_SCORE] = None if scored is None or scored != scored else scored
        causes[PROPENSITY_SCORE] = NOT_SCORED if inputs.profiled else str(inputs.unprofiled)
        return Situation(values, frame.now_ms, action, causes)


def _rounded(value: object) -> object:
    """Enough digits to see on which side of a literal a number lies, not more."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
