"""Suites to concrete cases: every fixture, matrix and row written out, every name checked."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.core.rulebook import Rulebook, SourcePosition
from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.reading import Located, read_documents
from engine.ruleset.sources import RuleSources
from engine.ruleset.yamltree import Path as YamlPath
from engine.suites.documents import SUITE_KINDS, CaseEntry, Expectation, Given, RowEntry, TestSuiteDocument
from engine.suites.facts import Facts
from engine.suites.fixtures import apply_fixture
from engine.suites.wrong import FactWrong
from feature_store.schema import FeatureSchema

MAX_CASES: Final = 5_000
"""Most concrete cases of one suite; a matrix grows fast."""
SUITES_FOLDER: Final = "suites"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ENDINGS = ("_test.yaml", "_test.yml")
_ONE_ROW: Final = RowEntry(set={})


@dataclass(frozen=True, slots=True)
class ConcreteCase:
    """One decision to make and what to hold it to."""

    suite: str
    name: str
    position: SourcePosition
    facts: Facts
    expectations: tuple[Expectation, ...]
    champion: bool

    @property
    def id(self) -> str:
        """Suite and name, by which cases are filtered."""
        return f"{self.suite}: {self.name}"


def read_suites(rules: Path) -> RuleSources | None:
    """The texts of the suites beside rules; None where there are none. Raises RuleSetInvalid."""
    folder = rules / SUITES_FOLDER
    if not folder.is_dir():
        return None
    texts = {
        f"{SUITES_FOLDER}/{path}": text
        for path, text in RuleSources.from_directory(folder).items()
        if path.endswith(_ENDINGS)
    }
    return RuleSources.from_mapping(texts) if texts else None


def expand_suites(
    sources: Mapping[str, str], rulebook: Rulebook, schema: FeatureSchema
) -> tuple[list[ConcreteCase], list[Diagnostic]]:
    """All cases of all suites, and everything that is wrong with the suites, in order of place."""
    reading = read_documents(sources, kinds=SUITE_KINDS)
    cases: list[ConcreteCase] = []
    problems = list(reading.diagnostics)
    for located in reading.of_kind(TestSuiteDocument):
        suite = _Suite(located, rulebook, schema)
        cases += suite.cases()
        problems += suite.problems
    return cases, sorted(set(problems))


def fixture_customer(
    sources: Mapping[str, str], name: str, rulebook: Rulebook, schema: FeatureSchema, *, suite: str = ""
) -> tuple[Facts | None, list[Diagnostic]]:
    """A customer of the suites by name, of one suite where `suite` names it; None where none has it.

    Where several suites have one of that name, that is told instead of one of them taken.
    """
    reading = read_documents(sources, kinds=SUITE_KINDS)
    problems = list(reading.diagnostics)
    holders = [
        located
        for located in reading.of_kind(TestSuiteDocument)
        if name in located.document.customers and suite in ("", *_names_of(located))
    ]
    if len(holders) > 1:
        return None, [*problems, *(_namesake(located, name, holders) for located in holders)]
    for located in holders:
        holder = _Suite(located, rulebook, schema)
        return holder.customer(name), [*problems, *holder.problems]
    return None, problems


def _names_of(located: Located[TestSuiteDocument]) -> tuple[str, str]:
    """What a suite can be called: its name, and its file."""
    return located.document.metadata.name, located.yaml.file


def _namesake(
    located: Located[TestSuiteDocument], name: str, holders: Sequence[Located[TestSuiteDocument]]
) -> Diagnostic:
    """Says of one suite that it has a customer which another has too, and how to choose between them."""
    others = [_names_of(other) for other in holders if other is not located]
    words = " and ".join(f"`{other}` ({file})" for other, file in others)
    message = f"the suite `{located.document.metadata.name}` has a customer `{name}`, and so has {words}"
    chosen, file = _names_of(located)
    if any(other == chosen for other, _ in others):  # suites of one name are told apart by their files
        chosen = file
    path: YamlPath = ("customers", name)
    return located.yaml.problem(
        path, codes.DECLARED_TWICE, message, f"choose it by --suite {chosen}", key=True
    )


class _Suite:
    """Writes one suite out."""

    def __init__(
        self, located: Located[TestSuiteDocument], rulebook: Rulebook, schema: FeatureSchema
    ) -> None:
        self.located = located
        self.document = located.document
        self.rulebook = rulebook
        self.schema = schema
        self.problems: list[Diagnostic] = []
        self._customers: dict[str, Facts] = {}
        self._tried = 0

    def cases(self) -> list[ConcreteCase]:
        """The concrete cases; those with a wrong fact are left out and told in `problems`."""
        for name in self.document.customers:
            self._customer(name, ())
        found: list[ConcreteCase] = []
        for i, entry in enumerate(self.document.cases):
            path: YamlPath = ("cases", i)
            self._check_expectation(entry.expect, (*path, "expect"))
            for j, row in enumerate(entry.rows):
                self._check_expectation(row.expect, (*path, "rows", j, "expect"))
            found += self._variants(entry, path)
            if self._tried > MAX_CASES:
                self._problem(path, f"the suite has more than {MAX_CASES} cases", "split it, or list less")
                break
        return found

    def _problem(self, path: YamlPath, message: str, advice: str = "") -> None:
        self.problems.append(self.located.problem(path, codes.UNKNOWN_NAME, message, advice))

    def customer(self, name: str) -> Facts:
        """The facts of a customer; what is wrong with them is told in `problems`."""
        return self._customer(name, ())

    def _customer(self, name: str, heirs: tuple[str, ...]) -> Facts:
        """The facts of a customer, with those it is like."""
        if name in self._customers:
            return self._customers[name]
        fixture = self.document.customers[name]
        path: YamlPath = ("customers", name)
        facts = Facts(self.rulebook, self.schema, self.document.now)
        if fixture.like is not None:
            if fixture.like not in self.document.customers or fixture.like in (name, *heirs):
                others = [c for c in self.document.customers if c not in (name, *heirs)]
                advice = did_you_mean(fixture.like, others)
                self._problem((*path, "like"), f"`{fixture.like}` is not another customer", advice)
            else:
                facts = self._customer(fixture.like, (name, *heirs)).copy()
        facts.customer = name
        for place, wrong in apply_fixture(facts, fixture):
            self._problem((*path, *place), wrong.message, wrong.advice)
        self._customers[name] = facts
        return facts

    def _variants(self, entry: CaseEntry, path: YamlPath) -> Iterator[ConcreteCase]:
        combinations = itertools.product(
            *([(name, k, value) for k, value in enumerate(values)] for name, values in entry.matrix.items())
        )
        for combination in combinations:
            pairs = tuple((("matrix", name, k), name, value) for name, k, value in combination)
            for j, row in enumerate(entry.rows or (_ONE_ROW,)):
                self._tried += 1
                if self._tried > MAX_CASES:
                    return
                own = tuple((("rows", j, "set", name), name, value) for name, value in row.set.items())
                at = j if entry.rows else None
                yield from self._variant(entry, path, (*pairs, *own), row.expect, at)

    def _variant(
        self,
        entry: CaseEntry,
        path: YamlPath,
        changes: tuple[tuple[YamlPath, str, Given | None], ...],
        expect: Expectation,
        row: int | None,
    ) -> Iterator[ConcreteCase]:
        chosen = {name: value for _, name, value in changes}
        customer = str(chosen.get("customer", entry.customer))
        if customer not in self._customers:
            advice = did_you_mean(customer, self._customers)
            self._problem((*path, "customer"), f"unknown customer `{customer}`", advice)
            return
        facts = self._customers[customer].copy()
        right = self._apply(facts, _requested(entry), path)
        right &= self._apply(facts, [c for c in changes if c[1] != "customer"], path)
        right &= self._attempt((*path, "filter"), facts.set_filter, entry.filter)
        if not (right and self._attempt(path, facts.check)):
            return
        place = self.located.yaml.place(path if row is None else (*path, "rows", row))
        words = ", ".join(f"{name}={_word(value)}" for name, value in chosen.items())
        yield ConcreteCase(
            suite=self.document.metadata.name,
            name=f"{entry.name} [{words}]" if words else entry.name,
            position=SourcePosition(self.located.yaml.file, *place),
            facts=facts,
            expectations=(entry.expect,) if row is None else (entry.expect, expect),
            champion=self.document.models == "champion",
        )

    def _apply(
        self, facts: Facts, changes: Sequence[tuple[YamlPath, str, Given | None]], path: YamlPath
    ) -> bool:
        done = [self._attempt((*path, *place), facts.set, name, value) for place, name, value in changes]
        return all(done)  # every change is tried, so that every mistake is told

    def _attempt(self, path: YamlPath, change: object, *values: object) -> bool:
        try:
            change(*values)  # type: ignore[operator]  # a setter of Facts
        except FactWrong as wrong:
            self._problem((*path, *wrong.at), wrong.message, wrong.advice)
            return False
        return True

    def _check_expectation(self, expect: Expectation, path: YamlPath) -> None:
        """Names in an expectation that nothing has would make it pass or fail for the wrong reason."""
        ids = [a.id for a in self.rulebook.actions]
        rules = [r.id for p in (self.rulebook.before_scores, self.rulebook.after_scores) for r in p.rules]
        for place, name in _named_actions(expect):
            self._check_name((*path, *place), name, ids, "action")
        for place, code in _named_codes(expect):
            self._check_name((*path, *place), code, self.rulebook.reasons, "reason")
        known = [*rules, *(p.id for p in self.rulebook.contact)]
        for action, fate in expect.suppressed.items():
            for name in () if isinstance(fate, str) else fate.rules:
                self._check_name((*path, "suppressed", action, "rules"), name, known, "rule")
        for name in expect.shadow_rules or ():
            self._check_name((*path, "shadow_rules"), name, rules, "rule")
        bands = [band for band, _ in self.rulebook.vocabulary.churn_bands]
        if expect.churn_band is not None:
            self._check_name((*path, "churn_band"), expect.churn_band, bands, "churn band")

    def _check_name(self, path: YamlPath, name: str, known: object, what: str) -> None:
        if name not in known:  # type: ignore[operator]  # a container of names
            self._problem(path, f"unknown {what} `{name}`", did_you_mean(name, known))  # type: ignore[arg-type]  # as above


def _requested(entry: CaseEntry) -> list[tuple[YamlPath, str, Given | None]]:
    """What a case says of the request and the customer, as changes."""
    plain: dict[str, Given | None] = {
        "channel": entry.channel,
        "placement": entry.placement,
        "language": entry.language,
        "limit": entry.limit,
        "global_privacy_control": entry.global_privacy_control,
        "consents_readable": entry.consents_readable,
    }
    changes: list[tuple[YamlPath, str, Given | None]] = [
        ((name,), name, value) for name, value in plain.items() if value is not None
    ]
    if entry.now is not None:
        changes.append((("now",), "now", _rfc3339(entry.now)))
    changes += [(("context", name), f"context.{name}", value) for name, value in entry.context.items()]
    changes += [(("budgets", name), f"budgets.{name}", value) for name, value in entry.budgets.items()]
    return [*changes, *((("set", name), name, value) for name, value in entry.set.items())]


def _rfc3339(instant_ms: int) -> str:
    return (_EPOCH + dt.timedelta(milliseconds=instant_ms)).isoformat(timespec="milliseconds")


def _named_actions(expect: Expectation) -> Iterator[tuple[YamlPath, str]]:
    if expect.first is not None:
        yield ("first",), expect.first
    for field in ("actions", "returned", "not_returned"):
        for i, name in enumerate(getattr(expect, field) or ()):
            yield (field, i), name
    for field in ("suppressed", "reasons"):
        for name in getattr(expect, field):
            yield (field, name), name


def _named_codes(expect: Expectation) -> Iterator[tuple[YamlPath, str]]:
    for action, fate in expect.suppressed.items():
        if not isinstance(fate, str):
            yield from ((("suppressed", action, "reasons", i), code) for i, code in enumerate(fate.reasons))
    for action, found in expect.reasons.items():
        yield from ((("reasons", action, i), code) for i, code in enumerate(found))
    if isinstance(expect.no_action, tuple):
        yield from ((("no_action", i), code) for i, code in enumerate(expect.no_action))


def _word(value: Given | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_word(element) for element in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_word(held)}" for key, held in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)
