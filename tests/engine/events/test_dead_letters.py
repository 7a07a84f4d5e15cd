"""Dead letters are kept until they are taken out, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

from engine.events.deadletters import DeadLetter, DiskDeadLetters
from feature_store.sealing import TextCipher, key_id

KEY, FORMER = b"a long random text", b"one of last year"


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


def sealed_by(*keys: bytes) -> TextCipher:
    return TextCipher("dead letter", keys)


def on_disk(letters_dir: Path) -> bytes:
    return b"".join(path.read_bytes() for path in letters_dir.glob("*.seg"))


def test_under_a_key_no_file_holds_what_was_sent(letters_dir: Path) -> None:
    """Event and words are sealed; letters are still told apart, taken out, and one for one refusal."""
    with DiskDeadLetters(letters_dir, sealed_by(KEY)) as letters:
        letters.put([letter("zoe"), letter("zoe", refused_ms=5), letter("max", refused_ms=6)])
        found = list(letters.letters())
        letters.remove([found[0].id], now_ms=10)
        left = list(letters.letters())

    assert [(x.event, x.words, x.refused_ms) for x in found] == [("zoe", "is late", 2), ("max", "is late", 6)]
    assert left == found[1:]
    assert b"zoe" not in on_disk(letters_dir)
    assert b"is late" not in on_disk(letters_dir)


def test_a_letter_that_no_key_opens_says_which_it_needs(letters_dir: Path) -> None:
    """It is listed with its reason and can be taken out; with the former key it reads as before."""
    with DiskDeadLetters(letters_dir, sealed_by(FORMER)) as letters:
        letters.put([letter("zoe")])
    with DiskDeadLetters(letters_dir, sealed_by(KEY, FORMER)) as letters:
        (read,) = letters.letters()

    with DiskDeadLetters(letters_dir, sealed_by(KEY)) as letters:
        (unread,) = letters.letters()
        letters.remove([unread.id], now_ms=10)
        left = list(letters.letters())

    assert (read.event, read.unread) == ("zoe", "")
    assert (unread.event, unread.words, unread.reason, unread.id) == ("", "", "EVENT_TOO_LATE", read.id)
    assert f"opens by identity key {key_id(FORMER)}" in unread.unread
    assert left == []


def test_letters_are_sealed_anew_and_nothing_of_before_is_left(letters_dir: Path) -> None:
    """Not what was in the clear, nor what a former key sealed, nor what is out."""
    with DiskDeadLetters(letters_dir) as letters:
        letters.put([letter("zoe"), letter("out", refused_ms=3)])
        letters.remove([x.id for x in letters.letters() if x.event == "out"], now_ms=4)
    with DiskDeadLetters(letters_dir, sealed_by(FORMER)) as letters:
        letters.put([letter("max", refused_ms=5)])
        before = [(x.id, x.event) for x in DiskDeadLetters(letters_dir, sealed_by(FORMER)).letters()]

    with DiskDeadLetters(letters_dir, sealed_by(KEY, FORMER)) as letters:
        counted = [letters.reseal(now_ms=20), letters.reseal(now_ms=21)]
    with DiskDeadLetters(letters_dir, sealed_by(KEY)) as letters:
        after = [(x.id, x.event) for x in letters.letters()]
        none_out = [letters.reseal(now_ms=22)]

    assert counted == [2, 0]
    assert after == before
    assert none_out == [0]
    assert b"zoe" not in on_disk(letters_dir)
    assert b'"out"' not in on_disk(letters_dir)
    assert key_id(FORMER).encode() not in on_disk(letters_dir)


def test_without_a_key_nothing_is_sealed_anew(letters_dir: Path) -> None:
    """Letters stay as they are, and what is sealed stays too where its key is gone."""
    with DiskDeadLetters(letters_dir, sealed_by(FORMER)) as letters:
        letters.put([letter("zoe")])

    with DiskDeadLetters(letters_dir) as letters:
        counted = letters.reseal(now_ms=20)
    with DiskDeadLetters(letters_dir, sealed_by(KEY)) as letters:
        counted += letters.reseal(now_ms=21)
        unread = [bool(x.unread) for x in letters.letters()]

    assert (counted, unread) == (0, [True])


def test_what_is_out_and_cannot_be_read_goes_with_the_next_erasure(letters_dir: Path) -> None:
    """Nobody could find it any more; a letter that is kept is asked about, read or not."""
    with DiskDeadLetters(letters_dir, sealed_by(FORMER)) as letters:
        letters.put([letter("out"), letter("zoe", refused_ms=3)])
        letters.remove([next(letters.letters()).id], now_ms=4)
    asked = []

    with DiskDeadLetters(letters_dir, sealed_by(KEY)) as letters:
        erased = letters.erase(lambda x: bool(asked.append(x.unread)), actor="a", reason="r", now_ms=9)

    assert erased == 1
    assert len(asked) == 1
    assert asked[0]
