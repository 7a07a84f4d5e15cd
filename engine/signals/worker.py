"""The process that durable-rules runs in: answers questions until its pipe closes."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection

from engine.signals.questions import Question, RuleSetPlan

_STDOUT, _STDERR = 1, 2


def run(connection: Connection, plans: Sequence[RuleSetPlan]) -> None:
    """Builds the rule sets, says so, and answers each of a list of questions with an end."""
    from engine.signals.joining import JoinEngine  # durable-rules is loaded in this process only

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    os.dup2(_STDERR, _STDOUT)  # the C code prints; stdout belongs to the parent
    engine = JoinEngine(plans)
    connection.send(len(plans))
    while True:
        try:
            questions: list[Question] = connection.recv()
        except EOFError:
            return
        for question in questions:
            connection.send(engine.answer(question))
