"""Scores and explains customers with the promoted models; what the pipeline asks of models.

Everything that depends on the models, the schema and the catalogue alone is worked out when a scorer is
built. A scorer is immutable and keeps no buffers, so request threads share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from engine.core.scoring import Contribution, ScoringError, Vector
from engine.domain import Action
from engine.models.errors import ModelRefused
from engine.models.links import OF_CLASSIFIERS
from engine.models.loading import ServingModel, load_model
from engine.models.reason_codes import ConceptReasons, Shown, concept_reasons
from engine.models.trees import Flags, Floats, Places, Rows
from engine.models.walking import Walk, walk_of
from feature_store.schema import FeatureSchema
from model_registry import PublishedModel, Root, open_alias, open_version, resolve
from model_registry.aliases import CHAMPION
from model_registry.errors import AliasUnknown, ModelNotFound, RegistryError

CHURN: Literal["churn"] = "churn"
PROPENSITY: Literal["propensity"] = "propensity"
TARGET_PREFIX = "target."
_NO_TARGET = -1


@dataclass(frozen=True, slots=True, eq=False)
class ModelRows:
    """How a customer's stored vector becomes a model's input row.

    `feature_columns` (features used,) are columns of the row, `vector_places` where their values are in
    a vector of `vector_size` values.
    """

    model: str
    width: int
    vector_size: int
    feature_columns: Places
    vector_places: Places

    def fill(self, vector: Vector) -> Rows:
        """The row with the customer's features and 0 elsewhere, shape (width,). Raises ScoringError."""
        if vector.shape != (self.vector_size,):
            cause = f"the vector has shape {vector.shape}, the feature schema ({self.vector_size},)"
            raise ScoringError(self.model, cause)
        row: Rows = np.zeros(self.width, dtype=np.float32)
        row[self.feature_columns] = vector[self.vector_places]
        return row

    def fill_many(self, vectors: Rows) -> Rows:
        """The rows of many customers, shape (n, width). Raises ScoringError."""
        if vectors.ndim != 2 or vectors.shape[1] != self.vector_size:
            cause = f"the vectors have shape {vectors.shape}, the feature schema (n, {self.vector_size})"
            raise ScoringError(self.model, cause)
        rows: Rows = np.zeros((len(vectors), self.width), dtype=np.float32)
        rows[:, self.feature_columns] = vectors[:, self.vector_places]
        return rows


@dataclass(frozen=True, slots=True)
class Margins:
    """Where shares of a score begin and end, in log-odds: what is expected of anybody, and the customer's."""

    expected: float
    own: float


@dataclass(frozen=True, slots=True, eq=False)
class ChurnScoring:
    """The churn model and its way from vectors to rows and reasons."""

    model: ServingModel
    rows: ModelRows
    reasons: ConceptReasons
    shown: Shown

    def probability(self, vector: Vector) -> float:
        """Probability of churn."""
        return float(self.model.session.probability(self.rows.fill(vector)[None, :])[0])

    def margins(self, vector: Vector) -> Margins:
        """Between what the shares of all concepts lie."""
        return _margins(self.model.shapley.contributions(self.rows.fill(vector)))

    def explain(self, vector: Vector) -> tuple[Contribution, ...]:
        """The concepts that drive it."""
        row = self.rows.fill(vector)
        return self.reasons.tell(self.model.shapley.contributions(row), row, shown=self.shown)


