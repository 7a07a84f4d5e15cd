"""`python -m engine.bench [NAME ...]`: runs benchmarks, prints their figures, keeps them in one JSON file."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from engine.bench import (
    drift,
    events,
    growth,
    holding,
    hotpath,
    memory,
    reasons,
    rules,
    stack,
    store,
    watching,
    whole,
)
from engine.bench.parts import Disagreement, PartMissing

BENCHMARKS: Final[Mapping[str, Callable[[], dict[str, float]]]] = {
    "rules": rules.measure,
    "drift": drift.measure,
    "events": events.measure,
    "store": store.measure,
    "holding": holding.measure,
    "reasons": reasons.measure,
    "whole": whole.measure,
    "stack": stack.measure,
    "growth": growth.measure,
    "memory": memory.measure,
    "hotpath": hotpath.measure,
    "watching": watching.measure,
}
QUICK: Final[Mapping[str, Callable[[], dict[str, float]]]] = {
    "whole": partial(whole.measure, whole.QUICK),
    "growth": partial(growth.measure, growth.QUICK),
    "memory": partial(memory.measure, memory.QUICK),
}
"""Short forms of those that take minutes, for work on them; their figures are no evidence."""
ONLY_BY_NAME: Final = frozenset({"memory"})
"""What is left out where none is named: it takes half an hour."""
_PARTS: Final = (
    "numpy",
    "cel-expr-python",
    "zen-engine",
    "durable-rules",
    "lmdb",
    "redis",
    "hiredis",
    "lightgbm",
    "llvmlite",
    "grpcio",
    "protobuf",
    "onnxruntime",
)
Figure = float | str


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for; 0 where all ran, 2 where a part is missing or two engines disagree."""
    asked = _arguments(arguments)
    figures: dict[str, Figure] = {}
    if asked.write_budget:
        figures |= hotpath.write_budget()
        sys.stdout.writelines(f"{name:28} {value:12}\n" for name, value in figures.items())
        return 0
    try:
        for name in asked.names or [name for name in BENCHMARKS if name not in ONLY_BY_NAME]:
            figures |= _measure(name, asked)()
    except (PartMissing, Disagreement) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _keep(asked.out, {**figures, **_circumstances()})
    if asked.json:
        sys.stdout.write(json.dumps({**figures, **_circumstances()}, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{name:28} {value:12.3f}\n" for name, value in figures.items())
    return 0


def _measure(name: str, asked: argparse.Namespace) -> Callable[[], dict[str, float]]:
    """A benchmark, as short or long as it is asked for."""
    if name == "memory" and asked.calls:
        return partial(memory.measure, memory.Work(calls=asked.calls, every=max(1, asked.calls // 10)))
    return QUICK[name] if asked.quick and name in QUICK else BENCHMARKS[name]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine.bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all where none is named")
    parser.add_argument("--quick", action="store_true", help="a minute at most, of those that take longer")
    parser.add_argument("--calls", type=int, help="of memory: how many instead of a million")
    parser.add_argument(
        "--write-budget", action="store_true", help="make what a decision costs now the budget of `hotpath`"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="file that keeps figures")
    return parser.parse_args(arguments)


def _keep(file: Path, figures: Mapping[str, Figure]) -> None:
    """Writes the figures beside those of other benchmarks that are there already."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**kept, **figures}, indent=2) + "\n", encoding="utf-8")


def _circumstances() -> dict[str, Figure]:
    """Machine, versions and commit the figures belong to."""
    return {
        "machine": f"{platform.machine()} {platform.system()} {platform.processor() or ''}".strip(),
        "python": platform.python_version(),
        **{f"version_{name}": _version(name) for name in _PARTS},
        "commit": _commit(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    command = ["git", "rev-parse", "HEAD"]  # as found on the path: benchmarks run in a checkout
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
    return ran.stdout.strip() or "unknown"


if __name__ == "__main__":
    raise SystemExit(main())
