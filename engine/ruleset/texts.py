"""Checks of the words people read: every language is there, and every placeholder can be filled."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from engine.core.reasons import MODEL_PLACEHOLDERS, PLACEHOLDERS, STAND_INS
from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.documents import Document, ReasonEntry
from engine.ruleset.reading import Located
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.yamltree import Path

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_ALWAYS_KNOWN: Final = ("request.", "consents.")


@dataclass(slots=True)
class ReasonUse:
    """How a set uses one reason code: by rules that all read certain inputs, by contact policies."""

    rules: list[str] = field(default_factory=list)
    contact: list[str] = field(default_factory=list)
    read_by_all: set[str] | None = None

    def add_rule(self, rule: str, reads: Collection[str]) -> None:
        """Notes a rule that gives the reason."""
        self.rules.append(rule)
        self.read_by_all = set(reads) if self.read_by_all is None else self.read_by_all & set(reads)


def check_texts(rules: RuleSet, reads: Mapping[str, Collection[str]]) -> Iterator[Diagnostic]:
    """Every mistake in texts. `reads` are the inputs of each rule whose condition is right, by rule id."""
    languages = rules.vocabulary.document.languages if rules.vocabulary else None
    if languages is not None:
        yield from _languages_of_catalogue(rules, languages)
    uses = _uses(rules, reads)
    seen: set[str] = set()
    for located in rules.reason_catalogues:
        for value, texts in located.document.labels.items():
            yield from _languages(located, ("labels", value), texts, languages)
        for i, entry in enumerate(located.document.reasons):
            path: Path = ("reasons", i)
            if entry.code in seen:
                message = f"the reason `{entry.code}` is declared twice"
                yield located.problem((*path, "code"), codes.DECLARED_TWICE, message, "remove one of them")
            seen.add(entry.code)
            yield from _reason(rules, located, path, entry, uses.get(entry.code), languages)
    yield from _codes_without_words(rules)


def _uses(rules: RuleSet, reads: Mapping[str, Collection[str]]) -> dict[str, ReasonUse]:
    uses: dict[str, ReasonUse] = {}
    written = (rule for pack in rules.policy_packs for rule in pack.document.rules)
    for rule in (*written, *rules.table_entries):
        for code in (rule.reason, rule.otherwise):
            if code is not None and rule.id in reads:
                uses.setdefault(code, ReasonUse()).add_rule(rule.id, reads[rule.id])
    for contact in rules.contact_packs:
        for policy in contact.document.policies:
            uses.setdefault(policy.reason, ReasonUse()).contact.append(policy.id)
    return uses


def _languages_of_catalogue(rules: RuleSet, languages: Collection[str]) -> Iterator[Diagnostic]:
    located = rules.catalogue
    for i, action in enumerate(rules.actions):
        assert located is not None
        path: Path = ("actions", i)
        yield from _languages(located, (*path, "name"), action.name, languages)
        for j, treatment in enumerate(action.treatments):
            place: Path = (*path, "treatments", j)
            yield from _languages(located, (*place, "headline"), treatment.headline, languages)
            yield from _languages(located, (*place, "body"), treatment.body, languages)


def _languages(
    located: Located[Document], path: Path, texts: Mapping[str, str], languages: Collection[str] | None
) -> Iterator[Diagnostic]:
    if languages is None:
        return
    for language in languages:
        if language not in texts:
            message = f"`{path[-1]}` has no text in `{language}`"
            yield located.problem(
                path, codes.MISSING_TEXT, message, "add it; every text is in every language"
            )
    for language in texts:
        if language not in languages:
            advice = did_you_mean(language, languages)
            message = f"unknown language `{language}`"
            yield located.problem((*path, language), codes.UNKNOWN_NAME, message, advice)


def _reason(
    rules: RuleSet,
    located: Located[Document],
    path: Path,
    entry: ReasonEntry,
    use: ReasonUse | None,
    languages: Collection[str] | None,
) -> Iterator[Diagnostic]:
    for audience, texts in (("agent", entry.agent), ("customer", entry.customer)):
        yield from _languages(located, (*path, audience), texts, languages)
        for language, text in texts.items():
            place: Path = (*path, audience, language)
            for problem in _placeholder_problems(rules, entry.code, text, use or ReasonUse()):
                yield located.problem(place, codes.UNKNOWN_PLACEHOLDER, *problem)


def _placeholder_problems(rules: RuleSet, code: str, text: str, use: ReasonUse) -> Iterator[tuple[str, str]]:
    """Message and advice for each placeholder of a text that nobody would fill."""
    inputs = {declared.name for declared in rules.inputs}
    inputs_known = rules.vocabulary is not None and rules.consent is not None
    for name in dict.fromkeys(_BRACES.findall(text)):
        if code in PLACEHOLDERS:
            if name not in PLACEHOLDERS[code]:
                yield f"`{{{name}}}` is not known to `{code}`", did_you_mean(name, PLACEHOLDERS[code])
        elif name in MODEL_PLACEHOLDERS:
            if use.rules or use.contact:
                yield f"`{{{name}}}` is filled by models only", "name an input, e.g. {features.x}"
        elif inputs_known and name not in inputs:
            yield f"`{{{name}}}` is not an input", did_you_mean(name, inputs)
        elif inputs_known:
            yield from _unfilled_input(rules, code, name, use)


def _unfilled_input(rules: RuleSet, code: str, name: str, use: ReasonUse) -> Iterator[tuple[str, str]]:
    """An input is filled for rules that read it; a reason that others give too must do without."""
    if use.contact:
        yield (
            f"`{{{name}}}` is not known to contact policies",
            f"leave it out; {use.contact[0]} uses this text",
        )
    elif use.read_by_all is not None and not _surely_known(name, use.read_by_all):
        advice = f"name inputs that {', '.join(use.rules[:3])} reads, so that they cannot be missing"
        yield f"`{{{name}}}` is not read by the rule that gives this reason", advice
    elif code in rules.model_reasons:
        yield f"`{{{name}}}` is not known to models", "use {value} and {typical}"


def _surely_known(name: str, read: Collection[str]) -> bool:
    return name in read or name.startswith(_ALWAYS_KNOWN)


def _codes_without_words(rules: RuleSet) -> Iterator[Diagnostic]:
    if not rules.knows_all_reasons:
        return
    located = rules.reason_catalogues[0]
    for code, who in [(c, "the engine") for c in PLACEHOLDERS if c not in STAND_INS] + [
        (c, "a model") for c in rules.model_reasons
    ]:
        if code not in rules.reasons:
            message = f"the reason `{code}`, which {who} gives, has no words"
            yield located.problem(
                ("reasons",), codes.MISSING_REASON, message, "add it, for agent and customer"
            )
