"""`python -m engine.bench [NAME ...]`: runs benchmarks, prints their figures, keeps them in one JSON file."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from engine.bench import drift, events, holding, reasons, rules, store, watching
from engine.bench.parts import Disagreement, PartMissing

BENCHMARKS: Final[Mapping[str, Callable[[], dict[str, float]]]] = {
    "rules": rules.measure,
    "drift": drift.measure,
    "events": events.measure,
    "store": store.measure,
    "holding": holding.measure,
    "reasons": reasons.measure,
    "watching": watching.measure,
}
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
)
Figure = float | str


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for; 0 where all ran, 2 where a part is missing or two engines disagree."""
    asked = _arguments(arguments)
    figures: dict[str, Figure] = {}
    try:
        for name in asked.names or BENCHMARKS:
            figures |= BENCHMARKS[name]()
    except (PartMissing, Disagreement) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _keep(asked.out, {**figures, **_circumstances()})
    if asked.json:
        sys.stdout.write(json.dumps({**figures, **_circumstances()}, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{name:28} {value:12.3f}\n" for name, value in figures.items())
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine.bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all where none is named")
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
