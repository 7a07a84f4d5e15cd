"""Conditions whose truth is the same for every action: one Python function for all of them.

`fast` is for frames in which nothing that is read is missing. `guarded` takes the careful way for the
rules that touch a missing input only. A rule with an operation that can fail always takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.rulebook import Frame
from engine.ruleset.expression import Node, input_mask, may_fail
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
    fast = [_fast_text(writer, i, node) for i, node in enumerate(nodes)]
    guarded = [_guarded_text(text, i, node) for i, (text, node) in enumerate(zip(fast, nodes, strict=True))]
    lines = [*singles, *_whole("fast", "V, n", nodes, fast), *_whole("guarded", "V, n, m", nodes, guarded)]
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


def _whole(name: str, arguments: str, nodes: list[Node], texts: list[str]) -> list[str]:
    lines = [f"def {name}({arguments}):", *reading_lines(nodes), "    return bytes(("]
    return [*lines, *(f"        {text}," for text in texts), "    ))"]


def run_source(source: str, bindings: dict[str, object]) -> dict[str, Callable[..., Any]]:
    """Runs generated definitions and returns their names; only what is bound can be named."""
    builtins = {"bytes": bytes, "len": len, "float": float, "str": str}
    space: dict[str, object] = {"__builtins__": builtins, **NAMES, **bindings}
    exec(compile(source, "<conditions>", "exec"), space)  # noqa: S102  # our own text, see scalar.py
    return space  # type: ignore[return-value]  # its definitions are functions
