"""Answers that can be undone, and calls that end: in memory, by a clock that tests set."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import CallTaken, CallUnknown, CustomerUnknown, StateUnavailable
from engine.service.outcomes import OutcomeReport
from engine.web import calls as limits
from engine.web.calls import LONGEST_S, REMEMBERED_S, Calls, Event, desk_of, identity_in
from engine.web.pop.answers import UNDO_S, Answers
from engine.web.streams import stream
from feature_store.state import Identity, OutcomeType

PHONE = Identity("phone", "+41791000131")


class Wall:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Recorder:
    """Records reports, or fails as it is told."""

    def __init__(self) -> None:
        self.reports: list[OutcomeReport] = []
        self.failure: Exception | None = None

    def __call__(self, report: OutcomeReport) -> bool:
        if self.failure is not None:
            raise self.failure
        self.reports.append(report)
        return True

    @property
    def told(self) -> list[tuple[OutcomeType | None, str]]:
        """Types and reasons of what was recorded."""
        return [(report.outcome, report.reason) for report in self.reports]


@pytest.fixture
def wall() -> Wall:
    """A clock."""
    return Wall()


@pytest.fixture
def recorder() -> Recorder:
    """Takes what is recorded."""
    return Recorder()


@pytest.fixture
def answers(recorder: Recorder, wall: Wall) -> Answers:
    """Answers that wait."""
    return Answers(record=recorder, clock_s=wall)


def test_answer_is_recorded_when_it_can_no_longer_be_undone(
    answers: Answers, recorder: Recorder, wall: Wall
) -> None:
    """As of the moment it was said, with its reason, after that the customer heard of it."""
    said = answers.say("d-1", "a", OutcomeType.DECLINED, "price")

    wall.now_s += UNDO_S - 0.1
    answers.settle()
    assert recorder.told == []
    wall.now_s += 0.1
    answers.settle()

    assert recorder.told == [(OutcomeType.SHOWN, ""), (OutcomeType.DECLINED, "price")]
    assert {report.at_ms for report in recorder.reports} == {1_000_000}
    assert (answers.undo(said), answers.waits(said)) == (False, False)


def test_answer_that_was_undone_never_happened(answers: Answers, recorder: Recorder, wall: Wall) -> None:
    """It leaves nothing behind, and the same can be said again."""
    assert answers.undo(answers.say("d-1", "a", OutcomeType.ACCEPTED))
    wall.now_s += UNDO_S
    answers.settle()

    assert recorder.told == []


def test_going_on_records_what_was_said_so_far(answers: Answers, recorder: Recorder) -> None:
    """Of that decision; others can still be undone, until the process ends."""
    answers.say("d-1", "a", OutcomeType.ACCEPTED)
    answers.say("d-2", "b", OutcomeType.SNOOZED)

    answers.settle("d-1")
    assert [report.decision_id for report in recorder.reports] == ["d-1", "d-1"]
    answers.settle_all()

    assert [report.decision_id for report in recorder.reports] == ["d-1", "d-1", "d-2", "d-2"]


def test_what_passes_is_tried_again_and_counts_once(answers: Answers, recorder: Recorder, wall: Wall) -> None:
    """A store that is away keeps the answer waiting; the ids are the same each time."""
    answers.say("d-1", "a", OutcomeType.ACCEPTED)
    wall.now_s += UNDO_S
    recorder.failure = StateUnavailable("away")
    answers.settle()

    recorder.failure = None
    answers.settle()
    answers.settle()

    assert recorder.told == [(OutcomeType.SHOWN, ""), (OutcomeType.ACCEPTED, "")]
    assert len({report.outcome_id for report in recorder.reports}) == 2


def test_what_may_not_be_kept_is_dropped(answers: Answers, recorder: Recorder) -> None:
    """A customer erased meanwhile leaves no answer that is tried for ever."""
    answers.say("d-1", "a", OutcomeType.ACCEPTED)
    recorder.failure = CustomerUnknown("erased")
    answers.settle_all()

    recorder.failure = None
    answers.settle_all()

    assert recorder.told == []


def test_call_that_nobody_ends_ends_by_itself(wall: Wall) -> None:
    """After hours; later it is not even known that it was."""
    held = Calls(clock_s=wall)
    held.ring("c-1", "a", PHONE, "Anna")
    wall.now_s += LONGEST_S
    held.ring("c-2", "a", PHONE)

    ended = held.get("c-1")
    assert (ended.ended_s is not None, ended.identity, ended.name) == (True, None, "")
    wall.now_s += REMEMBERED_S
    held.ring("c-3", "a", PHONE)
    with pytest.raises(CallUnknown):
        held.get("c-1")


def test_calls_are_bounded(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than fit, those that began first are ended and forgotten."""
    monkeypatch.setattr(limits, "MOST", 3)
    held = Calls(clock_s=wall)
    ended: list[str] = []
    held.ended.append(lambda call: ended.append(call.id))

    for number in range(5):
        held.ring(f"c-{number}", "a", PHONE)

    assert [call.id for call in held.of_agent(None)] == ["c-4", "c-3", "c-2"]
    assert ended == ["c-0", "c-1"]


def test_end_is_told_once_while_all_is_there(wall: Wall) -> None:
    """Whoever records what was said sees the talk; a second end changes nothing."""
    held = Calls(clock_s=wall)
    call = held.ring("c-1", "a", PHONE)
    call.talk = "said"
    seen: list[object] = []
    held.ended.append(lambda ending: seen.append(ending.talk))

    held.end("c-1")
    held.end("c-1")

    assert (seen, call.talk) == (["said"], None)
    with pytest.raises(CallTaken):
        held.ring("c-1", "a", PHONE)


def test_stream_tells_what_was_missed_then_what_comes_and_ends_with_the_process(wall: Wall) -> None:
    """Each event in the form of server-sent events; closing leaves no page waiting."""
    held = Calls(clock_s=wall)

    async def listened() -> list[str]:
        reply = stream(held, desk_of("a"), first=lambda: [Event("go", "/pop/missed")])
        parts = reply.body_iterator
        told = [str(await anext(parts)), str(await anext(parts))]
        held.ring("c-1", "a", PHONE)
        held.ring("c-2", "b", PHONE)
        told.append(str(await anext(parts)))
        held.close()
        return told + [str(part) async for part in parts]

    told = asyncio.run(listened())

    assert told[0].endswith("retry: 1000\n\n")
    assert told[1:] == [f"event: go\ndata: /pop/{where}\n\n" for where in ("missed", "c-1")]
    assert held.of_agent(None) == ()


def test_slow_page_misses_the_oldest_only(wall: Wall) -> None:
    """A page that reads nothing costs a bounded amount of memory."""
    held = Calls(clock_s=wall)

    async def listened() -> str:
        with held.listening(desk_of(None)) as listener:
            for number in range(500):
                held.tell(desk_of("a"), Event("go", str(number)))
            await asyncio.sleep(0)
            event = await listener.next(1.0)
            assert event is not None
            return event.data

    assert asyncio.run(listened()) == str(500 - 64)


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("phone:+41 79", Identity("phone", "+41 79")),
        ("phone: 4179", Identity("phone", "+4179")),
        ("loyalty_number: L7", Identity("loyalty_number", "L7")),
        ("nothing", Identity("nothing", "")),
    ],
)
def test_identity_is_read_as_links_write_it(text: str, identity: Identity) -> None:
    """A plus that a link lost is put back, for phones only."""
    assert identity_in(text) == identity
