"""What the first explanation of a process costs besides the model: the making of machine code, once.

`python -m engine.bench.reasons_side` prints it as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final

from engine.models.machine_code import machine_code

_KIB: Final = 1024


def main() -> int:
    """Makes the kernel in this fresh process and tells time and memory; 2 where it cannot."""
    before = _memory_bytes()
    started = time.process_time()
    code = machine_code()
    took_s = time.process_time() - started
    after = _memory_bytes()
    if code is None:
        return 2
    found = {
        "reasons_code_s": took_s,
        "reasons_code_resident_mb": (after["Rss"] - before["Rss"]) / 1e6,
        "reasons_code_private_mb": (after["Private_Dirty"] - before["Private_Dirty"]) / 1e6,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _memory_bytes() -> dict[str, int]:
    """Resident memory of this process, all of it and what it shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {name: int(size.split()[0]) * _KIB for name, size in (line.split(":") for line in lines)}


if __name__ == "__main__":
    raise SystemExit(main())
