"""`arbiter consent`: the customer's will."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from engine._pb.arbiter.v1 import consent_service_pb2, types_pb2
from engine.cli import consent_import, consent_proof, render, values
from engine.cli.access import AccessFiles
from engine.cli.calls import arbiter, print_json
from engine.cli.console import out, present
from engine.cli.options import (
    AsJson,
    Customer,
    Local,
    LocalDataDir,
    LocalRules,
    Target,
    TlsCa,
    TlsCert,
    TlsKey,
    TokenFile,
)

app = typer.Typer(
    help="Show, record, import and prove consents and objections.", no_args_is_help=True, add_completion=False
)
consent_proof.register(app)
consent_import.register(app)


class Said(StrEnum):
    """What a customer can say."""

    GRANTED = "granted"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    OBJECTED = "objected"


@app.command()
def show(
    customer: Customer,
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
    """Show what a customer said, and what is permitted on each channel now."""
    request = consent_service_pb2.GetConsentsRequest(customer_id=customer)
    access = AccessFiles(tls_ca, tls_cert, tls_key, token_file)
    with arbiter(target, local=local, data_dir=data_dir, rules=rules, access=access) as callee:
        response = callee.get_consents(request)
    if as_json:
        print_json(response)
    else:
        present(render.consents(response))


Purpose = Annotated[str, typer.Option(help="Purpose, such as marketing or profiling.")]
State = Annotated[Said, typer.Option(help="What the customer said.")]
Channel = Annotated[str, typer.Option(help="Channel, or any for all of them.")]
Recorded = Annotated[
    str | None, typer.Option(help="Date or instant when the customer said it; now by default.")
]
Expires = Annotated[
    str | None, typer.Option(help="Date or instant from which it no longer holds; never by default.")
]
Source = Annotated[str, typer.Option(help="Where the customer said it.")]
Actor = Annotated[str, typer.Option(help="Who records it: customer, agent:ID or a system.")]
NoticeVersion = Annotated[str, typer.Option(help="Version of the notice the customer saw.")]
Evidence = Annotated[str, typer.Option(help="Pointer to evidence, such as the id of a recording.")]
Notice = Annotated[str, typer.Option(help="Where the notice can be read, such as its address.")]
NoticeLanguage = Annotated[str, typer.Option(help="Language the notice was shown in.")]
LegalBasis = Annotated[str, typer.Option(help="Legal basis the customer was told.")]
Jurisdiction = Annotated[str, typer.Option(help="Law it was given under, such as CH or EU.")]
Recipients = Annotated[list[str] | None, typer.Option(help="Third party the data goes to; may be repeated.")]
DataCategories = Annotated[
    list[str] | None, typer.Option(help="Category of data it is about; may be repeated.")
]
Method = Annotated[str, typer.Option(help="How it was collected, such as checkbox or spoken.")]


@app.command()
def record(
    customer: Customer,
    purpose: Purpose,
    state: State,
    channel: Channel = "any",
    recorded: Recorded = None,
    expires: Expires = None,
    source: Source = "cli",
    actor: Actor = "",
    notice_version: NoticeVersion = "",
    evidence: Evidence = "",
    notice: Notice = "",
    notice_language: NoticeLanguage = "",
    legal_basis: LegalBasis = "",
    jurisdiction: Jurisdiction = "",
    recipient: Recipients = None,
    data_category: DataCategories = None,
    method: Method = "",
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
    """Record what a customer said; the next decision obeys it."""
    wish = consent_service_pb2.ConsentRecord(
        purpose=purpose,
        channel=channel,
        state=types_pb2.ConsentState.Value(f"CONSENT_STATE_{state.upper()}"),
        source=source,
        actor=actor,
        notice_version=notice_version,
        evidence=evidence,
        notice=notice,
        notice_language=notice_language,
        legal_basis=legal_basis,
        jurisdiction=jurisdiction,
        recipients=recipient or [],
        data_categories=data_category or [],
        collection_method=method,
    )
    _set_times(wish, recorded, expires)
    request = consent_service_pb2.RecordConsentRequest(customer_id=customer, consent=wish)
    access = AccessFiles(tls_ca, tls_cert, tls_key, token_file)
    with arbiter(target, local=local, data_dir=data_dir, rules=rules, access=access) as callee:
        response = callee.record_consent(request)
    if as_json:
        print_json(response)
    else:
        _tell(request, state, response.ledger_position)


def _set_times(wish: consent_service_pb2.ConsentRecord, recorded: str | None, expires: str | None) -> None:
    if recorded is not None:
        wish.record_time.FromDatetime(values.instant_option(recorded))
    if expires is not None:
        wish.expire_time.FromDatetime(values.instant_option(expires))


def _tell(request: consent_service_pb2.RecordConsentRequest, state: Said, position: int) -> None:
    wish = request.consent
    where = "all channels" if wish.channel == "any" else wish.channel
    out.print(
        f"on disk: {request.customer_id}, {wish.purpose} {state} on {where}; ledger position {position}",
        markup=False,
    )
