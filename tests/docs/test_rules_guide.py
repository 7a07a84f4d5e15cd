"""The guide for rule authors can be followed: its files are right and its commands print what it shows.

A comment before a fenced block says what the block is:

    file: PATH            the whole of a new file in the rules folder
    add: PATH             goes to the end of that file
    under: PATH LINE      goes below that line of the file
    demo: PATH            stands like this in the demo's file
    conditions            each line is a condition that rules may have
    mistakes: PATH        a new file, there for the next command only
    change: PATH: A -> B  an edit, there for the next command only
    histories: SIGNAL     each line is a history of events, and whether the signal stands after it
    prints                commands, and what the last one prints; `...` leaves lines or a part of a line out
    prints: numbers may differ    the same, whatever the numbers: they come from the demo company
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli import console
from engine.cli.app import app
from engine.ruleset.build import check
from engine.ruleset.sources import RuleSources
from engine.settings import Settings
from engine.signals.compile import signal_patterns
from engine.signals.evaluator import SignalEvaluator
from engine.signals.patterns import Event
from engine.signals.reference import evaluate
from feature_store.schema import load_schema

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = (REPOSITORY / "docs" / "rules" / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"<!-- (\w+)(?:: )?(.*?) -->")
_DECISION = re.compile(r"\b01[0-9A-Z]{24}\b")
_NUMBER = re.compile(r"\b[0-9a-f]{12}\b|[+-]?\d(?:[\d,.]*\d)?")
_STORY = re.compile(r"(?P<events>.+? ago) {2,}(?P<stands>stands|does not stand)(?:: [^\n]+)?")
DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000
_UNTESTED = ["publish", "activate", "rollback"]  # run by the tests of versions.md
_RULE = """
  - id: guide.condition-{number}
    applies_to: {{actions: [streaming_tv]}}
    when: '{when}'
    effect: lever
    share: 0.1
    reason: BLACK_WEEK
    state: active
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of the guide, and what the comments before it say."""

    markers: tuple[tuple[str, str], ...]
    language: str
    body: str


@dataclass(frozen=True)
class Run:
    """A command of the guide, what the guide shows, and what it printed."""

    command: str
    shown: str
    printed: str
    any_numbers: bool


@dataclass(frozen=True)
class Story:
    """A line of the guide: what happened, and whether a signal stands then."""

    signal: str
    line: str
    events: tuple[Event, ...]
    stands: bool


def _story(signal: str, line: str) -> Story:
    """Reads `page_viewed path=/x 9d 2d ago, path=/y 1d ago, ordered 1d ago   stands: why`."""
    told = _STORY.fullmatch(line)
    assert told, line
    events: list[Event] = []
    kind = ""
    for part in told["events"].split(", "):
        words = part.removesuffix(" ago").split()
        assert part.endswith(" ago"), line
        if "=" not in words[0]:
            kind = words.pop(0)
        attributes = dict(word.split("=") for word in words if "=" in word)
        ages = [int(word.removesuffix("d")) for word in words if "=" not in word]
        events += [Event(f"e{len(events)}-{n}", kind, NOW_MS - n * DAY_MS, attributes) for n in ages]
    return Story(signal, line, tuple(events), told["stands"] == "stands")


def blocks() -> list[Block]:
    """All fenced blocks, in their order."""
    return [Block(tuple(_MARKER.findall(found[1])), found[2], found[3]) for found in _BLOCK.finditer(GUIDE)]


class Author:
    """Follows the guide from top to bottom in a folder of its own."""

    def __init__(self, work: Path) -> None:
        self.rules = work / "rules"
        self.runs: list[Run] = []
        self.stories: list[Story] = []
        self._restore: dict[Path, str | None] = {}
        self._decision = ""

    def follow(self, block: Block) -> None:
        """Does what one block says."""
        for marker, argument in block.markers:
            getattr(self, marker)(argument, block.body)

    def file(self, path: str, body: str) -> None:
        """Writes a file that is not there yet."""
        target = self.rules / path
        assert not target.exists()
        target.parent.mkdir(exist_ok=True)
        target.write_text(body, encoding="utf-8")

    def add(self, path: str, body: str) -> None:
        """Appends to a file."""
        with (self.rules / path).open("a", encoding="utf-8") as target:
            target.write(f"\n{body}")

    def under(self, argument: str, body: str) -> None:
        """Puts lines below a line of a file."""
        path, _, line = argument.partition(" ")
        self._replace(path, f"\n{line}\n", f"\n{line}\n{body}")

    def mistakes(self, path: str, body: str) -> None:
        """Writes a file that goes away after the next command."""
        self._restore[self.rules / path] = None
        self.file(path, body)

    def change(self, argument: str, body: str) -> None:
        """Makes an edit that is undone after the next command."""
        path, _, edit = argument.partition(": ")
        self._restore[self.rules / path] = (self.rules / path).read_text(encoding="utf-8")
        self._replace(path, *edit.split(" -> "))

    def prints(self, argument: str, body: str) -> None:
        """Runs the commands of a console block; what is shown stands below the last."""
        lines = body.splitlines(keepends=True)
        typed = [line[2:].strip() for line in lines if line.startswith("$ ")]
        for command in typed:
            printed = self._run(command)
        shown = "".join(lines[len(typed) :])
        self.runs.append(Run(typed[-1], shown, printed, argument == "numbers may differ"))
        for path, text in self._restore.items():
            path.unlink() if text is None else path.write_text(text, encoding="utf-8")
        self._restore.clear()

    def demo(self, path: str, body: str) -> None:
        """Shows a part of a file of the demo company."""
        assert body in (self.rules / path).read_text(encoding="utf-8")

    def conditions(self, argument: str, body: str) -> None:
        """Conditions have a test of their own."""

    def histories(self, signal: str, body: str) -> None:
        """Histories of events, and what the guide says of the signal after each."""
        self.stories += [_story(signal, line) for line in body.splitlines()]

    def _run(self, command: str) -> str:
        words = shlex.split(_DECISION.sub(self._decision, command))
        assert words[0] == "arbiter"
        console.out.width = console.err.width = 120  # whatever terminal the tests run in
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code in (0, 3, 4), result.output
        if words[1] == "decide":
            found = _DECISION.search(result.stdout)
            assert found, result.output
            self._decision = found[0]
        return str(result.stdout)

    def _replace(self, path: str, old: str, new: str) -> None:
        text = (self.rules / path).read_text(encoding="utf-8")
        assert text.count(old) == 1
        (self.rules / path).write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def author(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Author:
    """An author who has followed the guide to its end, with the demo company's rules in git."""
    work = tmp_path_factory.mktemp("author")
    shutil.copytree(REPOSITORY / "rules", work / "rules")
    shutil.copytree(demo_company, work / "data")
    git = ["git", "-C", str(work), "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    for arguments in (["init", "--quiet"], ["add", "rules"], ["commit", "--quiet", "-m", "rules"]):
        subprocess.run([*git, *arguments], check=True)
    author = Author(work)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setenv("ARBITER_RULES", "rules")
        patch.setenv("ARBITER_DATA_DIR", "data")
        for block in blocks():
            author.follow(block)
    return author


def test_commands_print_what_the_guide_shows(author: Author) -> None:
    """Line by line; a line of dots leaves lines out, and dots in a line what changes from run to run."""
    assert len(author.runs) >= 6
    for run in author.runs:
        assert _fits(run), f"$ {run.command}\n{run.printed}"


def _fits(run: Run) -> bool:
    shown, printed = (_NUMBER.sub("#", t) if run.any_numbers else t for t in (run.shown, run.printed))
    lines = [re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + "\n" for line in shown.splitlines()]
    pattern = "".join("(?:.*\n)*?" if line == ".*\n" else line for line in lines)
    plain = "".join(line.rstrip() + "\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, plain) is not None


def test_signals_of_the_guide_stand_when_it_says_so(author: Author) -> None:
    """Each history of the guide, in the evaluator that serves and by the definition it is tested against."""
    patterns = signal_patterns(RuleSources.from_directory(author.rules))
    told = {story.line: story.stands for story in author.stories}

    with SignalEvaluator(patterns) as evaluator:
        asked = [(story.line, story.events) for story in author.stories]
        found = evaluator.evaluate_many(asked, NOW_MS)
    served = {
        story.line: any(signal.name == story.signal and signal.value for signal in signals)
        for story, signals in zip(author.stories, found, strict=True)
    }
    defined = {
        story.line: any(s.name == story.signal and s.value for s in evaluate(patterns, story.events, NOW_MS))
        for story in author.stories
    }

    assert set(told.values()) == {True, False}
    assert served == told
    assert defined == told


def test_every_signal_of_the_guide_has_histories(author: Author) -> None:
    """A signal that is shown and not played could say anything."""
    shown = set(re.findall(r"^  - id: (\w+)\n(?:    [^\n]+\n)*?    pattern:", GUIDE, re.MULTILINE))

    assert shown == {story.signal for story in author.stories} != set()


def test_every_yaml_block_is_tested() -> None:
    """No example without a marker; commands without one are those that versions.md runs."""
    bare = [block for block in blocks() if not block.markers]

    typed = [shlex.split(line)[3] for block in bare for line in block.body.splitlines()]
    assert typed == _UNTESTED


def test_every_condition_of_the_guide_is_right() -> None:
    """Each as the condition of a rule beside the demo's."""
    (body,) = [block.body for block in blocks() if block.language == "cel"]
    sources = dict(RuleSources.from_directory(REPOSITORY / "rules"))
    sources["business/cross-sell.yaml"] += "".join(
        _RULE.format(number=number, when=when) for number, when in enumerate(body.splitlines())
    )

    found = check(RuleSources.from_mapping(sources), load_schema(Settings().feature_schema))

    assert len(body.splitlines()) >= 8
    assert [problem.message for problem in found] == []