@dataclass(frozen=True, slots=True, eq=False)
class PropensityScoring:
    """The propensity model. Actions with one target have one probability, scored once.

    `target_of` (actions,) is each action's target, -1 where the model knows none. `templates` (targets,
    inputs) hold what is added to a filled row: 1 for the target asked, NaN for inputs hidden when it is
    asked, else 0. `shown` are, for each target, the inputs that reasons may show. `walk` scores the targets
    of one customer together, where it can.
    """

    model: ServingModel
    rows: ModelRows
    reasons: ConceptReasons
    target_of: Places
    templates: Rows
    shown: Sequence[Shown]
    walk: Walk | None = None

    def probabilities(self, vector: Vector, actions: Places) -> Floats:
        """Probability of acceptance of each action, NaN where its target is not known, shape (n,)."""
        targets = self.target_of[actions]
        asked = np.zeros(len(self.templates), dtype=np.bool_)
        asked[targets[targets != _NO_TARGET]] = True
        by_target = np.full(len(self.templates) + 1, np.nan)  # the last, -1, is for no target
        if asked.any():
            by_target[:-1][asked] = self._of_asked(vector, asked)
        found: Floats = by_target[targets]
        return found

    def _of_asked(self, vector: Vector, asked: Flags) -> Floats:
        row, walked = self.rows.fill(vector), self.model.walked
        if self.walk is None or walked is None:
            return self.model.session.probability(self.templates[asked] + row)
        return walked.link.scores(self.walk.margins(row, asked))

    def of_targets(self, vectors: Rows) -> Floats:
        """Probability of each target for many customers, shape (n, targets). Raises ScoringError."""
        rows = self.rows.fill_many(vectors)[:, None, :] + self.templates[None, :, :]
        flat = self.model.session.probability(np.ascontiguousarray(rows.reshape(-1, rows.shape[2])))
        return flat.reshape(len(vectors), len(self.templates))

    def margins(self, vector: Vector, action: int) -> Margins | None:
        """Between what the shares of an action's concepts lie; None where its target is not known."""
        target = int(self.target_of[action])
        if target == _NO_TARGET:
            return None
        return _margins(self.model.shapley.contributions(self.templates[target] + self.rows.fill(vector)))

    def explain(self, vector: Vector, actions: Sequence[int]) -> list[tuple[Contribution, ...]]:
        """The concepts that drive each action's probability; empty where its target is not known."""
        targets = self.target_of[list(actions)].tolist()
        known = [target for target in targets if target != _NO_TARGET]
        rows = self.templates[known] + self.rows.fill(vector)
        contributions = self.model.shapley.contributions_of_many(rows)
        told = [
            self.reasons.tell(shares, row, shown=self.shown[target])
            for target, shares, row in zip(known, contributions, rows, strict=True)
        ]
        found = iter(told)
        return [() if target == _NO_TARGET else next(found) for target in targets]


class OnnxScorer:
    """`engine.core.scoring.Scorer` on the promoted models; build it with `build_scorer`."""

    def __init__(
        self,
        *,
        churn: ChurnScoring | None,
        propensity: PropensityScoring | None,
        unscored: tuple[str, ...] = (),
        actions: int = 0,
    ) -> None:
        """`actions` is how many the catalogue has."""
        self._churn = churn
        self._propensity = propensity
        self._unscored = unscored
        self._actions = actions
        loaded = [scoring.model.manifest for scoring in (churn, propensity) if scoring is not None]
        self._versions = MappingProxyType({manifest.name: manifest.version for manifest in loaded})

    @property
    def versions(self) -> Mapping[str, int]:
        """Model name to version, of the models that may score."""
        return self._versions

    @property
    def unscored(self) -> tuple[str, ...]:
        """Ids of actions that name a target no loaded model knows: their prior is used. Worth a warning."""
        return self._unscored

    def for_catalogue(self, actions: tuple[Action, ...]) -> OnnxScorer:
        """The same models for another catalogue, without loading them again."""
        propensity = self._propensity
        if propensity is not None:
            propensity = replace(propensity, target_of=_targets_of(actions, propensity.model))
        return OnnxScorer(
            churn=self._churn,
            propensity=propensity,
            unscored=_unscored(actions, propensity.model if propensity is not None else None),
            actions=len(actions),
        )

    def churn(self, vector: Vector) -> float | None:
        """Probability of churn; None where no churn model is loaded."""
        return None if self._churn is None else self._churn.probability(vector)

    def propensity(self, vector: Vector, actions: Places) -> Floats:
        """Probability of acceptance, float64 of shape (n,); NaN where no model knows the action."""
        if self._propensity is None:
            return np.full(len(actions), np.nan)
        return self._propensity.probabilities(vector, actions)

    def churn_of_many(self, vectors: Rows) -> Floats | None:
        """Probability of churn for float32 vectors (n, features), shape (n,); None without a churn model."""
        if self._churn is None:
            return None
        return self._churn.model.session.probability(self._churn.rows.fill_many(vectors))

    def targets_of_many(self, vectors: Rows) -> Floats:
        """Probability of each target, shape (n, targets + 1); the last column, NaN, is for no target."""
        known = (
            np.empty((len(vectors), 0)) if self._propensity is None else self._propensity.of_targets(vectors)
        )
        return np.column_stack([known, np.full(len(vectors), np.nan)])

    @property
    def target_of(self) -> Places:
        """The column of `targets_of_many` for each action of the catalogue; -1, the last, for none."""
        if self._propensity is None:
            return np.full(self._actions, _NO_TARGET, dtype=np.intp)
        return self._propensity.target_of

    def churn_margins(self, vector: Vector) -> Margins | None:
        """Between what the shares of churn lie; None where no churn model is loaded."""
        return None if self._churn is None else self._churn.margins(vector)

    def propensity_margins(self, vector: Vector, action: int) -> Margins | None:
        """The same of an action's acceptance; None where no model knows it."""
        return None if self._propensity is None else self._propensity.margins(vector, action)

    def explain_churn(self, vector: Vector) -> tuple[Contribution, ...]:
        """At most four concepts, strongest first."""
        return () if self._churn is None else self._churn.explain(vector)

    def explain_propensities(
        self, vector: Vector, actions: Sequence[int]
    ) -> Sequence[tuple[Contribution, ...]]:
        """Of each action at most four concepts, strongest first; empty where no model knows it."""
        if self._propensity is None:
            return [()] * len(actions)
        return self._propensity.explain(vector, actions)


