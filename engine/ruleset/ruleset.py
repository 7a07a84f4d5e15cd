"""One rule set as typed documents, before it is checked as a whole and compiled.

Any part may be absent because its file is wrong; checks then speak of what is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from engine.core.rulebook import ContextField, Input, InputType
from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.documents import (
    KINDS,
    ActionEntry,
    ArbitrationDocument,
    CatalogueDocument,
    ConsentPolicyDocument,
    ContactPackDocument,
    Document,
    PolicyPackDocument,
    ReasonCatalogueDocument,
    ReasonEntry,
    RuleEntry,
    Scope,
    SegmentPackDocument,
    VocabularyDocument,
)
from engine.ruleset.reading import D, Located, Reading
from engine.ruleset.table_documents import DecisionTableDocument
from engine.ruleset.yamltree import Path
from feature_store.schema import DataClass, Feature, FeatureSchema

_FEATURE_TYPES = {"bool": InputType.BOOL, "int": InputType.INT, "double": InputType.DOUBLE}
_ONCE = (VocabularyDocument, CatalogueDocument, ConsentPolicyDocument, ArbitrationDocument)


@dataclass(frozen=True)
class RuleSet:
    """The documents of one set, what they are typed by, and the codes models give reasons with."""

    reading: Reading
    schema: FeatureSchema
    model_reasons: frozenset[str]
    table_entries: tuple[RuleEntry, ...] = ()  # rules made from the rows of decision tables

    @classmethod
    def of(cls, reading: Reading, schema: FeatureSchema, model_reasons: Collection[str]) -> RuleSet:
        """The set of all documents that could be typed."""
        return cls(reading, schema, frozenset(model_reasons))

    @cached_property
    def vocabulary(self) -> Located[VocabularyDocument] | None:
        """What requests and rules may name."""
        return self._first(VocabularyDocument)

    @cached_property
    def catalogue(self) -> Located[CatalogueDocument] | None:
        """All actions."""
        return self._first(CatalogueDocument)

    @cached_property
    def consent(self) -> Located[ConsentPolicyDocument] | None:
        """All purposes."""
        return self._first(ConsentPolicyDocument)

    @cached_property
    def arbitration(self) -> Located[ArbitrationDocument] | None:
        """How candidates are cut."""
        return self._first(ArbitrationDocument)

    @cached_property
    def reason_catalogues(self) -> tuple[Located[ReasonCatalogueDocument], ...]:
        """The words of reasons, which may be in several files."""
        return self.reading.of_kind(ReasonCatalogueDocument)

    @cached_property
    def policy_packs(self) -> tuple[Located[PolicyPackDocument], ...]:
        """Rules, in order of their files."""
        return self.reading.of_kind(PolicyPackDocument)

    @cached_property
    def decision_tables(self) -> tuple[Located[DecisionTableDocument], ...]:
        """Decision tables, in order of their files; `tablerules.py` makes rules of them."""
        return self.reading.of_kind(DecisionTableDocument)

    @cached_property
    def segment_packs(self) -> tuple[Located[SegmentPackDocument], ...]:
        """Named conditions, in order of their files."""
        return self.reading.of_kind(SegmentPackDocument)

    @cached_property
    def contact_packs(self) -> tuple[Located[ContactPackDocument], ...]:
        """Contact policies, in order of their files."""
        return self.reading.of_kind(ContactPackDocument)

    @cached_property
    def actions(self) -> tuple[ActionEntry, ...]:
        """The actions of the catalogue; none where it could not be read."""
        return self.catalogue.document.actions if self.catalogue else ()

    @cached_property
    def reasons(self) -> Mapping[str, ReasonEntry]:
        """Reason code to its words."""
        return {r.code: r for located in self.reason_catalogues for r in located.document.reasons}

    @cached_property
    def knows_all_reasons(self) -> bool:
        """Whether a code that is not in `reasons` is really unknown."""
        return bool(self.reason_catalogues) and not self.reading.has_unread("ReasonCatalogue")

    @cached_property
    def context(self) -> tuple[ContextField, ...]:
        """What requests may bring: the declared fields, then the features that come with each request."""
        assert self.vocabulary  # else there is none to ask for
        declared = {
            c.name: ContextField(c.name, c.type, c.description, c.values)
            for c in self.vocabulary.document.context
        }
        requested = {
            f.name: ContextField(f.name, feature_input(f).type, f.description, f.categories)
            for _, f in self.schema.requested
        }
        return tuple((requested | declared).values())

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """What conditions may read, in the order of `Frame.values`; features first, in schema order."""
        inputs = [feature_input(feature) for feature in self.schema.feature]
        if self.vocabulary is not None:
            words = self.vocabulary.document
            inputs += [Input(f"context.{c.name}", c.type) for c in self.context]
            inputs += [Input(f"signals.{s.name}", InputType.BOOL, behavioural=True) for s in words.signals]
        if self.consent is not None:
            inputs += [Input(f"consents.{p.id}", InputType.BOOL) for p in self.consent.document.purposes]
        inputs += [Input(f"request.{n}", InputType.STRING) for n in ("channel", "placement", "language")]
        inputs.append(Input("scores.churn", InputType.DOUBLE, behavioural=True))
        return tuple({declared.name: declared for declared in inputs}.values())

    @cached_property
    def domains(self) -> Mapping[str, tuple[str, ...]]:
        """Text inputs and fields of `action` that have fixed values, by full name."""
        domains = {f"features.{f.name}": f.categories for f in self.schema.feature if f.type == "category"}
        if self.vocabulary is not None:
            words = self.vocabulary.document
            domains |= {f"context.{c.name}": c.values for c in self.context if c.values}
            domains["request.channel"] = tuple(c.id for c in words.channels)
            domains["request.placement"] = ("", *(p for c in words.channels for p in c.placements))
            domains["request.language"] = words.languages
        if self.catalogue is not None:
            domains |= _action_domains(self.catalogue.document)
        return domains

    def in_scope(self, scope: Scope) -> tuple[bool, ...]:
        """For every action whether a rule with this scope is for it."""
        if scope not in self._in_scope:
            self._in_scope[scope] = tuple(_matches(scope, action) for action in self.actions)
        return self._in_scope[scope]

    @cached_property
    def _in_scope(self) -> dict[Scope, tuple[bool, ...]]:
        """What was found for scopes: many rules share one."""
        return {}

    @cached_property
    def action_names(self) -> Mapping[str, Collection[str]]:
        """What scopes may name, by the field they name it in."""
        groups = self.catalogue.document.groups if self.catalogue is not None else ()
        return {
            "groups": groups,
            "actions": [action.id for action in self.actions],
            "purposes": {action.purpose for action in self.actions},
            "tags": {tag for action in self.actions for tag in action.tags},
        }

    def wrong_documents(self) -> Iterator[Diagnostic]:
        """Kinds of which there must be one and is not."""
        names = {model: kind for kind, model in KINDS.items()}
        for model in _ONCE:
            found = self.reading.of_kind(model)
            for again in found[1:]:
                message = f"a second document of kind `{names[model]}`"
                advice = f"the first is {found[0].yaml.file}; join them"
                yield again.problem(("kind",), codes.WRONG_DOCUMENTS, message, advice)
            if not found and not self.reading.has_unread(names[model]):
                yield _no_document(names[model])
        if not self.reason_catalogues and not self.reading.has_unread("ReasonCatalogue"):
            yield _no_document("ReasonCatalogue")

    def _first(self, kind: type[D]) -> Located[D] | None:
        found = self.reading.of_kind(kind)
        return found[0] if found else None


def duplicates(
    located: Located[Document], path: Path, names: Collection[str], what: str, field: str = ""
) -> Iterator[Diagnostic]:
    """Names in a list at `path` that are there already; `field` is where an entry holds its name."""
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            place = (*path, i, field) if field else (*path, i)
            message = f"{what} `{name}` is declared twice"
            yield located.problem(place, codes.DECLARED_TWICE, message, "rename or remove one of them")
        seen.add(name)


def _no_document(kind: str) -> Diagnostic:
    message = f"the rule set has no document of kind `{kind}`"
    return Diagnostic("(rule set)", 1, 1, codes.WRONG_DOCUMENTS, message, "add one; rules/README.md shows it")


def feature_input(feature: Feature) -> Input:
    """What conditions read of a feature."""
    behavioural = feature.data_class is DataClass.BEHAVIOURAL
    return Input(f"features.{feature.name}", _FEATURE_TYPES.get(feature.type, InputType.STRING), behavioural)


def _action_domains(catalogue: CatalogueDocument) -> dict[str, tuple[str, ...]]:
    actions = catalogue.actions
    return {
        "action.id": tuple(a.id for a in actions),
        "action.group": catalogue.groups,
        "action.purpose": tuple(dict.fromkeys(a.purpose for a in actions)),
        "action.target": ("", *dict.fromkeys(a.target for a in actions if a.target)),
        "action.tags": tuple(dict.fromkeys(tag for a in actions for tag in a.tags)),
    }


def _matches(scope: Scope, action: ActionEntry) -> bool:
    return (
        (not scope.groups or action.group in scope.groups)
        and (not scope.actions or action.id in scope.actions)
        and (not scope.purposes or action.purpose in scope.purposes)
        and (not scope.tags or not set(scope.tags).isdisjoint(action.tags))
    )
