"""`arbiter decide` and `arbiter explain`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from engine._pb.arbiter.v1 import decision_service_pb2, types_pb2
from engine.cli import render
from engine.cli.common import (
    DEFAULT_TARGET,
    AsJson,
    DataDir,
    Local,
    Rules,
    Target,
    arbiter,
    out,
    print_json,
)

_DETAILS = {
    "summary": decision_service_pb2.EXPLANATION_DETAIL_SUMMARY,
    "standard": decision_service_pb2.EXPLANATION_DETAIL_STANDARD,
    "full": decision_service_pb2.EXPLANATION_DETAIL_FULL,
}


def decide(
    channel: Annotated[str, typer.Option(help="Channel, such as web, app or call_center.")],
    customer: Annotated[str | None, typer.Option(help="Customer id, such as C0001.")] = None,
    identity: Annotated[
        str | None, typer.Option(help="Instead of an id: TYPE=VALUE, such as phone=+41790000001.")
    ] = None,
    placement: Annotated[str, typer.Option(help="Placement on the channel.")] = "",
    context: Annotated[
        list[str] | None,
        typer.Option(help="A fact of the moment as NAME=VALUE; may be given several times."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="How many actions, 1 to 100; 3 by default.")] = None,
    language: Annotated[str, typer.Option(help="Language of the texts, such as en or fr.")] = "",
    detail: Annotated[str, typer.Option(help="summary, standard or full.")] = "standard",
    request_id: Annotated[str, typer.Option(help="Idempotency key: the same one gives the same reply.")] = "",
    target: Target = DEFAULT_TARGET,
    local: Local = False,
    data_dir: DataDir = None,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Decide for one customer on one channel now, and say why."""
    request = decision_service_pb2.DecideRequest(
        channel=channel,
        placement=placement,
        context=dict(_context(item) for item in context or ()),
        limit=limit,
        language=language,
        explanation_detail=_detail(detail),
        request_id=request_id,
    )
    _name_customer(request, customer, identity)
    with arbiter(target, local=local, data_dir=data_dir, rules=rules) as callee:
        response = callee.decide(request)
    if as_json:
        print_json(response)
        return
    out.print(f"[bold]{response.customer_id}[/] on {response.channel}")
    out.print(render.decision(response))


def explain(
    decision_id: Annotated[str, typer.Argument(help="Id of a decision.")],
    action: Annotated[str, typer.Option(help="Only this action's fate.")] = "",
    language: Annotated[str, typer.Option(help="Language of the texts.")] = "",
    target: Target = DEFAULT_TARGET,
    local: Local = False,
    data_dir: DataDir = None,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Explain a past decision: every candidate's fate, and what the rules saw."""
    request = decision_service_pb2.ExplainRequest(
        decision_id=decision_id, action_id=action, language=language
    )
    with arbiter(target, local=local, data_dir=data_dir, rules=rules) as callee:
        response = callee.explain(request)
    if as_json:
        print_json(response)
        return
    decision = response.decision
    out.print(f"[bold]{decision.customer_id}[/] on {decision.channel}")
    out.print(render.decision(decision))
    out.print(render.inputs(response.inputs))


def _name_customer(
    request: decision_service_pb2.DecideRequest, customer: str | None, identity: str | None
) -> None:
    if (customer is None) == (identity is None):
        raise typer.BadParameter("give either --customer or --identity")
    if identity is not None:
        kind, _, value = identity.partition("=")
        request.identity.type = kind
        request.identity.value = value
    elif customer is not None:
        request.customer_id = customer


def _detail(name: str) -> decision_service_pb2.ExplanationDetail.ValueType:
    if name not in _DETAILS:
        raise typer.BadParameter(f"--detail is one of {', '.join(_DETAILS)}")
    return _DETAILS[name]


def _context(item: str) -> tuple[str, types_pb2.ContextValue]:
    """NAME=VALUE, typed by how the value looks: true/false, whole number, number, instant, else text."""
    name, equals, text = item.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"--context {item!r} is not NAME=VALUE")
    value = types_pb2.ContextValue()
    if text in ("true", "false"):
        value.bool_value = text == "true"
    elif _is(int, text):
        value.int_value = int(text)
    elif _is(float, text):
        value.double_value = float(text)
    elif _is(datetime.fromisoformat, text):
        value.timestamp_value.FromDatetime(datetime.fromisoformat(text))
    else:
        value.string_value = text
    return name, value


def _is(parse: object, text: str) -> bool:
    try:
        parse(text)  # type: ignore[operator]  # one of three parsers
    except (ValueError, OverflowError):
        return False
    return True
