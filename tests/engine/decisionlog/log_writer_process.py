"""A server process in small: decides until it is killed, and tells each id once its record was written."""

import os
import sys
from pathlib import Path

from decision_examples import NOW_MS, decision_record

from engine.decisionlog.log import DecisionLog


def main(directory: str) -> None:
    """Writes `<decision id> <n>` lines to stdout, each after `write` returned."""
    log = DecisionLog(Path(directory), max_segment_bytes=300_000)
    n = 0
    while True:
        now_ms = NOW_MS + n
        with log.next(now_ms=now_ms) as slot:
            slot.write(decision_record(slot.decision_id, now_ms=now_ms, request_id=str(n)))
        os.write(1, f"{slot.decision_id} {n}\n".encode())
        n += 1


if __name__ == "__main__":
    main(sys.argv[1])
