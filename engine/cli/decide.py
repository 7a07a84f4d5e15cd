"""`arbiter decide`: the next best actions for one customer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.cli import render, values
from engine.cli.access import AccessFiles
from engine.cli.calls import arbiter, print_json
from engine.cli.console import present
from engine.cli.options import (
    AsJson,
    Language,
    Local,
    LocalDataDir,
    LocalRules,
    Target,
    TlsCa,
    TlsCert,
    TlsKey,
    TokenFile,
)

app = typer.Typer(add_completion=False)


class Detail(StrEnum):
    """How much of the account to show."""

    SUMMARY = "summary"
    STANDARD = "standard"
    FULL = "full"


Channel = Annotated[str, typer.Option(help="Channel, such as web, app or call_center.")]
CustomerOrNone = Annotated[str | None, typer.Option(help="Customer id, such as C0131.")]
Named = Annotated[str | None, typer.Option(help="Instead of an id: TYPE=VALUE, such as phone=+41790000001.")]
Placement = Annotated[str, typer.Option(help="Placement on the channel, such as home_hero.")]
Context = Annotated[
    list[str] | None,
    typer.Option(
        help="A fact of the moment as NAME=VALUE; may be given several times. true and false are bool, "
        "5 is int, 5.0 is double, 2026-01-31 and 2026-01-31T08:00Z are timestamp, the rest is string. "
        "NAME:TYPE=VALUE says the type: page:string=1."
    ),
]
Limit = Annotated[int | None, typer.Option(help="How many actions; 3 by default.", min=1, max=100)]
Groups = Annotated[
    list[str] | None, typer.Option(help="Only actions of this group; may be given several times.")
]
Actions = Annotated[list[str] | None, typer.Option(help="Only this action; may be given several times.")]
Excluded = Annotated[list[str] | None, typer.Option(help="Never this action; may be given several times.")]
Depth = Annotated[Detail, typer.Option(help="How much of the account to show.")]
RequestId = Annotated[str, typer.Option(help="Idempotency key: the same one gives the same reply.")]
Gpc = Annotated[bool, typer.Option("--gpc", help="The customer's browser sends Global Privacy Control.")]


@app.command()
def decide(
    channel: Channel,
    customer: CustomerOrNone = None,
    identity: Named = None,
    placement: Placement = "",
    context: Context = None,
    limit: Limit = None,
    group: Groups = None,
    action: Actions = None,
    exclude: Excluded = None,
    language: Language = "",
    detail: Depth = Detail.STANDARD,
    request_id: RequestId = "",
    gpc: Gpc = False,
    target: Target = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    token_file: TokenFile = None,
    local: Local = False,
    data_dir: LocalDataDir = None,
    rules: LocalRules = None,
    as_json: AsJson = False,
) -> None:
    """Decide for one customer on one channel now, and say why."""
    request = decision_service_pb2.DecideRequest(
        channel=channel,
        placement=placement,
        context=values.context(context or ()),
        limit=limit,
        filter=decision_service_pb2.ActionFilter(
            groups=group or (), action_ids=action or (), exclude_action_ids=exclude or ()
        ),
        language=language,
        explanation_detail=decision_service_pb2.ExplanationDetail.Value(
            f"EXPLANATION_DETAIL_{detail.upper()}"
        ),
        request_id=request_id,
    )
    if gpc:
        request.privacy_signals.global_privacy_control = True
    _name_customer(request, customer, identity)
    access = AccessFiles(tls_ca, tls_cert, tls_key, token_file)
    with arbiter(target, local=local, data_dir=data_dir, rules=rules, access=access) as callee:
        response = callee.decide(request)
    if as_json:
        print_json(response)
    else:
        present(render.heading(response), render.decision(response))


def _name_customer(
    request: decision_service_pb2.DecideRequest, customer: str | None, identity: str | None
) -> None:
    if customer is not None and identity is None:
        request.customer_id = customer
    elif identity is not None and customer is None:
        request.identity.CopyFrom(values.identity(identity))
    else:
        raise typer.BadParameter("give either --customer or --identity")
