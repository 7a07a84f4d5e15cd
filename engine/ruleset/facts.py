"""What the analysis knows of a rule set: every rule with where its condition can be true and false."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.domain import Effect
from engine.ruleset.asof import Standing, share_an_instant, standing
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.documents import ActionEntry, RuleEntry, Validity
from engine.ruleset.expression import Literal, Node, columns
from engine.ruleset.reasoning import Reach, reach
from engine.ruleset.regions import Region
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.yamltree import Path, YamlDocument

Window = tuple[int | None, int | None]


@dataclass(slots=True)
class Fact:
    """One rule that is right. `place` and the like say where to speak of it."""

    entry: RuleEntry
    node: Node
    amount: float
    yaml: YamlDocument
    path: Path  # of the rule; () for a row of a CSV file
    position: tuple[int, int]
    of_table: bool
    domains: Mapping[str, Sequence[str]]
    columns: tuple[str, ...] = ()  # fields of the action the condition reads
    _reach: dict[tuple[object, ...], Reach] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = columns(self.node)

    @property
    def window(self) -> Window:
        """When the rule is valid."""
        return window(self.entry.valid)

    def problem(self, code: str, message: str, advice: str = "", at: str = "") -> Diagnostic:
        """A diagnostic at a field of the rule, or at its row."""
        if self.of_table:
            return self.yaml.at(*self.position, code, message, advice)
        return self.yaml.problem((*self.path, at) if at else self.path, code, message, advice)

    def reach(self, action: ActionEntry) -> Reach:
        """Where the condition can be true and false for an action."""
        key = tuple(getattr(action, column) for column in self.columns)
        if key not in self._reach:
            self._reach[key] = reach(self.node, self.domains, action if self.by_action else None)
        return self._reach[key]

    @property
    def by_action(self) -> bool:
        """Whether the truth may differ between actions."""
        return bool(self.columns)

    @property
    def is_constant(self) -> bool:
        """Whether the author wrote `true` or `false` and meant it."""
        return isinstance(self.node, Literal)

    @property
    def is_gate(self) -> bool:
        """Whether the rule can remove an action today."""
        return self.entry.effect in (Effect.ALLOW, Effect.DENY) and self.entry.state == "active"

    def passes(self, action: ActionEntry) -> Region:
        """Where the gate lets an action pass."""
        found = self.reach(action)
        return found.true if self.entry.effect is Effect.ALLOW else found.false


@dataclass(frozen=True, slots=True)
class Scoped:
    """An action and the rules that are for it."""

    action: ActionEntry
    path: Path
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """All rules that are right, and for every action those in whose scope it is."""

    rules: RuleSet
    all: tuple[Fact, ...]
    scoped: tuple[Scoped, ...]
    at_ms: int | None  # as of when; None: at any time

    def actions_of(self, fact: Fact) -> list[ActionEntry]:
        """Actions in scope of a rule."""
        inside = self.rules.in_scope(fact.entry.applies_to)
        return [action for action, held in zip(self.rules.actions, inside, strict=True) if held]

    def in_force(self, validity: Validity) -> bool:
        """Whether something is in force as of the instant asked about; anything is where none is."""
        now = self.at_ms
        return now is None or standing(validity.from_ms, validity.to_ms, now) is Standing.IN_FORCE

    def gates(self, scoped: Scoped) -> Iterator[Fact]:
        """Gates that an action meets at some instant of its validity."""
        for fact in scoped.facts:
            meets = share_an_instant(fact.window, window(scoped.action.valid))
            if fact.is_gate and meets and self.in_force(fact.entry.valid):
                yield fact

    def standing_gates(self, scoped: Scoped) -> Iterator[Fact]:
        """Gates that an action meets at every instant of its validity."""
        for fact in self.gates(scoped):
            if self.at_ms is not None or _covers(fact.window, window(scoped.action.valid)):
                yield fact


def gather(rules: RuleSet, found: Sequence[Fact], at_ms: int | None) -> Facts:
    """Sorts rules by the actions they are for."""
    for_action: list[list[Fact]] = [[] for _ in rules.actions]
    for fact in found:
        for place, inside in enumerate(rules.in_scope(fact.entry.applies_to)):
            if inside:
                for_action[place].append(fact)
    scoped = tuple(
        Scoped(action, ("actions", i), tuple(facts))
        for i, (action, facts) in enumerate(zip(rules.actions, for_action, strict=True))
    )
    return Facts(rules, tuple(found), scoped, at_ms)


def window(validity: Validity) -> Window:
    """A validity as a half-open window."""
    return validity.from_ms, validity.to_ms


def _covers(outer: Window, inner: Window) -> bool:
    starts = outer[0] is None or (inner[0] is not None and outer[0] <= inner[0])
    ends = outer[1] is None or (inner[1] is not None and outer[1] >= inner[1])
    return starts and ends
