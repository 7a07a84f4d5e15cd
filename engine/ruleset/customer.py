"""Conditions whose truth is the same for every action: one Python function for all of them.

Conjunctions of tests of single inputs are looked up (`lookups.py`), the others written as Python. `fast` is
for frames in which nothing that is read is missing. `guarded` takes the careful way for the rules that touch
a missing input only. A rule with an operation that can fail always takes it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.rulebook import Frame
from engine.ruleset.expression import Node, input_mask, may_fail
from engine.ruleset.lookups import Lookups, lookups_of
from engine.ruleset.runtime import NAMES
from engine.ruleset.scalar import ScalarWriter, function_text, reading_lines, truth_text

UNKNOWN_BYTE = 255
RuleFunction = Callable[..., int]


@dataclass(frozen=True, slots=True)
class CustomerConditions:
    """Compiled customer-level conditions."""

    count: int
    mask: int
    fast: Callable[[list[object], int], bytes]
    guarded: Callable[[list[object], int, int], bytes]
    singles: tuple[RuleFunction, ...]  # (values, now) of each rule, careful

    def truths(self, frame: Frame) -> bytes:
        """One byte per rule: 0, 1 or 255 for unknown. Never raises."""
        missing = frame.missing & self.mask
        try:
            if missing:
                return self.guarded(frame.values, frame.now_ms, missing)
            return self.fast(frame.values, frame.now_ms)
        except Exception:  # a value that is not of its declared type spoils its own rules only
            return bytes(one_truth(single, frame.values, frame.now_ms) for single in self.singles)


def one_truth(function: RuleFunction, *arguments: object) -> int:
    """The truth of one rule for one candidate; unknown where it cannot be computed."""
    try:
        truth = function(*arguments)
    except Exception:  # see CustomerConditions.truths
        return UNKNOWN_BYTE
    return int(truth) if truth in (0, 1) else UNKNOWN_BYTE


def compile_customer(conditions: Sequence[Node]) -> CustomerConditions:
    """Compiles conditions together, in their order."""
    writer = ScalarWriter()
    nodes = list(conditions)
    singles = [
        function_text(f"r{i}", "V, n", [node], truth_text(writer, node)) for i, node in enumerate(nodes)
    ]
    lookups = lookups_of(nodes)
    written = {i: _fast_text(writer, i, node) for i, node in enumerate(nodes) if i not in lookups.places}
    careful = {i: _guarded_text(text, i, nodes[i]) for i, text in written.items()}
    looks, guarded_looks = lookups.bodies(writer.bind)
    fast, guarded = _body(written, lookups, looks), _body(careful, lookups, guarded_looks)
    lines = [
        *singles,
        *("def fast(V, n):", *reading_lines(nodes), *fast),
        *("def guarded(V, n, m):", *reading_lines(nodes), *guarded),
    ]
    space = run_source("\n".join(lines), writer.bindings)
    mask = 0
    for node in nodes:
        mask |= input_mask(node)
    rules: tuple[RuleFunction, ...] = tuple(space[f"r{i}"] for i in range(len(nodes)))
    return CustomerConditions(len(nodes), mask, space["fast"], space["guarded"], rules)


def _fast_text(writer: ScalarWriter, index: int, node: Node) -> str:
    return f"r{index}(V, n)" if may_fail(node) else writer.plain(node)


def _guarded_text(fast: str, index: int, node: Node) -> str:
    mask = input_mask(node)
    return f"r{index}(V, n) if m & {mask} else {fast}" if mask and not may_fail(node) else fast


def _body(texts: dict[int, str], lookups: Lookups, looks: list[str]) -> list[str]:
    """Statements that return a byte per rule: those that are looked up, and the texts of the others."""
    if not lookups.places:
        return ["    return bytes((", *(f"        {text}," for text in texts.values()), "    ))"]
    if not texts:
        return [*looks, "    return held"]
    others = [f"    held[{i}] = {text}" for i, text in texts.items()]
    return [*looks, "    held = bytearray(held)", *others, "    return bytes(held)"]


def run_source(source: str, bindings: dict[str, object]) -> dict[str, Callable[..., Any]]:
    """Runs generated definitions and returns their names; only what is bound can be named."""
    builtins = {"bytes": bytes, "bytearray": bytearray, "len": len, "float": float, "str": str}
    space: dict[str, object] = {"__builtins__": builtins, **NAMES, "place_of": bisect_right, **bindings}
    exec(compile(source, "<conditions>", "exec"), space)  # noqa: S102  # our own text, see scalar.py
    return space  # type: ignore[return-value]  # its definitions are functions
