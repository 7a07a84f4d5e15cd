"""Signals of a customer as a pure function of recent events and now, computed by durable-rules in a worker.

The worker is a process of its own, because durable-rules can crash or hang it: one that dies is replaced and
asked again, one that does not answer in time is killed, replaced and not asked again. It is also replaced
after a number of evaluations, before what the engine leaks could matter. A new version of the rules is a new
evaluator. Safe to share between threads, which take turns.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Final

import structlog

from engine.signals import worker
from engine.signals.errors import SignalsUnavailable
from engine.signals.facts import latest_fact, leaf_facts
from engine.signals.history import recent
from engine.signals.patterns import Event, SignalPatterns
from engine.signals.program import SignalProgram, compile_signal
from engine.signals.questions import Question, RuleSetPlan
from feature_store.state import Signal

_log = structlog.get_logger("engine.signals")

TIME_LIMIT_S: Final = 5.0
"""For one question. A join of 512 events with themselves takes 0.6 s on a busy machine, one of ten 0.1 ms."""
START_LIMIT_S: Final = 30.0
RECYCLE_AFTER: Final = 200_000
"""Questions to one worker. Memory stays flat over 10,000 (a test looks); this is for what that misses."""
_BATCH: Final = 200
"""Questions sent at once, so that waking the worker costs little."""
Customer = tuple[str, Sequence[Event]]


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    answered: int = 0

    def stop(self) -> None:
        """Ends the process whatever it does."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.process.close()


class SignalEvaluator:
    """Evaluates one version of a rule set's signals. Close it, or use it in a `with` block.

    The worker starts with the first question. Raises ProgramRefused for patterns that cannot be compiled.
    """

    def __init__(
        self,
        patterns: SignalPatterns,
        *,
        time_limit_s: float = TIME_LIMIT_S,
        recycle_after: int = RECYCLE_AFTER,
    ) -> None:
        self._patterns = patterns
        self._programs = [compile_signal(signal) for signal in patterns.signals]
        self._time_limit_s = time_limit_s
        self._recycle_after = recycle_after
        self._worker: _Worker | None = None
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Content address of the patterns."""
        return self._patterns.version

    def evaluate(self, customer_id: str, events: Iterable[Event], now_ms: int) -> tuple[Signal, ...]:
        """Every signal of the version, standing or not, so that storing them ends what no longer holds.

        Depends on the events and now alone; their order and duplicates do not matter. Raises
        SignalsUnavailable.
        """
        return self.evaluate_many([(customer_id, tuple(events))], now_ms)[0]

    def evaluate_many(self, customers: Iterable[Customer], now_ms: int) -> list[tuple[Signal, ...]]:
        """The signals of many customers, in their order. Raises SignalsUnavailable."""
        known = list(customers)
        asked = [list(self._questions(events, now_ms)) for _, events in known]
        with self._lock:
            ends = self._ask([question for questions in asked for question in questions])
        return [self._signals(questions, ends, now_ms) for questions in asked]

    def close(self) -> None:
        """Ends the worker."""
        with self._lock:
            self._drop()

    def __enter__(self) -> SignalEvaluator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _questions(self, events: Sequence[Event], now_ms: int) -> Iterator[Question]:
        """One for each signal that any event of its pattern fits; the others do not stand."""
        history = recent(events, types=self._patterns.event_types, now_ms=now_ms)
        for number, program in enumerate(self._programs):
            leaves = leaf_facts(program, history, now_ms)
            if leaves:
                yield Question(number, leaves, latest_fact(program, history, now_ms))

    def _signals(
        self, questions: Sequence[Question], ends: Iterator[int | None], now_ms: int
    ) -> tuple[Signal, ...]:
        found = {question.signal: next(ends) for question in questions}
        return tuple(
            _signal(program, found.get(number), now_ms) for number, program in enumerate(self._programs)
        )

    def _ask(self, questions: Sequence[Question]) -> Iterator[int | None]:
        answers: list[int | None] = []
        for start in range(0, len(questions), _BATCH):
            batch = list(questions[start : start + _BATCH])
            answers += self._asked_twice(batch)
        return iter(answers)

    def _asked_twice(self, batch: list[Question]) -> list[int | None]:
        """A worker that died may have died of something else, so another one is asked too."""
        try:
            return self._asked(batch)
        except (EOFError, OSError) as error:
            _log.warning("signals.worker.died", error=repr(error), questions=len(batch))
        try:
            return self._asked(batch)
        except (EOFError, OSError) as error:
            raise SignalsUnavailable("the signal worker died twice on the same question") from error

    def _asked(self, batch: list[Question]) -> list[int | None]:
        running = self._running()
        try:
            running.connection.send(batch)
            answers = [self._next_answer(running.connection) for _ in batch]
        except BaseException:
            self._drop()
            raise
        running.answered += len(batch)
        return answers

    def _next_answer(self, connection: Connection) -> int | None:
        if not connection.poll(self._time_limit_s):
            _log.error("signals.worker.hung", limit_s=self._time_limit_s)
            raise SignalsUnavailable(f"no answer within {self._time_limit_s:g} s; the worker is replaced")
        end: int | None = connection.recv()
        return end

    def _running(self) -> _Worker:
        """The worker, new where there is none or the old one has done its share."""
        if self._worker is not None and self._worker.answered >= self._recycle_after:
            _log.info("signals.worker.recycled", answered=self._worker.answered)
            self._drop()
        if self._worker is None:
            self._worker = _start([_plan(program) for program in self._programs])
        return self._worker

    def _drop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None


def _start(plans: list[RuleSetPlan]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=worker.run, args=(theirs, plans), name="arbiter-signals", daemon=True)
    process.start()
    theirs.close()
    started = _Worker(process, ours)
    try:
        if not ours.poll(START_LIMIT_S):
            raise SignalsUnavailable("the signal worker did not start in time")
        ours.recv()
    except BaseException:
        started.stop()
        raise
    return started


def _plan(program: SignalProgram) -> RuleSetPlan:
    return RuleSetPlan(program.definition, program.levels, program.joins, program.widest)


def _signal(program: SignalProgram, end: int | None, now_ms: int) -> Signal:
    signal = program.signal
    if end is None:
        return Signal(signal.id, False, now_ms, now_ms)
    return Signal(signal.id, True, now_ms + end, now_ms + end + signal.valid_for_ms)
