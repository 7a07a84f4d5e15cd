"""Evaluates expressions against one customer: what `arbiter rules repl` answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.core.snapshot import Snapshot
from engine.domain import Action, DecisionRequest
from engine.ruleset.definitions import authored_of, language_of
from engine.ruleset.diagnostics import did_you_mean
from engine.ruleset.kinds import Kind
from engine.ruleset.lowering import Problem
from engine.ruleset.trace import Situation, Tracer, render_trace, shown_value
from engine.suites.recording import Record, record_decision
from feature_store.state import CustomerState

HELP = """\
An expression is evaluated for the customer, e.g.  features.tenure_months >= 12 && !signals.cancel_intent
:action ID   ask about this action from now on (action.value, scores.propensity, ...)
:inputs      every input and its value
:help        this text
:quit        the end, like Ctrl-D"""


class Question:
    """One customer in one moment, ready to be asked.

    `file` is whose constants and variables count; without one the first, as each file knows all segments.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        request: DecisionRequest,
        state: CustomerState,
        *,
        now_ms: int,
        file: str = "",
    ) -> None:
        self._record: Record = record_decision(snapshot, request, state, now_ms=now_ms)
        self._actions: Mapping[str, Action] = {a.id: a for a in snapshot.catalogue.actions}
        self._kinds = {i.name: Kind(i.type.value) for i in snapshot.rulebook.vocabulary.inputs}
        self._file = file or next(iter(authored_of(snapshot.rulebook).languages), "")
        self._language = language_of(snapshot.rulebook, self._file)
        self._tracer = Tracer.of(snapshot.rulebook)
        self._action: Action | None = None

    def answer(self, line: str) -> str:
        """The answer to one line: a tree of values, a mistake with its place, or what a command says."""
        text = line.strip()
        if not text.startswith(":"):
            return self.evaluate(text) if text else ""
        command, _, argument = text.partition(" ")
        match command:
            case ":action":
                return self.look_at(argument.strip())
            case ":inputs":
                return self.inputs()
            case ":help":
                return HELP
            case _:
                return f"unknown command {command}\n{HELP}"

    def evaluate(self, text: str) -> str:
        """The tree of values of an expression, or everything that is wrong with it."""
        problems = self.problems(text)
        if problems:
            return "\n".join(_told(text, problem) for problem in problems)
        return "\n".join(render_trace(self._tracer.trace(text, self._situation(), file=self._file)))

    def problems(self, text: str) -> tuple[Problem, ...]:
        """What is wrong with an expression."""
        return self._language.meaning(text, condition=False).problems

    def look_at(self, action_id: str) -> str:
        """Asks about an action from now on; no id asks about none."""
        if action_id and action_id not in self._actions:
            return f"unknown action `{action_id}`; {did_you_mean(action_id, self._actions)}"
        self._action = self._actions.get(action_id)
        return f"about {action_id}" if action_id else "about no action"

    def inputs(self) -> str:
        """Every input and its value, a line each."""
        situation = self._situation()
        lines = []
        for name, kind in self._kinds.items():
            value = situation.values.get(name)
            cause = situation.causes.get(name, "absent")
            lines.append(f"{name} = {f'missing ({cause})' if value is None else shown_value(value, kind)}")
        return "\n".join(lines)

    def _situation(self) -> Situation:
        situation = self._record.last_situation(self._action)
        return replace(situation, values={k: v for k, v in situation.values.items() if v is not None})


def _told(text: str, problem: Problem) -> str:
    line_start = text.rfind("\n", 0, problem.offset) + 1
    line = text[line_start:].split("\n", 1)[0]
    caret = " " * (problem.offset - line_start) + "^"
    words = [f"{problem.code} {problem.message}", f"    {line}", f"    {caret}"]
    return "\n".join([*words, f"    {problem.advice}"] if problem.advice else words)
