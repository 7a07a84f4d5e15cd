"""Which rules, and which branches of their conditions, the cases have seen.

Only what could matter counts: a rule that is asked about an action already removed is not seen.
A rule is covered when it has held and has not held; a branch is an atomic truth of a condition, such as
one comparison, seen true, or seen false.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.core.rulebook import PolicyRule, Rulebook, SourcePosition
from engine.ruleset.outline import Part
from engine.ruleset.trace import RulePlaces, Trace, Tracer
from engine.suites.recording import TRUE, Asked, Record


@dataclass(frozen=True, slots=True)
class Branch:
    """One atomic truth of a rule's condition, and its place."""

    rule_id: str
    text: str
    position: SourcePosition
    seen: frozenset[bool]

    @property
    def missed(self) -> tuple[bool, ...]:
        """The values never seen."""
        return tuple(value for value in (True, False) if value not in self.seen)


@dataclass(frozen=True, slots=True)
class RuleCoverage:
    """What was seen of one rule."""

    rule: PolicyRule
    position: SourcePosition
    held: bool
    not_held: bool
    branches: tuple[Branch, ...]

    @property
    def missed(self) -> int:
        """How many of the rule's outcomes and branches were never seen."""
        return 2 - self.held - self.not_held + sum(len(b.missed) for b in self.branches)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all rules. Shares are percentages; 100 where there is nothing to see."""

    rules: int
    rules_held: int
    rules_covered: int
    branches: int
    branches_seen: int

    @property
    def rule_percent(self) -> float:
        """Rules seen to hold and not to hold."""
        return 100.0 * self.rules_covered / self.rules if self.rules else 100.0

    @property
    def branch_percent(self) -> float:
        """Branches seen."""
        return 100.0 * self.branches_seen / self.branches if self.branches else 100.0

    @property
    def percent(self) -> float:
        """The smaller of both shares: what a threshold is held against."""
        return min(self.rule_percent, self.branch_percent)


@dataclass(slots=True)
class _Seen:
    outcomes: set[bool] = field(default_factory=set)
    atoms: dict[int, set[bool]] = field(default_factory=dict)  # by place among the rule's atoms


class Coverage:
    """Adds up what records have seen of a rulebook's rules."""

    def __init__(self, rulebook: Rulebook, tracer: Tracer, places: RulePlaces) -> None:
        rules = (*rulebook.before_scores.rules, *rulebook.after_scores.rules)
        self._rules = tuple(sorted(rules, key=lambda r: (r.position.file, r.position.line)))
        self._tracer = tracer
        self._places = places
        self._seen = {rule.id: _Seen() for rule in self._rules}

    def add(self, recorded: Record) -> None:
        """Adds what one decision has seen."""
        for asked in recorded.asked:
            seen = self._seen[asked.rule.id]
            seen.outcomes.add(asked.truth == TRUE)
            if not self._is_complete(asked, seen):
                trace = self._traced(asked, recorded)
                for place, atom in enumerate(trace.atoms()):
                    if isinstance(atom.value, bool):
                        seen.atoms.setdefault(place, set()).add(atom.value)

    def _traced(self, asked: Asked, recorded: Record) -> Trace:
        rule = asked.rule
        return self._tracer.trace(rule.condition, recorded.situation(asked), file=rule.position.file)

    def _is_complete(self, asked: Asked, seen: _Seen) -> bool:
        atoms = self._atoms(asked.rule)
        return len(seen.atoms) == len(atoms) and all(len(values) == 2 for values in seen.atoms.values())

    def _atoms(self, rule: PolicyRule) -> tuple[Part, ...]:
        return tuple(self._tracer.outline(rule.condition, file=rule.position.file).atoms())

    def rules(self) -> Iterator[RuleCoverage]:
        """Every rule, in the order of files."""
        for rule in self._rules:
            seen = self._seen[rule.id]
            branches = tuple(
                Branch(rule.id, atom.text, self._place(rule, atom.offset), frozenset(seen.atoms.get(i, ())))
                for i, atom in enumerate(self._atoms(rule))
            )
            yield RuleCoverage(rule, rule.position, True in seen.outcomes, False in seen.outcomes, branches)

    def _place(self, rule: PolicyRule, offset: int) -> SourcePosition:
        return self._places.of(rule.id, offset) or rule.position

    def totals(self) -> Totals:
        """Sums over all rules."""
        rules = list(self.rules())
        return Totals(
            rules=len(rules),
            rules_held=sum(r.held for r in rules),
            rules_covered=sum(r.held and r.not_held for r in rules),
            branches=sum(2 * len(r.branches) for r in rules),
            branches_seen=sum(len(b.seen) for r in rules for b in r.branches),
        )
