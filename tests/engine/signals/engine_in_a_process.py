"""Builds and asks many small rule sets in one process, where a crash does not take the tests along.

Questions and answers travel by a pipe, one signal at a time.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection

from signal_examples import NOW_MS

from engine.signals.facts import latest_fact, leaf_facts
from engine.signals.history import recent
from engine.signals.joining import JoinEngine
from engine.signals.patterns import Event, SignalPattern
from engine.signals.program import compile_signal
from engine.signals.questions import Question, RuleSetPlan


def serve(connection: Connection) -> None:
    """Answers (signal, events) with the end of the latest span, until told None."""
    while (asked := connection.recv()) is not None:
        signal, events = asked
        program = compile_signal(signal)
        history = recent(events, types=("login", "payment", "call"), now_ms=NOW_MS)
        question = Question(0, leaf_facts(program, history, NOW_MS), latest_fact(program, history, NOW_MS))
        plan = RuleSetPlan(program.definition, program.levels, program.joins, program.widest)
        connection.send(JoinEngine([plan]).answer(question))


class Asked:
    """A process that durable-rules answers from."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def end_of(self, signal: SignalPattern, events: Sequence[Event]) -> int | None:
        """When the signal began to stand, in ms from now; None where it does not."""
        self._connection.send((signal, list(events)))
        assert self._connection.poll(30), "durable-rules hangs"
        end: int | None = self._connection.recv()
        return end

    def stop(self) -> None:
        """Ends the process."""
        self._connection.send(None)
        self._process.join()
        self._connection.close()
        self._process.close()