def build_scorer(
    *,
    registry_root: Root,
    schema: FeatureSchema,
    actions: tuple[Action, ...],
    aliases: Mapping[str, str] | None = None,
    versions: Mapping[str, int] | None = None,
    allow_missing: bool = False,
    load: Callable[[PublishedModel], ServingModel] = load_model,
) -> OnnxScorer:
    """Loads and proves the models that the aliases name, for one catalogue.

    `aliases` are by model name, champion where not given. `versions` name past versions instead, e.g. for
    a replay; a model that is not among them is left out. With `allow_missing` a model that is not
    published or has no such alias is left out; a damaged one never is. `load` loads and proves a version.
    Raises ModelRefused.
    """
    wanted = {CHURN: CHAMPION, PROPENSITY: CHAMPION, **(aliases or {})}
    found: dict[str, ServingModel | None] = {}
    for kind in (CHURN, PROPENSITY):
        if versions is None:
            published = _promoted(registry_root, kind, wanted[kind], allow_missing=allow_missing)
        else:
            published = _past(registry_root, kind, versions.get(kind))
        found[kind] = None if published is None else _proven(published, kind, schema, load)
    churn, propensity = found[CHURN], found[PROPENSITY]
    return OnnxScorer(
        churn=None if churn is None else _churn_scoring(churn, schema),
        propensity=None if propensity is None else _propensity_scoring(propensity, schema, actions),
        unscored=_unscored(actions, propensity),
        actions=len(actions),
    )


def _margins(contributions: Floats) -> Margins:
    """Contributions of each input, and last what is expected."""
    return Margins(expected=float(contributions[-1]), own=float(contributions.sum()))


def _unscored(actions: tuple[Action, ...], propensity: ServingModel | None) -> tuple[str, ...]:
    known = set(propensity.manifest.targets) if propensity else set()
    return tuple(a.id for a in actions if a.target and a.target not in known)


def _targets_of(actions: tuple[Action, ...], propensity: ServingModel) -> Places:
    numbers = {target: number for number, target in enumerate(propensity.manifest.targets)}
    return np.array([numbers.get(a.target, _NO_TARGET) for a in actions], dtype=np.intp)


