"""`arbiter consent`: the customer's will."""

from __future__ import annotations

from typing import Annotated

import typer

from engine._pb.arbiter.v1 import consent_service_pb2, types_pb2
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

app = typer.Typer(help="Show and record consents and objections.", no_args_is_help=True)

_STATES = {
    name: getattr(types_pb2, f"CONSENT_STATE_{name.upper()}")
    for name in ("granted", "denied", "withdrawn", "objected")
}

Customer = Annotated[str, typer.Option("--customer", help="Customer id.")]


@app.command()
def show(
    customer: Customer,
    target: Target = DEFAULT_TARGET,
    local: Local = False,
    data_dir: DataDir = None,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Show what a customer said, and what is permitted on each channel now."""
    request = consent_service_pb2.GetConsentsRequest(customer_id=customer)
    with arbiter(target, local=local, data_dir=data_dir, rules=rules) as callee:
        response = callee.get_consents(request)
    if as_json:
        print_json(response)
    else:
        out.print(f"[bold]{customer}[/]", render.consents(response), sep="\n")


@app.command()
def record(
    customer: Customer,
    purpose: Annotated[str, typer.Option(help="Purpose, such as marketing or profiling.")],
    state: Annotated[str, typer.Option(help="granted, denied, withdrawn or objected.")],
    channel: Annotated[str, typer.Option(help="Channel, or any for all of them.")] = "any",
    source: Annotated[str, typer.Option(help="Where the customer said it.")] = "cli",
    actor: Annotated[str, typer.Option(help="Who records it.")] = "",
    notice_version: Annotated[str, typer.Option(help="Version of the notice the customer saw.")] = "",
    target: Target = DEFAULT_TARGET,
    local: Local = False,
    data_dir: DataDir = None,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Record what a customer said; the next decision obeys it."""
    if state not in _STATES:
        raise typer.BadParameter(f"--state is one of {', '.join(_STATES)}")
    wish = consent_service_pb2.ConsentRecord(
        purpose=purpose,
        channel=channel,
        state=_STATES[state],
        source=source,
        actor=actor,
        notice_version=notice_version,
    )
    request = consent_service_pb2.RecordConsentRequest(customer_id=customer, consent=wish)
    with arbiter(target, local=local, data_dir=data_dir, rules=rules) as callee:
        response = callee.record_consent(request)
    if as_json:
        print_json(response)
    else:
        out.print(f"recorded: {customer} {state} {purpose} on {channel} (ledger {response.ledger_position})")
