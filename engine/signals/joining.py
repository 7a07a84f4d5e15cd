"""durable-rules as a pure function of facts: the only module that imports it, loaded in the worker alone.

The Host runs no threads of its own, so nothing touches a state while it is deleted. An evaluation gets an id
of its own and its state is deleted after it, so one state lives at a time: neither the 1,024 ids that a rule
set can hold nor their 32-bit hashes can matter.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from durable.engine import Host

from engine.signals.questions import READY, JoinFailed, Question, RuleSetPlan

_READY = {"n": READY}


class _SilentHost(Host):  # type: ignore[misc]  # the package has no types
    """A Host that starts no threads."""

    def _run(self) -> None:
        """Nothing runs but what is asked."""


@dataclass(slots=True)
class _Matches:
    """Spans that rules found since they were last taken, by node; and ends of root spans that stand."""

    spans: dict[int, dict[int, int]] = field(default_factory=dict)
    standing: list[int] = field(default_factory=list)
    failure: str = ""

    def take(self, node: int) -> list[Mapping[str, int]]:
        """Facts of a node: of the spans that end together only the shortest can matter."""
        return [{"n": node, "f": first, "l": last} for last, first in self.spans.pop(node, {}).items()]

    def add(self, node: int, first: int, last: int) -> None:
        """Notes a span."""
        shortest = self.spans.setdefault(node, {})
        shortest[last] = max(first, shortest.get(last, first))


class JoinEngine:
    """All rule sets of one version; built once, since building again leaks."""

    def __init__(self, plans: Sequence[RuleSetPlan]) -> None:
        self._plans = plans
        self._matches = _Matches()
        self._evaluations = 0
        self._host = _SilentHost()
        for number, plan in enumerate(plans):
            self._host.register_rulesets({str(number): self._with_actions(plan)})

    def answer(self, question: Question) -> int | None:
        """The end of the latest span for which the signal stands, in ms from now. Raises JoinFailed."""
        self._matches = _Matches()
        self._evaluations += 1
        sid, name = str(self._evaluations), str(question.signal)
        try:
            self._assert_levels(self._plans[question.signal], question, name, sid)
        finally:
            self._host.delete_state(name, sid)
        return max(self._matches.standing, default=None)

    def _assert_levels(self, plan: RuleSetPlan, question: Question, name: str, sid: str) -> None:
        told = 0
        facts: Iterable[Mapping[str, int]]
        for number, level in enumerate(plan.levels):
            facts = [f for node in level for f in self._of_node(plan, question, node)]
            if number == 0:
                facts = [_READY, question.latest, *facts]
            if not facts:
                continue
            batch = [{"sid": sid, "id": str(told + i), "o": 0, **fact} for i, fact in enumerate(facts)]
            told += len(batch)
            self._host.assert_facts(name, batch)
            if self._matches.failure:
                raise JoinFailed(self._matches.failure)

    def _of_node(self, plan: RuleSetPlan, question: Question, node: int) -> list[Mapping[str, int]]:
        facts = [*question.leaves.get(node, ()), *self._matches.take(node)]
        limit = plan.widest.get(node)
        return facts if limit is None else [f for f in facts if f["l"] - f["f"] < limit]

    def _with_actions(self, plan: RuleSetPlan) -> dict[str, Any]:
        definition = copy.deepcopy(dict(plan.definition))
        for rule, body in definition.items():
            body["run"] = _nothing if rule == "ready" else self._action(plan.joins.get(rule))
        return definition

    def _action(self, node: int | None) -> Any:  # noqa: ANN401  # what the package calls
        def found(closure: Any) -> None:  # noqa: ANN401  # the package has no types
            try:
                for facts in _matches_of(closure):
                    if node is None:
                        self._matches.standing.append(facts["a"]["l"])
                    else:
                        first = min(fact["f"] for fact in facts.values())
                        self._matches.add(node, first, max(fact["l"] for fact in facts.values()))
            except Exception as error:  # else swallowed into the engine's state
                self._matches.failure = repr(error)

        return found


def _nothing(closure: Any) -> None:  # noqa: ANN401  # the package has no types
    """The rule that only makes a state safe to delete."""


def _matches_of(closure: Any) -> Iterable[Mapping[str, Mapping[str, int]]]:  # noqa: ANN401  # untyped
    """Matches of one call: several where the rule hands over many at once."""
    if closure.m is not None and isinstance(closure.m, list):
        return [match._d for match in closure.m]
    return [closure._m]
