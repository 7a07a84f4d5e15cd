"""Names authors give to values and conditions: constants, variables and segments.

Constants and variables belong to the file that declares them; a variable may use what stands before it.
Segments are conditions about the customer that every policy pack may use, and each other, but not in a
circle. A name means what it would mean written out: an input it misses makes the rule unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Final

from engine.core.rulebook import Rulebook
from engine.ruleset import diagnostics as codes
from engine.ruleset.authored import NOTHING_AUTHORED, Authored, Written
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.compile import Program
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.documents import NamingDocument, SegmentEntry, SegmentPackDocument
from engine.ruleset.expression import Literal, is_action_level
from engine.ruleset.kinds import Kind
from engine.ruleset.lowering import Definition, Problem
from engine.ruleset.positions import locate
from engine.ruleset.reading import Located
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.yamltree import Path, YamlDocument

SEGMENTS: Final = "segments."
Use = tuple[str, str]
"""A file and a name it uses, e.g. ("retention.yaml", "constants.HIGH_BILL")."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A constant, variable or segment, e.g. `constants.HIGH_BILL`, and where it is written."""

    name: str
    yaml: YamlDocument
    path: Path


@dataclass(frozen=True, slots=True)
class Glossary:
    """The names of a rule set. `shared` knows the segments; `languages`, by file, that file's names too."""

    shared: ConditionLanguage
    languages: Mapping[str, ConditionLanguage]
    declared: tuple[Declared, ...]
    problems: tuple[Diagnostic, ...]
    uses: frozenset[Use]  # that names make of other names
    written: Mapping[Use, Written]  # variables and segments, by the file that declares them

    def language(self, file: str) -> ConditionLanguage:
        """What the conditions of a file may say."""
        return self.languages.get(file, self.shared)

    def authored(self) -> Authored:
        """The names as they were written, for traces."""
        files = {name: file for file, name in self.written if name.startswith(SEGMENTS)}
        return Authored(self.shared, self.languages, self.written, files)

    def unused(self, uses: Iterable[Use]) -> tuple[Declared, ...]:
        """What nobody names, `uses` being those that conditions make."""
        used = {*self.uses, *uses}
        segments = {name for _, name in used if name.startswith(SEGMENTS)}
        return tuple(d for d in self.declared if (d.yaml.file, d.name) not in used and d.name not in segments)


def located(yaml: YamlDocument, path: Path, text: str, problem: Problem) -> Diagnostic:
    """A problem of a condition, where it is written in the file."""
    line, column = locate(yaml.text, yaml.scalars[path], text, problem.offset)
    return yaml.at(line, column, problem.code, problem.message, problem.advice)


def glossary_of(rules: RuleSet) -> Glossary:
    """All names of a rule set, with everything that is wrong with them."""
    return _Reader(ConditionLanguage(rules.inputs, rules.domains)).read(rules)


def language_of(rulebook: Rulebook, file: str) -> ConditionLanguage:
    """What the conditions of a file of a compiled rule set may say."""
    language = authored_of(rulebook).language(file)
    return ConditionLanguage(rulebook.vocabulary.inputs, {}) if language is None else language


def authored_of(rulebook: Rulebook) -> Authored:
    """What was written, of a compiled rule set."""
    program = rulebook.before_scores
    return program.authored if isinstance(program, Program) else NOTHING_AUTHORED


