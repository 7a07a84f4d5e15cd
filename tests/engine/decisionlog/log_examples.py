"""A log of six records of three customers, and what verifying says of it."""

from pathlib import Path

from decision_examples import NOW_MS

from engine.decisionlog.journal import Journal
from engine.decisionlog.segment import sequential_id
from engine.decisionlog.verifying import verify

BODIES = [b'{"customer_id":"c-%d","n":%d}' % (n % 3, n) for n in range(6)]
HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Clock:
    """Tells a time that moves only when told."""

    def __init__(self):
        self.now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


def open_journal(directory, checkpoints=None, *, max_segment_bytes=1 << 20):
    return Journal(
        directory,
        fsync_interval_ms=0,
        max_segment_bytes=max_segment_bytes,
        new_id=sequential_id,
        checkpoints=checkpoints,
    )


def write(directory, checkpoints=None, bodies=BODIES, **options):
    with open_journal(directory, checkpoints, **options) as journal:
        for n, body in enumerate(bodies):
            journal.append(body, now_ms=NOW_MS + n)


def found(directory, checkpoints):
    """Kind and offset of everything that is wrong."""
    return [(finding.kind, finding.offset) for finding in verify(directory, checkpoints).all_findings]
