"""What authors wrote and a compiled rule forgets: names, cells of tables, and where all of it stands.

Kept beside the compiled rules, so that a trace can show a value under the words that gave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.core.rulebook import SourcePosition
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.positions import locate
from engine.ruleset.yamltree import Scalar


@dataclass(frozen=True, slots=True)
class Written:
    """A condition as a scalar of a YAML file; `text` is that of the whole file."""

    file: str
    text: str
    scalar: Scalar
    value: str

    def place(self, offset: int) -> SourcePosition:
        """Where a character of the condition stands."""
        return SourcePosition(self.file, *locate(self.text, self.scalar, self.value, offset))


@dataclass(frozen=True, slots=True)
class CellTest:
    """A cell that tests its column: its own text, what that means as a condition, and where it stands."""

    column: str
    text: str
    condition: str  # CEL
    position: SourcePosition


@dataclass(frozen=True, slots=True)
class RowTest:
    """A row as it was written, without the rows it competes with; cells that take any value are left out."""

    number: int
    condition: str  # CEL
    position: SourcePosition
    cells: tuple[CellTest, ...]


@dataclass(frozen=True, slots=True)
class RowRule:
    """What a rule made of a table asks: that its row matches, and that none of the others does.

    No `row` is the rule for where no row matches.
    """

    row: RowTest | None
    others: tuple[RowTest, ...] = ()


@dataclass(frozen=True, slots=True)
class Authored:
    """What was written, of one rule set. Names are such as `segments.loyal`."""

    shared: ConditionLanguage | None = None  # of files without constants and variables
    languages: Mapping[str, ConditionLanguage] = field(default_factory=dict)  # by rule file
    names: Mapping[tuple[str, str], Written] = field(default_factory=dict)  # of a file, by their names
    segment_files: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, RowRule] = field(default_factory=dict)  # by rule id

    def language(self, file: str) -> ConditionLanguage | None:
        """What the conditions of a file may say; None where that is not kept."""
        return self.languages.get(file, self.shared)

    def home(self, name: str, file: str) -> str:
        """The file that says what a name means in another file: its own but for segments."""
        return self.segment_files.get(name, file)


NOTHING_AUTHORED = Authored()
