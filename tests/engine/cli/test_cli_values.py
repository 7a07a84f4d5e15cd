"""Values typed at a command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from engine._pb.arbiter.v1 import types_pb2
from engine.cli import values


@pytest.mark.parametrize(
    ("fact", "kind", "value"),
    [
        ("x=true", "bool_value", True),
        ("x=false", "bool_value", False),
        ("x=-5", "int_value", -5),
        ("x=5.0", "double_value", 5.0),
        ("x=1.5e3", "double_value", 1500.0),
        ("x=cancel", "string_value", "cancel"),
        ("x=", "string_value", ""),
        ("x=nan", "string_value", "nan"),
        ("x=1_000", "string_value", "1_000"),
        ("x=a=b:c", "string_value", "a=b:c"),
        ("x:string=1", "string_value", "1"),
        ("x:string=true", "string_value", "true"),
        ("x:string=2026-01-31", "string_value", "2026-01-31"),
        ("x:double=5", "double_value", 5.0),
    ],
)
def test_a_fact_takes_its_type_from_its_looks_unless_it_says_one(fact: str, kind: str, value: object) -> None:
    """Looks decide; NAME:TYPE=VALUE overrules them."""
    found = values.context([fact])["x"]

    assert (found.WhichOneof("kind"), getattr(found, kind)) == (kind, value)


@pytest.mark.parametrize(
    "text", ["2026-01-31T08:00", "2026-01-31T08:00Z", "2026-01-31 08:00", "2026-01-31T09:00+01:00"]
)
def test_an_instant_without_a_zone_is_utc(text: str) -> None:
    """All four name the same instant."""
    found = values.context([f"x={text}"])["x"].timestamp_value.ToDatetime(UTC)

    assert found == datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "facts",
    [
        ["x"],
        ["=1"],
        ["x:float=1"],
        ["x:int=one"],
        ["x:bool=1"],
        ["x=99999999999999999999"],
        ["x=2026-02-31"],
        ["x=1", "x=2"],
    ],
)
def test_a_fact_of_the_wrong_form_is_refused(facts: list[str]) -> None:
    """Nothing is guessed where a fact does not say what it means."""
    with pytest.raises(typer.BadParameter):
        values.context(facts)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_can_be_given_as_a_string(text: str) -> None:
    """NAME:string=VALUE takes the value as it is."""
    found = values.context([f"page:string={text}"])

    assert found == {"page": types_pb2.ContextValue(string_value=text)}


@pytest.mark.parametrize("text", ["phone", "=1", "phone="])
def test_an_identity_needs_type_and_value(text: str) -> None:
    """Half an identity is none."""
    with pytest.raises(typer.BadParameter):
        values.identity(text)


@pytest.mark.parametrize(
    ("fact", "kind", "held"),
    [
        ('x=["home", "cancel"]', "string_list", ["home", "cancel"]),
        ("x=[1, 2]", "int_list", [1, 2]),
        ("x=[1, 2.5]", "double_list", [1.0, 2.5]),
        ("x:list<double>=[1, 2]", "double_list", [1.0, 2.0]),
        ("x=[]", "string_list", []),
        ("x:list<int>=[]", "int_list", []),
    ],
)
def test_a_list_is_typed_as_json_has_it(fact: str, kind: str, held: list[object]) -> None:
    """By its elements, unless the fact says what it is."""
    found = values.context([fact])["x"]

    assert (found.WhichOneof("kind"), list(getattr(found, kind).values)) == (kind, held)


def test_a_map_of_numbers_is_typed_as_json_has_it() -> None:
    """Keys are texts."""
    found = values.context(['x={"tv": 2, "internet": 0.5}'])["x"]

    assert dict(found.double_map.values) == {"tv": 2.0, "internet": 0.5}


@pytest.mark.parametrize("text", ["[home", "{internet", "[1, 2"])
def test_what_only_begins_like_a_list_is_text(text: str) -> None:
    """A bracket alone makes no list."""
    assert values.context([f"x={text}"])["x"].string_value == text


@pytest.mark.parametrize(
    "fact",
    [
        'x=[1, "a"]',
        "x=[[1]]",
        "x=[true]",
        "x=[null]",
        'x={"a": "b"}',
        "x:list<int>=[1.5]",
        "x:list<string>=home",
        'x:map<string,double>=["a"]',
        "x:list<double>={}",
        "x=[99999999999999999999]",
    ],
)
def test_a_list_that_no_field_can_hold_is_refused(fact: str) -> None:
    """Before anything is asked."""
    with pytest.raises(typer.BadParameter, match="--context"):
        values.context([fact])
