"""Whether the sides of the benchmark of the whole really do the same work, and all of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from engine._pb.arbiter.v1 import decision_service_pb2, types_pb2
from engine.bench.parts import Disagreement
from engine.bench.whole_sides import LIMIT

Response = decision_service_pb2.DecideResponse
_SAME: Final = 1e-5
"""Priorities that differ by a smaller share are one: float32 of one side, doubles of the other."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply says, in whichever form: actions with priorities, best first, and who was removed."""

    ranked: Sequence[tuple[str, float]]
    suppressed: frozenset[str]
    band: str

    @classmethod
    def of_arbiter(cls, content: bytes) -> Self:
        """From a message of Arbiter's."""
        reply = Response.FromString(content)
        return cls(
            [(action.action_id, action.priority.priority) for action in reply.actions],
            frozenset(action.action_id for action in reply.suppressed),
            reply.churn_risk.band,
        )

    @classmethod
    def of_parts(cls, reply: bytes) -> Self:
        """From the JSON of the stack of well-known parts."""
        held = json.loads(reply)
        return cls(
            [(action["action_id"], action["priority"]) for action in held["actions"]],
            frozenset(action["action_id"] for action in held["suppressed"]),
            held["churn_risk"]["band"],
        )


def check_whole(replies: Iterable[bytes], *, candidates: int) -> None:
    """Raises Disagreement unless each reply of Arbiter is the whole job. Replies for nothing are none."""
    count = 0
    for content in replies:
        count += 1
        lacks = _lacking(Response.FromString(content), candidates)
        if lacks:
            raise Disagreement(f"a reply of Arbiter lacks {', '.join(lacks)}: it is not the whole job")
    if not count:
        raise Disagreement("no reply of Arbiter was kept, so nobody knows what it answered")


def _lacking(reply: Response, candidates: int) -> list[str]:
    asked: dict[str, Callable[[], bool]] = {
        f"{LIMIT} actions": lambda: len(reply.actions) == LIMIT,
        f"{candidates} candidates": lambda: len(reply.actions) + len(reply.suppressed) == candidates,
        "a reason for each suppressed action": lambda: all(s.reasons for s in reply.suppressed),
        "a score of the propensity model": lambda: all(_is_scored(action) for action in reply.actions),
        "reasons of the model for each action": lambda: all(_is_explained(a.reasons) for a in reply.actions),
        "reasons for the churn score": lambda: _is_explained(reply.churn_risk.reasons),
        "the consents it rests on": lambda: reply.profiled and len(reply.consents) > 1,
        "what degrades nothing": lambda: not reply.degraded_by,
        "an id in the decision log": lambda: bool(reply.decision_id),
    }
    return [what for what, holds in asked.items() if not holds()]


def _is_scored(action: decision_service_pb2.RankedAction) -> bool:
    return action.priority.propensity_source == decision_service_pb2.PROPENSITY_SOURCE_MODEL


def _is_explained(reasons: Iterable[types_pb2.Reason]) -> bool:
    return any(reason.source == types_pb2.REASON_SOURCE_MODEL and reason.contribution for reason in reasons)


def check_same(name: str, one: Answer, other: Answer) -> None:
    """Raises Disagreement unless two sides answered the same for a customer; equal priorities may swap."""
    priorities = zip(one.ranked, other.ranked, strict=False)
    if (
        len(one.ranked) != len(other.ranked)
        or len(one.suppressed) != len(other.suppressed)
        or one.band != other.band
        or not all(_close(a, b) for (_, a), (_, b) in priorities)
        or not _same_actions(one, other)
    ):
        raise Disagreement(f"customer {name}: the sides do not decide the same: {one} and {other}")


def _same_actions(one: Answer, other: Answer) -> bool:
    """Whether they rank the same; an action in another place, or outside, must be as good as who took it."""
    theirs = dict(other.ranked)
    last = other.ranked[-1][1] if other.ranked else 0.0
    return all(_close(priority, theirs.get(action, last)) for action, priority in one.ranked)


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME * max(abs(one), abs(other))
