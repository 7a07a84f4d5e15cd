"""What only the whole set can tell: names that refer to other files, and declarations that clash."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from engine.core.rulebook import InputType
from engine.domain import Effect
from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.documents import (
    ActionEntry,
    CatalogueDocument,
    Document,
    RuleEntry,
    Scope,
    TreatmentEntry,
    VocabularyDocument,
)
from engine.ruleset.reading import Located
from engine.ruleset.ruleset import RuleSet, duplicates, feature_input
from engine.ruleset.table_documents import DecisionTableDocument
from engine.ruleset.yamltree import Path


def check_names(rules: RuleSet) -> Iterator[Diagnostic]:
    """Every mistake but those of conditions and texts."""
    yield from rules.wrong_documents()
    if rules.vocabulary is not None:
        yield from _vocabulary(rules.vocabulary)
        yield from _requested_features(rules, rules.vocabulary)
        yield from _glance(rules, rules.vocabulary)
    if rules.catalogue is not None:
        yield from _catalogue(rules, rules.catalogue)
    yield from _consent(rules)
    yield from _unique_rule_ids(rules)
    for pack in rules.policy_packs:
        for i, rule in enumerate(pack.document.rules):
            yield from _rule(rules, pack, ("rules", i), rule)
    for table in rules.decision_tables:
        yield from _table(rules, table)


def check_name(
    located: Located[Document], path: Path, name: str, names: Collection[str], what: str
) -> Iterator[Diagnostic]:
    """A name that should be one of these."""
    if name not in names:
        advice = did_you_mean(name, names)
        yield located.problem(path, codes.UNKNOWN_NAME, f"unknown {what} `{name}`", advice)


def _vocabulary(located: Located[VocabularyDocument]) -> Iterator[Diagnostic]:
    words = located.document
    yield from duplicates(located, ("channels",), [c.id for c in words.channels], "the channel", "id")
    yield from duplicates(located, ("languages",), words.languages, "the language")
    yield from duplicates(located, ("identity_types",), words.identity_types, "the identity type")
    yield from duplicates(located, ("context",), [c.name for c in words.context], "the context field", "name")
    yield from duplicates(located, ("signals",), [s.name for s in words.signals], "the signal", "name")
    for i, channel in enumerate(words.channels):
        yield from duplicates(located, ("channels", i, "placements"), channel.placements, "the placement")
    for i, entry in enumerate(words.context):
        yield from duplicates(located, ("context", i, "values"), entry.values, "the value")
        if entry.values and entry.type not in (InputType.STRING, InputType.STRING_LIST):
            place: Path = ("context", i, "values")
            message = "`values` are for texts and lists of them"
            yield located.problem(place, codes.WRONG_VALUE, message, "remove them")
    starts = list(words.churn_bands.values())
    if starts[0] != 0.0 or any(low >= high for low, high in pairwise(starts)):
        advice = "write e.g. {low: 0.0, medium: 0.3, high: 0.55}"
        message = "churn bands must begin at 0.0 and ascend"
        yield located.problem(("churn_bands",), codes.UNORDERED_BANDS, message, advice)


def _glance(rules: RuleSet, located: Located[VocabularyDocument]) -> Iterator[Diagnostic]:
    """What is shown first are features and signals that there are; what customers are worth ascends."""
    glance = located.document.glance
    features = [feature.name for feature in rules.schema.feature]
    signals = [signal.name for signal in located.document.signals]
    for i, name in enumerate(glance.facts):
        yield from check_name(located, ("glance", "facts", i), name, features, "feature")
    for i, name in enumerate(glance.issues):
        yield from check_name(located, ("glance", "issues", i), name, signals, "signal")
    if glance.value is None:
        return
    yield from check_name(located, ("glance", "value", "feature"), glance.value.feature, features, "feature")
    starts = list(glance.value.bands.values())
    if any(low >= high for low, high in pairwise(starts)):
        advice = "write e.g. {low: 0.0, medium: 40.0, high: 80.0}"
        place: Path = ("glance", "value", "bands")
        yield located.problem(place, codes.UNORDERED_BANDS, "the bands must ascend", advice)


def _requested_features(rules: RuleSet, located: Located[VocabularyDocument]) -> Iterator[Diagnostic]:
    """A context field that is also a feature of each request must be of its type."""
    requested = {feature.name: feature_input(feature).type for _, feature in rules.schema.requested}
    for i, entry in enumerate(located.document.context):
        wanted = requested.get(entry.name)
        if wanted is not None and wanted is not entry.type:
            message = f"`{entry.name}` is a feature that comes with the request, of type {wanted}"
            place: Path = ("context", i, "type")
            yield located.problem(place, codes.WRONG_VALUE, message, f"write `type: {wanted}`")


def _catalogue(rules: RuleSet, located: Located[CatalogueDocument]) -> Iterator[Diagnostic]:
    catalogue = located.document
    actions = catalogue.actions
    yield from duplicates(located, ("groups",), catalogue.groups, "the group")
    yield from duplicates(located, ("actions",), [a.id for a in actions], "the action", "id")
    yield from _unique_treatments(located)
    for i, action in enumerate(actions):
        path: Path = ("actions", i)
        yield from check_name(located, (*path, "group"), action.group, catalogue.groups, "group")
        if rules.consent is not None:
            purposes = [p.id for p in rules.consent.document.purposes]
            if action.purpose not in purposes:
                message = f"the purpose `{action.purpose}` has no consent rule"
                advice = did_you_mean(action.purpose, purposes)
                yield located.problem((*path, "purpose"), codes.NO_CONSENT_RULE, message, advice)
        if not action.treatments:
            message = f"`{action.id}` has no treatment, so no channel can show it"
            yield located.problem(path, codes.NO_TREATMENT, message, "add `treatments`")
        yield from duplicates(located, (*path, "tags"), action.tags, "the tag")
        yield from _treatments(rules, located, path, action)


def _unique_treatments(located: Located[CatalogueDocument]) -> Iterator[Diagnostic]:
    seen: set[str] = set()
    for i, action in enumerate(located.document.actions):
        for j, treatment in enumerate(action.treatments):
            if treatment.id in seen:
                place: Path = ("actions", i, "treatments", j, "id")
                message = f"the treatment `{treatment.id}` is declared twice"
                yield located.problem(place, codes.DECLARED_TWICE, message, "rename one of them")
            seen.add(treatment.id)


def _treatments(
    rules: RuleSet, located: Located[CatalogueDocument], path: Path, action: ActionEntry
) -> Iterator[Diagnostic]:
    channels = {c.id: c for c in rules.vocabulary.document.channels} if rules.vocabulary else None
    for j, treatment in enumerate(action.treatments):
        place: Path = (*path, "treatments", j)
        if channels is not None:
            yield from check_name(located, (*place, "channel"), treatment.channel, channels, "channel")
            if treatment.channel in channels:
                known = channels[treatment.channel].placements
                what = f"placement of {treatment.channel}"
                for k, name in enumerate(treatment.placements):
                    yield from check_name(located, (*place, "placements", k), name, known, what)
        for other in action.treatments[:j]:
            if _overlap(treatment, other):
                message = f"`{treatment.id}` and `{other.id}` are for the same place on {other.channel}"
                advice = "give each placements of its own"
                yield located.problem(place, codes.OVERLAPPING_TREATMENTS, message, advice)


def _overlap(one: TreatmentEntry, other: TreatmentEntry) -> bool:
    if one.channel != other.channel:
        return False
    return not (one.placements and other.placements) or not set(one.placements).isdisjoint(other.placements)


def _consent(rules: RuleSet) -> Iterator[Diagnostic]:
    located = rules.consent
    if located is None:
        return
    purposes = [p.id for p in located.document.purposes]
    yield from duplicates(located, ("purposes",), purposes, "the purpose", "id")
    profiling = located.document.profiling_purpose
    if profiling not in purposes:
        message = f"the profiling purpose `{profiling}` is not declared"
        advice = did_you_mean(profiling, purposes)
        yield located.problem(("profiling_purpose",), codes.NO_PROFILING, message, advice)
    for i, name in enumerate(() if located.document.gpc is None else located.document.gpc.purposes):
        yield from check_name(located, ("gpc", "purposes", i), name, purposes, "purpose")
    if rules.vocabulary is not None:
        channels = [c.id for c in rules.vocabulary.document.channels]
        for i, purpose in enumerate(located.document.purposes):
            for channel in purpose.channels:
                place: Path = ("purposes", i, "channels", channel)
                yield from check_name(located, place, channel, channels, "channel")


def _unique_rule_ids(rules: RuleSet) -> Iterator[Diagnostic]:
    places: dict[str, str] = {}
    entries: list[tuple[Located[Document], Path, str]] = []
    for pack in rules.policy_packs:
        entries += [(pack, ("rules", i, "id"), r.id) for i, r in enumerate(pack.document.rules)]
    entries += [(table, ("id",), table.document.id) for table in rules.decision_tables]
    for contact in rules.contact_packs:
        entries += [(contact, ("policies", i, "id"), p.id) for i, p in enumerate(contact.document.policies)]
    for located, path, name in entries:
        if name in places:
            message = f"the rule `{name}` is declared twice"
            yield located.problem(
                path, codes.DECLARED_TWICE, message, f"it is also in {places[name]}; rename one"
            )
        places.setdefault(name, f"{located.yaml.file}:{located.yaml.place(path)[0]}")


def _rule(rules: RuleSet, pack: Located[Document], path: Path, rule: RuleEntry) -> Iterator[Diagnostic]:
    yield from check_scope(rules, pack, path, rule.applies_to)
    yield from check_reason(rules, pack, (*path, "reason"), rule.reason)
    yield from check_reason(rules, pack, (*path, "otherwise"), rule.otherwise)
    gate = rule.effect in (Effect.ALLOW, Effect.DENY)
    wanted = {
        "class": (rule.policy_class, gate),
        "share": (rule.share, rule.effect is Effect.LEVER),
        "factor": (rule.factor, rule.effect is Effect.WEIGHT),
        "otherwise": (rule.otherwise, rule.effect is Effect.ALLOW),
        "reason": (rule.reason, rule.effect is not Effect.ALLOW),
    }
    for name, (value, needed) in wanted.items():
        if needed and value is None:
            message = f"a rule with effect `{rule.effect.value}` needs `{name}`"
            yield pack.problem((*path, "effect"), codes.UNFIT_EFFECT, message, f"add `{name}`")
        elif value is not None and not needed and name != "reason":
            message = f"`{name}` is not for rules with effect `{rule.effect.value}`"
            yield pack.problem((*path, name), codes.UNFIT_EFFECT, message, "remove it")


def _table(rules: RuleSet, located: Located[DecisionTableDocument]) -> Iterator[Diagnostic]:
    table = located.document
    yield from check_scope(rules, located, (), table.applies_to)
    yield from check_reason(rules, located, ("reason",), table.reason)
    yield from check_reason(rules, located, ("otherwise",), table.otherwise)
    for i, row in enumerate(table.rows):
        yield from check_reason(rules, located, ("rows", i, "reason"), row.reason)
    ids = [row.id or f"row-{i}" for i, row in enumerate(table.rows, start=1)]
    yield from duplicates(located, ("rows",), ids, "the row", "id")


def check_reason(
    rules: RuleSet, pack: Located[Document], path: Path, code: str | None
) -> Iterator[Diagnostic]:
    """A reason that a rule gives has words."""
    if code is not None and rules.knows_all_reasons and code not in rules.reasons:
        advice = did_you_mean(code, rules.reasons)
        yield pack.problem(path, codes.MISSING_REASON, f"the reason `{code}` has no words", advice)


def check_scope(rules: RuleSet, pack: Located[Document], path: Path, scope: Scope) -> Iterator[Diagnostic]:
    """What a scope names is in the catalogue, and some action is in it."""
    if rules.catalogue is None:
        return
    named = (
        ("groups", scope.groups, "group"),
        ("actions", scope.actions, "action"),
        ("purposes", scope.purposes, "purpose of actions"),
        ("tags", scope.tags, "tag of actions"),
    )
    unknown = [
        found
        for field, names, what in named
        for i, name in enumerate(names)
        for found in check_name(pack, (*path, "applies_to", field, i), name, rules.action_names[field], what)
    ]
    yield from unknown
    if not unknown and not any(rules.in_scope(scope)):
        message = "no action of the catalogue is in this scope"
        advice = "all that are given must match one action; loosen one of them"
        yield pack.problem((*path, "applies_to"), codes.NOTHING_IN_SCOPE, message, advice)
