"""A server process whose files may not grow: appends until it is refused, gets more room, goes on."""

import json
import resource
import sys
from pathlib import Path

from engine.decisionlog.errors import LogFull
from engine.decisionlog.journal import Journal


def main(directory: str) -> None:
    """Prints what was acknowledged, the error, and the sizes before and after it, as JSON."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    acknowledged = []
    journal = Journal(Path(directory), fsync_interval_ms=100)

    def append(n: int) -> None:
        slot = journal.append(b"%04d" % n + b"x" * 996, now_ms=1)
        acknowledged.append((n, slot.segment_id, slot.offset))

    refusals = []
    for n in range(25):
        try:
            append(n)
        except LogFull as error:
            refusals.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for n in range(25, 30):
        append(n)
    journal.close()
    print(json.dumps({"acknowledged": acknowledged, "refusals": refusals}))


if __name__ == "__main__":
    main(sys.argv[1])
