"""Features that come with the request: rules read them, requests may bring them, and types agree."""

from __future__ import annotations

from small_ruleset import SCHEMA, base_texts

from engine.core.rulebook import InputType
from engine.ruleset.build import build_rulebook, check
from engine.ruleset.sources import RuleSources
from engine.service.requests import DecisionQuery, RequestInvalid, check_query
from feature_store.schema import Feature, FeatureSchema, View


def schema_with(*features: Feature) -> FeatureSchema:
    moment = View(name="moment", kind="request", owner="tests", description="Now")
    views, all_features = (*SCHEMA.view, moment), (*SCHEMA.feature, *features)
    return FeatureSchema(name="small", version=2, view=views, feature=all_features)


def of_request(name: str, kind: str, categories: tuple[str, ...] = ()) -> Feature:
    return Feature(
        name=name,
        view="moment",
        type=kind,  # type: ignore[arg-type]
        data_class="contractual",  # type: ignore[arg-type]
        description="From the request",
        categories=categories,
    )


MOOD = of_request("mood", "category", ("calm", "cross"))
SOURCES = RuleSources.from_mapping(base_texts())


def violations(book_schema: FeatureSchema, **context: tuple[InputType, object]) -> list[str]:
    """What is wrong with a request that brings these facts."""
    book = build_rulebook(SOURCES, book_schema)
    try:
        check_query(DecisionQuery(customer_id="c1", channel="web", context=context), book)  # type: ignore[arg-type]
    except RequestInvalid as error:
        return [violation.field for violation in error.violations]
    return []


def test_feature_of_the_request_is_a_context_field() -> None:
    """It need not be declared twice: a request may bring it, in its type and with its categories."""
    schema = schema_with(MOOD)

    assert violations(schema, mood=(InputType.STRING, "calm")) == []
    assert violations(schema, mood=(InputType.STRING, "glad")) == ["context[mood]"]
    assert violations(schema, mood=(InputType.INT, 1)) == ["context[mood]"]
    assert violations(SCHEMA, mood=(InputType.STRING, "calm")) == ["context[mood]"]


def test_inputs_of_the_request_stand_beside_its_features() -> None:
    """Conditions may read both names; places of features stay those of the schema."""
    names = [i.name for i in build_rulebook(SOURCES, schema_with(MOOD)).vocabulary.inputs]

    assert names.index("features.mood") == len(SCHEMA.feature)
    assert "context.mood" in names


def test_context_field_of_the_same_name_needs_the_same_type() -> None:
    """One name for two types is an error at the vocabulary's line; for one type it is fine."""
    same, other = schema_with(of_request("basket", "double")), schema_with(of_request("basket", "int"))

    fine, found = check(SOURCES, same), check(SOURCES, other)

    new = [problem for problem in found if problem not in fine]
    assert [(problem.file, "`basket` is a feature" in problem.message) for problem in new] == [
        ("vocabulary.yaml", True)
    ]
