"""What one decision costs, counted so that two runs, and two machines, give the same: guards the hot path.

Times of a busy machine say little about a change of five per cent; the interpreter's own steps say it
exactly. Counted are the instructions of bytecode that a fixed decision of the demo executes, and the calls
it makes into C, function by function. They are the same for every run of one minor version of Python. The
committed budget holds them, and a test fails where a decision takes more. What NumPy, onnxruntime and machine
code do in a call is not seen: `native_ratio` compares that with one run of onnxruntime.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import numpy as np

from engine.bench.timing import in_turns, per_item_us
from engine.core.rulebook import InputType
from engine.core.snapshot import Snapshot
from engine.decisionlog.log import DecisionLog
from engine.models.scorer import build_scorer
from engine.service.decisions import Decisions
from engine.service.live import LiveSnapshot
from engine.service.requests import DecisionQuery
from engine.settings import Settings
from engine.snapshots import load_snapshot
from feature_store.embedded import open_embedded
from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    FeatureVector,
)
from model_registry import open_alias
from model_registry.aliases import CHAMPION

BUDGET: Final = Path(__file__).with_name("hotpath_budget.json")
ALLOWED: Final = 1.05
"""How much more than the budget a decision may take: less than any stage of it, more than a new field."""
NATIVE_LIMIT: Final = 8.0
"""Scoring all targets of a customer and explaining one may take at most so many runs of onnxruntime over the
same rows. It is two to four; the rest is for machines that are busy, or have narrower vectors."""
_NOW_MS: Final = 1_790_000_000_000
_WARMING: Final = 3
_TOLD: Final = 60
"""Functions that the budget names: those that take most, so that what grew can be told."""
CUSTOMER: Final = "H0001"
QUERIES: Final = (
    DecisionQuery(
        customer_id=CUSTOMER,
        channel="call_center",
        placement="screen_pop",
        context={"call_reason": (InputType.STRING, "cancel")},
    ),
    DecisionQuery(customer_id=CUSTOMER, channel="web", placement="account_banner", limit=10),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the decisions of QUERIES take together: by function, and in all."""

    instructions: Mapping[str, int]
    calls: Mapping[str, int]

    @property
    def figures(self) -> dict[str, int]:
        """Instructions of bytecode, and calls into C."""
        return {"instructions": sum(self.instructions.values()), "calls": sum(self.calls.values())}


@contextmanager
def opened_decisions() -> Iterator[Decisions]:
    """Decisions of the demo company on a store and a log of their own, always at the same instant."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        snapshot = load_snapshot(Settings(data_dir=Path(folder)))
        store = open_embedded(Path(folder) / "store", clock=lambda: _NOW_MS)
        stack.callback(store.close)
        store.put_customers([(CUSTOMER, _typical(snapshot))])
        store.put_consents((CUSTOMER, _granted(purpose)) for purpose in snapshot.rulebook.consent.purposes)
        log = stack.enter_context(DecisionLog(Path(folder) / "log"))
        yield Decisions(
            live=LiveSnapshot(lambda: snapshot),
            store=store,
            log=log,
            clock=lambda: _NOW_MS,
            request_id_ttl_ms=1_000,
        )


def _typical(snapshot: Snapshot) -> FeatureVector:
    """The features of a customer like most."""
    typical = open_alias(Settings().registry, "propensity", CHAMPION).manifest.typical
    schema = snapshot.schema
    values = [typical.get(feature.name) or 0.0 for feature in schema.feature]
    times = (_NOW_MS,) * len(schema.view)
    return FeatureVector(schema.digest, times, np.array(values, dtype=np.float32))


def _granted(purpose: str) -> ConsentRecord:
    return ConsentRecord(purpose, ANY_CHANNEL, ConsentState.GRANTED, _NOW_MS - 1)


def cost() -> Cost:
    """Counts what QUERIES take once everything that is worked out once is worked out."""
    with opened_decisions() as decisions:

        def work() -> None:
            for query in QUERIES:
                decisions.decide(query)

        for _ in range(_WARMING):
            work()
        gc.collect()
        gc.disable()  # its callbacks are no part of the decision
        try:
            return Cost(_instructions(work), _calls(work))
        finally:
            gc.enable()


def _instructions(work: Callable[[], None]) -> Counter[str]:
    """Instructions of bytecode by function."""
    counts: Counter[CodeType] = Counter()
    if sys.version_info >= (3, 12):
        _monitored(work, counts)
    else:
        _traced(work, counts)
    return _by_name(counts)


def _monitored(work: Callable[[], None], counts: Counter[CodeType]) -> None:
    """Counts by the interpreter's own means, which tracing of instructions needs from Python 3.12 on."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]  # Python 3.12
    tool = monitoring.PROFILER_ID

    def counted(code: CodeType, _offset: int) -> None:
        counts[code] += 1

    monitoring.use_tool_id(tool, "hotpath")
    try:
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, counted)
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)
        work()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


