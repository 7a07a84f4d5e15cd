"""Dead letters are kept until they are taken out, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

from engine.events.deadletters import DeadLetter, DiskDeadLetters


def letter(event: str, reason: str = "EVENT_TOO_LATE", refused_ms: int = 2) -> DeadLetter:
    """A letter of an event."""
    return DeadLetter(event, reason, "is late", 1, refused_ms)


def test_letters_are_there_for_the_next_process(letters_dir: Path) -> None:
    """In the order they were refused."""
    with DiskDeadLetters(letters_dir) as letters:
        letters.put([letter("one"), letter("two", refused_ms=3)])

    with DiskDeadLetters(letters_dir) as again:
        found = list(again.letters())

    assert [(x.event, x.reason, x.words, x.received_ms) for x in found] == [
        ("one", "EVENT_TOO_LATE", "is late", 1),
        ("two", "EVENT_TOO_LATE", "is late", 1),
    ]


def test_a_letter_is_taken_out_once_for_all(letters_dir: Path) -> None:
    """Also where its clock was ahead; the others stay."""
    with DiskDeadLetters(letters_dir) as letters:
        letters.put([letter("one", refused_ms=9_000), letter("two")])
        by_event = {x.event: x.id for x in letters.letters()}

        letters.remove([by_event["one"], "nobody"], now_ms=10)

        assert [x.event for x in letters.letters()] == ["two"]


def test_the_same_refusal_is_one_letter(letters_dir: Path) -> None:
    """However often the event is sent; after it was taken out it is a new one."""
    with DiskDeadLetters(letters_dir) as letters:
        letters.put([letter("one"), letter("one", refused_ms=5), letter("one", "EVENT_AHEAD")])
        first = list(letters.letters())
        letters.remove([x.id for x in first], now_ms=20)
        letters.put([letter("one", refused_ms=30)])

        assert len(first) == 2
        assert [x.refused_ms for x in letters.letters()] == [30]