def _promoted(root: Root, kind: str, alias: str, *, allow_missing: bool) -> PublishedModel | None:
    try:
        resolve(root, kind, alias)
    except (ModelNotFound, AliasUnknown) as error:
        if allow_missing:
            return None
        raise ModelRefused(kind, cause=str(error)) from error
    except RegistryError as error:
        raise ModelRefused(kind, cause=str(error)) from error
    try:
        return open_alias(root, kind, alias)
    except RegistryError as error:
        raise ModelRefused(kind, cause=str(error)) from error


def _past(root: Root, kind: str, version: int | None) -> PublishedModel | None:
    try:
        return None if version is None else open_version(root, kind, version)
    except RegistryError as error:
        raise ModelRefused(kind, cause=str(error)) from error


def _proven(
    published: PublishedModel,
    kind: str,
    schema: FeatureSchema,
    load: Callable[[PublishedModel], ServingModel],
) -> ServingModel:
    manifest = published.manifest
    if manifest.kind not in OF_CLASSIFIERS:
        cause = (
            f"it is a model of kind {manifest.kind}, which this server does not score yet: register it "
            f"under another name than {kind}"
        )
        raise ModelRefused(kind, cause=cause)
    if manifest.kind != kind:
        raise ModelRefused(kind, cause=f"it is a {manifest.kind} model, published under the wrong name")
    if manifest.feature_schema != schema.name:
        cause = f"it reads feature schema {manifest.feature_schema!r}, this server has {schema.name!r}"
        raise ModelRefused(kind, cause=cause)
    names = {i.name for i in manifest.inputs if i.source == "feature"}
    unknown = sorted(names - schema.index.keys())
    if unknown:
        raise ModelRefused(kind, cause=f"schema {schema.name!r} has no feature {', '.join(unknown)}")
    return load(published)


def _model_rows(model: ServingModel, schema: FeatureSchema) -> ModelRows:
    inputs = model.manifest.inputs
    columns = [i for i, model_input in enumerate(inputs) if model_input.source == "feature"]
    return ModelRows(
        model=model.manifest.name,
        width=len(inputs),
        vector_size=len(schema.feature),
        feature_columns=np.array(columns, dtype=np.intp),
        vector_places=np.array([schema.index[inputs[i].name] for i in columns], dtype=np.intp),
    )


def _churn_scoring(model: ServingModel, schema: FeatureSchema) -> ChurnScoring:
    if any(i.source != "feature" for i in model.manifest.inputs):
        raise ModelRefused(CHURN, cause="it has inputs of targets, which only propensity models may have")
    reasons = concept_reasons(model.manifest, schema)
    return ChurnScoring(
        model=model,
        rows=_model_rows(model, schema),
        reasons=reasons,
        shown=reasons.shown(np.zeros(len(model.manifest.inputs), dtype=np.bool_)),
    )


def _propensity_scoring(
    model: ServingModel, schema: FeatureSchema, actions: tuple[Action, ...]
) -> PropensityScoring:
    manifest = model.manifest
    place = {model_input.name: i for i, model_input in enumerate(manifest.inputs)}
    one_hot = np.array([i.source == "target" for i in manifest.inputs])
    of_action = np.array([i.source == "action" for i in manifest.inputs])
    templates: Rows = np.zeros((len(manifest.targets), len(place)), dtype=np.float32)
    for number, target in enumerate(manifest.targets):
        column = place.get(TARGET_PREFIX + target)
        if column is None or not one_hot[column]:
            cause = f"target {target!r} has no input named {TARGET_PREFIX + target!r}"
            raise ModelRefused(PROPENSITY, cause=cause)
        templates[number, column] = 1.0
        for name, value in manifest.actions.get(target, {}).items():
            templates[number, place[name]] = np.nan if value is None else value
        templates[number, [place[name] for name in manifest.hidden.get(target, ())]] = np.nan
    rows, reasons = _model_rows(model, schema), concept_reasons(manifest, schema)
    return PropensityScoring(
        model=model,
        rows=rows,
        reasons=reasons,
        target_of=_targets_of(actions, model),
        templates=templates,
        shown=[reasons.shown(silent) for silent in np.isnan(templates) | one_hot | of_action],
        walk=(
            None
            if model.walked is None
            else walk_of(model.walked.ensemble, templates, own_columns=rows.feature_columns)
        ),
    )
