"""From the texts of a rule set to the rulebook that decides, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from engine.core.rulebook import (
    Arbitration,
    Channel,
    ConsentPolicy,
    ContactPolicy,
    ContextField,
    CountedPer,
    Mask,
    PolicyRule,
    PurposeRule,
    Rulebook,
    SourcePosition,
    Vocabulary,
)
from engine.domain import Action, Effect, ReasonText, Treatment
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.checks import check_names
from engine.ruleset.compile import CompiledRule, compile_program
from engine.ruleset.diagnostics import Diagnostic, RuleSetInvalid
from engine.ruleset.documents import ActionEntry, ContactEntry, RuleEntry, Scope
from engine.ruleset.expression import Node, reads
from engine.ruleset.lowering import Problem
from engine.ruleset.positions import locate
from engine.ruleset.reading import read_documents
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.sources import RuleSources
from engine.ruleset.texts import check_texts
from engine.ruleset.yamltree import Path, YamlDocument
from feature_store.schema import FeatureSchema

_SCORES = "scores."


@dataclass(frozen=True, slots=True)
class _Condition:
    """A rule whose condition is right, with its meaning and place."""

    entry: RuleEntry
    node: Node
    position: SourcePosition


@dataclass(frozen=True, slots=True)
class _Checked:
    rules: RuleSet
    conditions: tuple[_Condition, ...]
    diagnostics: tuple[Diagnostic, ...]


def check(
    sources: RuleSources, schema: FeatureSchema, *, model_reasons: Collection[str] = ()
) -> list[Diagnostic]:
    """Everything that is wrong with a rule set, in order of place; empty where it can be built."""
    return list(_checked(sources, schema, model_reasons).diagnostics)


def build_rulebook(
    sources: RuleSources, schema: FeatureSchema, *, model_reasons: Collection[str] = ()
) -> Rulebook:
    """The compiled rule set. `model_reasons` are the codes models give reasons with.

    Drafts are checked like every other rule and then left out. Raises RuleSetInvalid with all mistakes.
    """
    checked = _checked(sources, schema, model_reasons)
    if checked.diagnostics:
        raise RuleSetInvalid(checked.diagnostics)
    rules = checked.rules
    assert rules.catalogue is not None  # else diagnosed
    assert rules.arbitration is not None
    actions = tuple(_action(entry) for entry in rules.actions)
    compiled = [_compiled(rules, c) for c in checked.conditions if c.entry.state != "draft"]
    scored = [any(name.startswith(_SCORES) for name in c.rule.reads) for c in compiled]
    arbitration = rules.arbitration.document
    return Rulebook(
        version=sources.digest,
        catalogue_version=sources.digest_of([rules.catalogue.yaml.file]),
        currency=rules.catalogue.document.currency,
        actions=actions,
        reasons={r.code: ReasonText(r.code, r.agent, r.customer) for r in rules.reasons.values()},
        vocabulary=_vocabulary(rules),
        consent=_consent(rules),
        before_scores=compile_program([c for c, s in zip(compiled, scored, strict=True) if not s], actions),
        after_scores=compile_program([c for c, s in zip(compiled, scored, strict=True) if s], actions),
        contact=tuple(_contact_policies(rules)),
        arbitration=Arbitration(arbitration.threshold, arbitration.max_per_group),
        labels=_labels(rules, actions),
    )


def _labels(rules: RuleSet, actions: Iterable[Action]) -> dict[str, Mapping[str, str]]:
    """Words for values: actions go by their names, authors' labels come before that."""
    written = (located.document.labels for located in rules.reason_catalogues)
    named: dict[str, Mapping[str, str]] = {action.id: action.name for action in actions}
    return named | {value: texts for labels in written for value, texts in labels.items()}


def _checked(sources: RuleSources, schema: FeatureSchema, model_reasons: Collection[str]) -> _Checked:
    reading = read_documents(sources)
    rules = RuleSet.of(reading, schema, model_reasons)
    conditions, problems = _conditions(rules)
    known_reads = {c.entry.id: reads(c.node) for c in conditions}
    found = {*reading.diagnostics, *problems, *check_names(rules), *check_texts(rules, known_reads)}
    return _Checked(rules, conditions, tuple(sorted(found)))


