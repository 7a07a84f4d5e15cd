"""Files that change while a server runs: followed where they are good, kept where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import SetupInvalid
from engine.security.keeping import Kept
from engine.service.watching import UNWATCHED


class Reading:
    """A file of one number that is followed, by a clock that the test moves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_s = 0.0
        self.told: list[tuple[str, bool]] = []
        path.write_text("1")
        self.kept = Kept("number", [path], self.read, told=self.note, clock_s=lambda: self.now_s)

    def note(self, what: str, *, well: bool) -> None:
        self.told.append((what, well))

    def read(self) -> int:
        try:
            return int(self.path.read_text())
        except (ValueError, OSError) as error:
            raise SetupInvalid(f"{self.path}: is no number") from error


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    """A file that says 1."""
    return Reading(tmp_path / "number")


def test_changed_file_is_read_when_it_is_time_to_look(reading: Reading) -> None:
    """Not at each use, as a look costs more than a call has."""
    reading.path.write_text("20")
    at_once = reading.kept.current
    reading.now_s = 1.0

    assert (at_once, reading.kept.current) == (1, 20)
    assert reading.told == [("number", True)]


def test_bad_file_leaves_the_last_good(reading: Reading) -> None:
    """And it is told once, not at every look, until the file changes again."""
    reading.path.write_text("no number")
    for second in (1.0, 2.0, 3.0):
        reading.now_s = second
        assert reading.kept.current == 1
    reading.path.unlink()
    reading.now_s = 4.0

    assert reading.kept.current == 1
    assert reading.told == [("number", False), ("number", False)]


def test_good_file_after_a_bad_one_counts(reading: Reading) -> None:
    """As when the second file of a pair has come."""
    reading.path.write_text("no number")
    reading.now_s = 1.0
    before = reading.kept.current
    reading.path.write_text("3")
    reading.now_s = 2.0

    assert (before, reading.kept.current) == (1, 3)


def test_file_can_be_read_at_once(reading: Reading) -> None:
    """On SIGHUP, changed or not."""
    reading.path.write_text("4")

    reading.kept.reread()

    assert reading.kept.current == 4


def test_first_reading_must_be_good(tmp_path: Path) -> None:
    """There is no last good one yet."""

    def refuse() -> int:
        raise SetupInvalid("is no number")

    with pytest.raises(SetupInvalid):
        Kept("number", [tmp_path / "number"], refuse, told=UNWATCHED.security_reread)