def constant_text(value: object) -> str:
    """A constant as a condition would say it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{constant_text(k)}: {constant_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(constant_text(v) for v in value) + "]"
    return repr(value)


@dataclass(slots=True)
class _Segment:
    """A segment and the language of its file."""

    name: str
    entry: SegmentEntry
    pack: Located[SegmentPackDocument]
    path: Path
    language: ConditionLanguage

    def problem(self, code: str, message: str, advice: str) -> Diagnostic:
        return located(self.pack.yaml, self.path, self.entry.when, Problem(0, code, message, advice))


@dataclass(slots=True)
class _Reader:
    """Gathers names, problems and uses file by file."""

    base: ConditionLanguage
    languages: dict[str, ConditionLanguage] = field(default_factory=dict)
    declared: list[Declared] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    uses: set[Use] = field(default_factory=set)
    written: dict[Use, Written] = field(default_factory=dict)

    def read(self, rules: RuleSet) -> Glossary:
        """Segments first, since policy packs use them."""
        segments = [s for pack in rules.segment_packs for s in self._segments(pack)]
        known = self._defined(segments)
        shared = self.base.knowing(known.values())
        for pack in rules.policy_packs:
            self.languages[pack.yaml.file] = self._names_of_file(shared, pack)
        own = {segment.pack.yaml.file: segment.language for segment in segments}
        for file, language in own.items():  # behind those of packs, which know no fewer names
            self.languages[file] = shared.knowing(language.definitions.values())
        found = tuple(self.declared), tuple(self.problems), frozenset(self.uses), self.written
        return Glossary(shared, self.languages, *found)

    def _write_down(self, yaml: YamlDocument, name: str, path: Path, text: str) -> None:
        if path in yaml.scalars:
            self.written[yaml.file, name] = Written(yaml.file, yaml.text, yaml.scalars[path], text)

    def _names_of_file(self, language: ConditionLanguage, pack: Located[NamingDocument]) -> ConditionLanguage:
        """The language with the constants and variables of a file."""
        constants = [
            self._constant(language, pack, name, value) for name, value in pack.document.constants.items()
        ]
        language = language.knowing(constants) if constants else language
        for name, text in pack.document.variables.items():
            language = language.knowing([self._variable(language, pack, name, text)])
        return language

    def _constant(
        self, language: ConditionLanguage, pack: Located[NamingDocument], name: str, value: object
    ) -> Definition:
        path: Path = ("constants", name)
        self.declared.append(Declared(f"constants.{name}", pack.yaml, path))
        definition, meaning = language.definition(f"constants.{name}", constant_text(value))
        for problem in meaning.problems:
            self.problems.append(pack.problem(path, problem.code, problem.message, problem.advice))
        return definition

    def _variable(
        self, language: ConditionLanguage, pack: Located[NamingDocument], name: str, text: str
    ) -> Definition:
        path: Path = ("variables", name)
        self.declared.append(Declared(f"variables.{name}", pack.yaml, path))
        self._write_down(pack.yaml, f"variables.{name}", path, text)
        definition, meaning = language.definition(f"variables.{name}", text)
        self.problems += [located(pack.yaml, path, text, problem) for problem in meaning.problems]
        self.uses |= {(pack.yaml.file, used) for used in meaning.names}
        return definition

    def _segments(self, pack: Located[SegmentPackDocument]) -> Iterator[_Segment]:
        language = self._names_of_file(self.base, pack)
        for i, entry in enumerate(pack.document.segments):
            name = SEGMENTS + entry.id
            if any(d.name == name for d in self.declared):
                message = f"the segment `{entry.id}` is declared twice"
                place: Path = ("segments", i, "id")
                self.problems.append(
                    pack.problem(place, codes.DECLARED_TWICE, message, "rename or remove one of them")
                )
                continue
            self.declared.append(Declared(name, pack.yaml, ("segments", i, "id")))
            self._write_down(pack.yaml, name, ("segments", i, "when"), entry.when)
            yield _Segment(name, entry, pack, ("segments", i, "when"), language)

    def _defined(self, segments: Sequence[_Segment]) -> dict[str, Definition]:
        """The meaning of every segment, in an order in which each stands behind those it uses."""
        stand_ins = [Definition(s.name, "true", Kind.BOOL, Literal(True, Kind.BOOL), 1) for s in segments]
        uses = {
            s.name: s.language.knowing(stand_ins).meaning(s.entry.when).names & {d.name for d in stand_ins}
            for s in segments
        }
        known: dict[str, Definition] = {}
        by_name = {s.name: s for s in segments}
        for name in self._ordered(by_name, uses):
            known[name] = self._segment(by_name[name], known, stand_ins)
        return known

    def _ordered(self, segments: Mapping[str, _Segment], uses: Mapping[str, frozenset[str]]) -> list[str]:
        """Names, users last; segments in a circle are told and taken as using nothing."""
        uses = dict(uses)
        while True:
            try:
                return list(TopologicalSorter(uses).static_order())
            except CycleError as error:
                circle = list(dict.fromkeys(error.args[1]))
                first = min(circle)
                way = " -> ".join(f"`{name}`" for name in [*circle[::-1], circle[-1]])
                advice = "write one of them out"
                message = f"segments use each other in a circle: {way}"
                self.problems.append(segments[first].problem(codes.CIRCLE, message, advice))
                uses |= dict.fromkeys(circle, frozenset())

    def _segment(
        self, segment: _Segment, known: Mapping[str, Definition], all_names: Iterable[Definition]
    ) -> Definition:
        """A segment's meaning; `known` are those it may use, the others are in a circle."""
        later = [Definition(d.name, "", Kind.OPAQUE, None, 0) for d in all_names if d.name not in known]
        language = segment.language.knowing([*known.values(), *later])
        text = segment.entry.when
        meaning = language.meaning(text)
        yaml = segment.pack.yaml
        self.problems += [located(yaml, segment.path, text, problem) for problem in meaning.problems]
        self.uses |= {(yaml.file, used) for used in meaning.names}
        wrong = Definition(segment.name, text, Kind.BOOL, None, 0)
        if meaning.node is None:
            return wrong
        if is_action_level(meaning.node):
            message = "a segment is about the customer; this one reads the action or its propensity"
            advice = "move that part into the rules that use it"
            self.problems.append(segment.problem(codes.NOT_ABOUT_THE_CUSTOMER, message, advice))
            return wrong
        return language.definition(segment.name, text)[0]