def _traced(work: Callable[[], None], counts: Counter[CodeType]) -> None:
    def trace(frame: FrameType, event: str, _argument: object) -> object:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            counts[frame.f_code] += 1
        return trace

    before = sys.gettrace()  # a debugger's, or that of coverage
    sys.settrace(trace)  # type: ignore[arg-type]  # it returns itself, which no type can say
    try:
        work()
    finally:
        sys.settrace(before)


def _calls(work: Callable[[], None]) -> Counter[str]:
    """Calls into C by the function that makes them."""
    counts: Counter[CodeType] = Counter()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "c_call":
            counts[frame.f_code] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return _by_name(counts)


def _by_name(counts: Mapping[CodeType, int]) -> Counter[str]:
    named: Counter[str] = Counter()
    for code, count in counts.items():
        if code.co_filename != __file__:
            named[f"{Path(code.co_filename).stem}.{code.co_qualname}"] += count
    return named


def budget() -> Mapping[str, Any] | None:
    """What a decision may take with this minor version of Python; None where nobody wrote it down."""
    found: Mapping[str, Any] | None = _budgets().get(_python())
    return found


def write_budget() -> dict[str, int]:
    """Makes what a decision takes now the budget of this minor version of Python; returns the figures."""
    now = cost()
    told = {name: dict(Counter(getattr(now, name)).most_common(_TOLD)) for name in ("instructions", "calls")}
    budgets = {**_budgets(), _python(): {**now.figures, "functions": told}}
    BUDGET.write_text(json.dumps(budgets, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return now.figures


def over_budget(now: Cost, allowed: Mapping[str, Any]) -> list[str]:
    """What takes more than the budget allows, with the functions that grew most; empty where nothing does."""
    found = []
    for name, count in now.figures.items():
        if count > allowed[name] * ALLOWED:
            grown = _grown(getattr(now, name), allowed["functions"][name])
            share = 100.0 * (count / allowed[name] - 1.0)
            found.append(
                f"{name}: {count}, {share:.1f} % above {allowed[name]}; most grew {', '.join(grown)}"
            )
    return found


def _grown(now: Mapping[str, int], before: Mapping[str, int]) -> list[str]:
    more = Counter({name: count - before.get(name, 0) for name, count in now.items()})
    return [f"{name} +{count}" for name, count in more.most_common(5) if count > 0]


def _budgets() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(BUDGET.read_text(encoding="utf-8")) if BUDGET.exists() else {}
    return found


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def native_ratio() -> float:
    """Scoring all targets and explaining one, over one run of onnxruntime on the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        snapshot = load_snapshot(Settings(data_dir=Path(folder)))
    actions = snapshot.rulebook.actions
    scorer = build_scorer(registry_root=Settings().registry, schema=snapshot.schema, actions=actions)
    vector, everything = _typical(snapshot).values, np.arange(len(actions))
    known = int(np.flatnonzero(scorer.target_of >= 0)[0])
    vectors = vector[None, :]

    def ours(_round: int) -> None:
        scorer.propensity(vector, everything)
        scorer.explain_propensities(vector, [known])

    def theirs(_round: int) -> None:
        scorer.targets_of_many(vectors)

    rounds = range(20)
    our_us, their_us = in_turns(
        lambda: per_item_us(ours, rounds, rounds=5), lambda: per_item_us(theirs, rounds, rounds=5), turns=5
    )
    return our_us / their_us


def measure() -> dict[str, float]:
    """Figures of the benchmark `hotpath`: counts, microseconds of the processor, and the native ratio."""
    now = cost()
    with opened_decisions() as decisions:
        for _ in range(_WARMING):
            decisions.decide(QUERIES[0])
        started = time.process_time()
        for _ in range(200):
            decisions.decide(QUERIES[0])
        taken_us = (time.process_time() - started) / 200 * 1e6
    per_decision = {f"hotpath_{name}": count / len(QUERIES) for name, count in now.figures.items()}
    return {**per_decision, "hotpath_processor_us": taken_us, "hotpath_native_ratio": native_ratio()}
