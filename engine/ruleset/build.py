"""From the texts of a rule set to the rulebook that decides, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from engine.core.reasons import stand_ins
from engine.core.rulebook import (
    Arbitration,
    Channel,
    ConsentPolicy,
    ContactPolicy,
    CountedPer,
    Glance,
    Mask,
    PolicyRule,
    PurposeRule,
    QuietTime,
    Rulebook,
    SourcePosition,
    Vocabulary,
)
from engine.domain import Action, Effect, ReasonText, Treatment
from engine.ruleset.analysis import conditions, not_in_force, unused_names, whole_set
from engine.ruleset.authored import NOTHING_AUTHORED, Authored
from engine.ruleset.checks import check_names
from engine.ruleset.compile import CompiledRule, compile_program
from engine.ruleset.contact_checks import check_contacts
from engine.ruleset.definitions import Glossary, Use, glossary_of, located
from engine.ruleset.diagnostics import Diagnostic, RuleSetInvalid, errors
from engine.ruleset.documents import (
    ActionEntry,
    ConsentPolicyDocument,
    ContactEntry,
    ContactPackDocument,
    GlanceEntry,
    RuleEntry,
    Scope,
)
from engine.ruleset.event_checks import check_events
from engine.ruleset.expression import Node, reads
from engine.ruleset.facts import Fact, gather
from engine.ruleset.localtime import DAYS, DailyPeriod, minute_of_day
from engine.ruleset.reading import read_documents
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.signal_checks import check_signals
from engine.ruleset.slowness import slow_conditions
from engine.ruleset.sources import RuleSources
from engine.ruleset.tableanalysis import overlaps, weaknesses
from engine.ruleset.tablerules import Tables, read_tables
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
    amount: float  # lever share, weight factor or value


@dataclass(frozen=True, slots=True)
class _Checked:
    rules: RuleSet
    tables: Tables
    conditions: tuple[_Condition, ...]
    diagnostics: tuple[Diagnostic, ...]
    typed: _Typed


@dataclass(slots=True)
class _Typed:
    """The conditions that are right, what is wrong with the others, and the names they use."""

    conditions: list[_Condition] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    glossary: Glossary | None = None
    uses: set[Use] = field(default_factory=set)

    def authored(self, tables: Tables) -> Authored:
        """What was written, for traces."""
        if self.glossary is None:
            return NOTHING_AUTHORED
        return replace(self.glossary.authored(), rows={made.entry.id: made.asks for made in tables.rules})


def check(
    sources: RuleSources,
    schema: FeatureSchema,
    *,
    model_reasons: Collection[str] = (),
    as_of_ms: int | None = None,
) -> list[Diagnostic]:
    """Everything that is wrong or odd about a rule set, in order of place; without errors it can be built.

    `as_of_ms` asks about one instant instead of any: what is not in force then is noted and left out.
    """
    checked = _checked(sources, schema, model_reasons)
    return sorted({*checked.diagnostics, *_analysed(checked, as_of_ms)})


def _analysed(checked: _Checked, as_of_ms: int | None) -> Iterator[Diagnostic]:
    """What the analysis says; of the whole set only where nothing of it is in error."""
    facts = gather(checked.rules, list(_facts(checked)), as_of_ms)
    for table in checked.tables.tables:
        yield from weaknesses(table)
    yield from conditions(facts)
    if errors(checked.diagnostics):
        return
    yield from whole_set(facts)
    yield from not_in_force(facts)
    written = ((f.yaml, (*f.path, "when"), f.node) for f in facts.all if not f.of_table)
    yield from slow_conditions(written, [_action(entry) for entry in checked.rules.actions])
    if checked.typed.glossary is not None:
        yield from unused_names(checked.typed.glossary.unused(checked.typed.uses))


def _facts(checked: _Checked) -> Iterator[Fact]:
    """Every rule that is right, and where it is written."""
    rules = checked.rules
    places: dict[int, tuple[YamlDocument, Path]] = {
        id(entry): (pack.yaml, ("rules", i))
        for pack in rules.policy_packs
        for i, entry in enumerate(pack.document.rules)
    }
    rows: dict[int, tuple[YamlDocument, Path]] = {
        id(made.entry): (made.source, ()) for made in checked.tables.rules
    }
    everywhere = places | rows
    for found in checked.conditions:
        yaml, path = everywhere[id(found.entry)]
        position = found.position.line, found.position.column
        yield Fact(
            found.entry,
            found.node,
            found.amount,
            yaml,
            path,
            position,
            id(found.entry) in rows,
            rules.domains,
        )


def build_rulebook(
    sources: RuleSources, schema: FeatureSchema, *, model_reasons: Collection[str] = ()
) -> Rulebook:
    """The compiled rule set. `model_reasons` are the codes models give reasons with.

    Drafts are checked like every other rule and then left out. Raises RuleSetInvalid with all mistakes.
    """
    checked = _checked(sources, schema, model_reasons)
    if wrong := errors(checked.diagnostics):
        raise RuleSetInvalid(wrong)
    rules = checked.rules
    assert rules.catalogue is not None  # else diagnosed
    assert rules.arbitration is not None
    actions = tuple(_action(entry) for entry in rules.actions)
    compiled = [_compiled(rules, c) for c in checked.conditions if c.entry.state != "draft"]
    scored = [any(name.startswith(_SCORES) for name in c.rule.reads) for c in compiled]
    authored = checked.typed.authored(checked.tables)
    arbitration = rules.arbitration.document
    vocabulary = _vocabulary(rules)
    return Rulebook(
        version=sources.digest,
        catalogue_version=sources.digest_of([rules.catalogue.yaml.file]),
        currency=rules.catalogue.document.currency,
        actions=actions,
        reasons=stand_ins(vocabulary.languages)
        | {r.code: ReasonText(r.code, r.agent, r.customer) for r in rules.reasons.values()},
        vocabulary=vocabulary,
        consent=_consent(rules),
        before_scores=compile_program(
            [c for c, s in zip(compiled, scored, strict=True) if not s], actions, authored
        ),
        after_scores=compile_program(
            [c for c, s in zip(compiled, scored, strict=True) if s], actions, authored
        ),
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
    tables = read_tables(rules)
    rules = replace(rules, table_entries=tuple(rule.entry for rule in tables.rules))
    typed = _typed(rules, tables)
    known_reads = {c.entry.id: reads(c.node) for c in typed.conditions}
    found = {*reading.diagnostics, *typed.problems, *check_names(rules), *check_texts(rules, known_reads)}
    found |= {*check_contacts(rules), *check_signals(rules), *check_events(rules)}
    found |= {*tables.diagnostics, *(problem for table in tables.tables for problem in overlaps(table))}
    return _Checked(rules, tables, tuple(typed.conditions), tuple(sorted(found)), typed)


def _typed(rules: RuleSet, tables: Tables) -> _Typed:
    """All conditions typed; none where the inputs are not known because a file is wrong."""
    typed = _Typed()
    if rules.vocabulary is None or rules.consent is None:
        return typed
    glossary = typed.glossary = glossary_of(rules)
    typed.problems += glossary.problems
    for pack in rules.policy_packs:
        language = glossary.language(pack.yaml.file)
        for i, entry in enumerate(pack.document.rules):
            meaning = language.meaning(entry.when)
            typed.uses |= {(pack.yaml.file, name) for name in meaning.names}
            path = ("rules", i, "when")
            typed.problems += [located(pack.yaml, path, entry.when, problem) for problem in meaning.problems]
            if meaning.node is not None:
                position = SourcePosition(pack.yaml.file, *pack.yaml.place(("rules", i)))
                amount = {Effect.LEVER: entry.share, Effect.WEIGHT: entry.factor}.get(entry.effect)
                typed.conditions.append(_Condition(entry, meaning.node, position, amount or 0.0))
    _type_rows(typed, tables, glossary)
    typed.problems += _problems_of_untyped(rules, glossary)
    if rules.reading.has_unread("SegmentPack"):
        typed.problems = [p for p in typed.problems if not p.message.startswith("unknown segment ")]
    return typed


def _type_rows(typed: _Typed, tables: Tables, glossary: Glossary) -> None:
    """Conditions made from the rows of decision tables."""
    for made in tables.rules:
        at = made.position
        meaning = glossary.language(at.file).meaning(made.entry.when)
        typed.uses |= {(at.file, name) for name in meaning.names}
        for problem in meaning.problems:
            found = made.source.at(at.line, at.column, problem.code, problem.message, problem.advice)
            typed.problems.append(found)
        if meaning.node is not None:
            typed.conditions.append(_Condition(made.entry, meaning.node, at, made.amount))


def _problems_of_untyped(rules: RuleSet, glossary: Glossary) -> Iterator[Diagnostic]:
    """Mistakes in conditions of files with mistakes of structure, whose own names nobody knows."""
    for kind, items in (("PolicyPack", "rules"), ("SegmentPack", "segments")):
        for yaml, path, text in rules.reading.untyped_texts(kind, items, "when"):
            _, found = glossary.shared.check(text)
            for problem in found:
                if not problem.message.startswith(("unknown constant ", "unknown variable ")):
                    yield located(yaml, path, text, problem)


def _compiled(rules: RuleSet, condition: _Condition) -> CompiledRule:
    entry = condition.entry
    rule = PolicyRule(
        id=entry.id,
        policy_class=entry.policy_class,
        effect=entry.effect,
        amount=condition.amount,
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
        context={field.name: field for field in rules.context},
        signals=tuple(s.name for s in words.signals),
        churn_bands=tuple(words.churn_bands.items()),
        inputs=rules.inputs,
        glance=_glance(words.glance),
    )


def _glance(entry: GlanceEntry) -> Glance:
    if entry.value is None:
        return Glance(entry.facts, entry.issues)
    return Glance(entry.facts, entry.issues, entry.value.feature, tuple(entry.value.bands.items()))


def _consent(rules: RuleSet) -> ConsentPolicy:
    assert rules.consent  # else diagnosed
    policy = rules.consent.document
    purposes: Mapping[str, PurposeRule] = {
        p.id: PurposeRule(p.id, p.basis, p.channels) for p in policy.purposes
    }
    if policy.gpc is not None:
        return ConsentPolicy(
            purposes, policy.profiling_purpose, frozenset(policy.gpc.purposes), policy.gpc.record
        )
    return ConsentPolicy(purposes, policy.profiling_purpose, objected_by_default(policy))


def objected_by_default(policy: ConsentPolicyDocument) -> frozenset[str]:
    """Purposes that Global Privacy Control objects to where the policy does not say."""
    declared = frozenset(purpose.id for purpose in policy.purposes)
    return declared.intersection((policy.profiling_purpose, "marketing", "profiling", "sharing"))


def _contact_policies(rules: RuleSet) -> Iterator[ContactPolicy]:
    for pack in rules.contact_packs:
        for i, entry in enumerate(pack.document.policies):
            position = SourcePosition(pack.yaml.file, *pack.yaml.place(("policies", i)))
            yield _contact_policy(rules, pack.document, entry, position)


def _contact_policy(
    rules: RuleSet, pack: ContactPackDocument, entry: ContactEntry, position: SourcePosition
) -> ContactPolicy:
    return ContactPolicy(
        id=entry.id,
        kind=entry.kind,
        per=entry.per or CountedPer.OVERALL,  # an exclusion has no key of its own
        counts=frozenset(entry.counts or ()),
        limit=entry.limit or 1,  # one event is enough for a cool-down or an exclusion
        window_ms=entry.window or 0,  # quiet hours have none
        reason=entry.reason,
        scope=_mask(rules, entry.applies_to),
        position=position,
        reserve_ms=pack.reserve_ms(entry),
        quiet=_quiet_time(pack, entry),
    )


def _quiet_time(pack: ContactPackDocument, entry: ContactEntry) -> QuietTime | None:
    if entry.from_time is None or entry.to_time is None or pack.time_zone is None:
        return None  # no quiet hours, else diagnosed
    days = frozenset(map(DAYS.index, entry.days or DAYS))
    period = DailyPeriod(minute_of_day(entry.from_time), minute_of_day(entry.to_time), days)
    channels = frozenset(entry.channels or ())
    return QuietTime(period, channels, pack.time_zone, pack.time_zone_from or "")
