"""Lists and maps on their way from a request to a condition and into the log."""

from __future__ import annotations

import dataclasses

import pytest
from small_ruleset import SCHEMA, base_texts

from engine._pb.arbiter.v1 import decision_service_pb2, types_pb2
from engine.api.reading import decision_query
from engine.core.inputs import layout_of
from engine.core.rulebook import TRUE, Frame, InputType, Rulebook
from engine.errors import RequestInvalid
from engine.ruleset.build import build_rulebook
from engine.ruleset.sources import RuleSources
from engine.service.requests import DecisionQuery, check_query, to_request

_FIELDS = """\
  - {name: seen_pages, type: list<string>, values: [home, cancel], description: Pages of this visit}
  - {name: use, type: "map<string,double>", description: Use by product}
"""
_RULE = """\
  - id: extra
    class: suitability
    applies_to: {}
    when: '"cancel" in context.seen_pages && context.use.internet > 2.0'
    effect: deny
    reason: TOO_OFTEN
    state: active
"""


def _rulebook() -> Rulebook:
    texts = base_texts()
    words = texts["vocabulary.yaml"]
    texts["vocabulary.yaml"] = words.replace("context:\n", f"context:\n{_FIELDS}", 1)
    return build_rulebook(
        RuleSources.from_mapping({**texts, "rules.yaml": texts["rules.yaml"] + _RULE}), SCHEMA
    )


def _query(rulebook: Rulebook, pages: list[str], use: dict[str, float]) -> DecisionQuery:
    request = decision_service_pb2.DecideRequest(
        customer_id="c-1", channel=next(iter(rulebook.vocabulary.channels))
    )
    request.context["seen_pages"].string_list.values.extend(pages)
    request.context["use"].double_map.values.update(use)
    return decision_query(request)


def test_a_list_of_a_request_is_read_by_a_rule() -> None:
    """What the protobuf request holds is what `in` and an index find."""
    rulebook = _rulebook()
    query = _query(rulebook, ["home", "cancel"], {"internet": 2.5})
    check_query(query, rulebook)
    context = to_request(query, "c-1", rulebook.vocabulary).context

    values: list[object] = [None] * len(rulebook.vocabulary.inputs)
    for name, place in layout_of(rulebook).context.items():
        values[place] = context.get(name)
    missing = sum(1 << i for i, value in enumerate(values) if value is None)
    truths = rulebook.before_scores.evaluate(Frame(values, missing, 0))
    place = [rule.id for rule in rulebook.before_scores.rules].index("extra")

    assert context == {"seen_pages": ("home", "cancel"), "use": {"internet": 2.5}}
    assert set(truths[place].tolist()) == {TRUE}


@pytest.mark.parametrize(
    ("pages", "use", "words"),
    [
        (["home"] * 257, {}, "more than 256 elements"),
        (["nowhere"], {}, "is none of home, cancel"),
        (["home"], {"internet": float("nan")}, "not a finite number"),
        (["home"], {"x" * 2_000: 1.0}, "at most 1024"),
    ],
)
def test_elements_are_checked_like_values(pages: list[str], use: dict[str, float], words: str) -> None:
    """Length, allowed values and finiteness hold for each element."""
    rulebook = _rulebook()

    with pytest.raises(RequestInvalid) as refused:
        check_query(_query(rulebook, pages, use), rulebook)

    assert any(words in v.description for v in refused.value.violations)


def test_a_value_where_a_list_is_declared_is_refused() -> None:
    """The kind of value must be the declared one."""
    rulebook = _rulebook()
    query = _query(rulebook, [], {})
    single = dataclasses.replace(query, context={"seen_pages": (InputType.STRING, "home")})

    with pytest.raises(RequestInvalid, match=r"list<string>|invalid"):
        check_query(single, rulebook)


def test_every_kind_of_list_has_its_type() -> None:
    """Lists arrive as tuples and maps as dicts, typed by the field that holds them."""
    request = decision_service_pb2.DecideRequest(customer_id="c-1", channel="web")
    request.context["i"].CopyFrom(types_pb2.ContextValue(int_list=types_pb2.IntList(values=[1, 2])))
    request.context["d"].CopyFrom(types_pb2.ContextValue(double_list=types_pb2.DoubleList(values=[1.5])))

    context = decision_query(request).context

    assert context == {"i": (InputType.INT_LIST, (1, 2)), "d": (InputType.DOUBLE_LIST, (1.5,))}