def _conditions(rules: RuleSet) -> tuple[tuple[_Condition, ...], list[Diagnostic]]:
    """All conditions typed; none where the inputs are not known because a file is wrong."""
    if rules.vocabulary is None or rules.consent is None:
        return (), []
    language = ConditionLanguage(rules.inputs, rules.domains)
    conditions: list[_Condition] = []
    problems: list[Diagnostic] = []
    for pack in rules.policy_packs:
        for i, entry in enumerate(pack.document.rules):
            node, found = language.check(entry.when)
            problems += [_located(pack.yaml, ("rules", i, "when"), entry.when, problem) for problem in found]
            if node is not None:
                position = SourcePosition(pack.yaml.file, *pack.yaml.place(("rules", i)))
                conditions.append(_Condition(entry, node, position))
    for yaml, path, text in rules.reading.untyped_texts("PolicyPack", "rules", "when"):
        _, found = language.check(text)
        problems += [_located(yaml, path, text, problem) for problem in found]
    return tuple(conditions), problems


def _located(yaml: YamlDocument, path: Path, text: str, problem: Problem) -> Diagnostic:
    line, column = locate(yaml.text, yaml.scalars[path], text, problem.offset)
    return yaml.at(line, column, problem.code, problem.message, problem.advice)


def _compiled(rules: RuleSet, condition: _Condition) -> CompiledRule:
    entry = condition.entry
    amount = {Effect.LEVER: entry.share, Effect.WEIGHT: entry.factor}.get(entry.effect)
    rule = PolicyRule(
        id=entry.id,
        policy_class=entry.policy_class,
        effect=entry.effect,
        amount=amount or 0.0,
        reason=entry.reason or "",
        otherwise=entry.otherwise or "",
        condition=entry.when.strip(),
        reads=reads(condition.node),
        position=condition.position,
        shadow=entry.state == "shadow",
        valid_from_ms=entry.valid.from_ms,
        valid_to_ms=entry.valid.to_ms,
    )
    return CompiledRule(rule, condition.node, _mask(rules, entry.applies_to))


def _mask(rules: RuleSet, scope: Scope) -> Mask:
    mask = np.array(rules.in_scope(scope), dtype=np.bool_)
    mask.flags.writeable = False
    return mask


def _action(entry: ActionEntry) -> Action:
    treatments = tuple(
        Treatment(t.id, t.channel, t.placements, t.headline, t.body, t.template_id) for t in entry.treatments
    )
    return Action(
        id=entry.id,
        group=entry.group,
        purpose=entry.purpose,
        name=entry.name,
        value=entry.value,
        cost=entry.cost,
        prior=entry.prior,
        weight=entry.weight,
        target=entry.target,
        treatments=treatments,
        valid_from_ms=entry.valid.from_ms,
        valid_to_ms=entry.valid.to_ms,
        tags=entry.tags,
    )


def _vocabulary(rules: RuleSet) -> Vocabulary:
    assert rules.vocabulary  # else diagnosed
    words = rules.vocabulary.document
    return Vocabulary(
        channels={c.id: Channel(c.id, c.placements) for c in words.channels},
        languages=words.languages,
        identity_types=words.identity_types,
        context={c.name: ContextField(c.name, c.type, c.description, c.values) for c in words.context},
        signals=tuple(s.name for s in words.signals),
        churn_bands=tuple(words.churn_bands.items()),
        inputs=rules.inputs,
    )


def _consent(rules: RuleSet) -> ConsentPolicy:
    assert rules.consent  # else diagnosed
    policy = rules.consent.document
    purposes: Mapping[str, PurposeRule] = {
        p.id: PurposeRule(p.id, p.basis, p.channels) for p in policy.purposes
    }
    return ConsentPolicy(purposes, policy.profiling_purpose)


def _contact_policies(rules: RuleSet) -> Iterator[ContactPolicy]:
    for pack in rules.contact_packs:
        for i, entry in enumerate(pack.document.policies):
            yield _contact_policy(
                rules, entry, SourcePosition(pack.yaml.file, *pack.yaml.place(("policies", i)))
            )


def _contact_policy(rules: RuleSet, entry: ContactEntry, position: SourcePosition) -> ContactPolicy:
    return ContactPolicy(
        id=entry.id,
        kind=entry.kind,
        per=entry.per or CountedPer.OVERALL,  # an exclusion has no key of its own
        counts=frozenset(entry.counts),
        limit=entry.limit or 1,  # one event is enough for a cool-down or an exclusion
        window_ms=entry.window,
        reason=entry.reason,
        scope=_mask(rules, entry.applies_to),
        position=position,
    )
