"""Whom a command calls: a running server, or this process; failed calls in words."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

import typer
from google.protobuf import json_format
from google.protobuf.message import Message

from engine.cli.access import NO_ACCESS_FILES, AccessFiles
from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_UNAVAILABLE,
    effective_settings,
    fail,
    require_data,
    setup_errors,
)
from engine.settings import EMBEDDED

if TYPE_CHECKING:  # imported when called, so that --help is quick
    from engine._pb.arbiter.v1 import (
        consent_service_pb2,
        decision_service_pb2,
        event_service_pb2,
        outcome_service_pb2,
    )
    from engine.client import CallFailed

_TIMEOUT_S = 5.0
"""A person waits, and rather longer than for nothing."""
_NO_CONNECTION = re.compile(r"^[a-z ]+; last error: UNKNOWN: ")
"""What gRPC begins with where nobody listens; the rest says it."""


class Arbiter(Protocol):
    """What commands ask of either. Each raises CallFailed."""

    def decide(self, request: decision_service_pb2.DecideRequest, /) -> decision_service_pb2.DecideResponse:
        """DecisionService.Decide."""
        ...

    def explain(
        self, request: decision_service_pb2.ExplainRequest, /
    ) -> decision_service_pb2.ExplainResponse:
        """DecisionService.Explain."""
        ...

    def record_outcome(
        self, request: outcome_service_pb2.RecordOutcomeRequest, /
    ) -> outcome_service_pb2.RecordOutcomeResponse:
        """OutcomeService.RecordOutcome."""
        ...

    def record_consent(
        self, request: consent_service_pb2.RecordConsentRequest, /
    ) -> consent_service_pb2.RecordConsentResponse:
        """ConsentService.RecordConsent."""
        ...

    def get_consents(
        self, request: consent_service_pb2.GetConsentsRequest, /
    ) -> consent_service_pb2.GetConsentsResponse:
        """ConsentService.GetConsents."""
        ...

    def ingest(self, request: event_service_pb2.IngestRequest, /) -> event_service_pb2.IngestResponse:
        """EventService.Ingest."""
        ...


@contextmanager
def arbiter(
    target: str | None,
    *,
    local: bool,
    data_dir: Path | None,
    rules: Path | None,
    access: AccessFiles = NO_ACCESS_FILES,
) -> Iterator[Arbiter]:
    """Whom to call: the server at `target`, or this process. Failed calls end the command in words."""
    if local and target is not None:
        raise typer.BadParameter("give either --target or --local")
    if not local and (data_dir or rules):
        raise typer.BadParameter("--data-dir and --rules go with --local; a running server has its own")
    if local and access.given():
        raise typer.BadParameter("the options of TLS and tokens go with a server, not with --local")
    from engine.client import ArbiterClient, CallFailed

    place = "" if local else target or f"localhost:{effective_settings().port}"
    try:
        with (
            _in_process(data_dir, rules)
            if local
            else ArbiterClient(place, timeout_s=_TIMEOUT_S, access=access.read(place)) as callee
        ):
            yield callee
    except CallFailed as failure:
        report(failure, place)


@contextmanager
def _in_process(data_dir: Path | None, rules: Path | None) -> Iterator[Arbiter]:
    from engine.api.event_servicer import EventServicer
    from engine.api.local import LocalArbiter
    from engine.api.servicers import ConsentServicer, DecisionServicer, OutcomeServicer
    from engine.bootstrap import open_application

    settings = effective_settings(data_dir=data_dir, rules=rules, log_level="warning")
    require_data(settings, "store" if settings.store == EMBEDDED else "decisions")
    with setup_errors(), open_application(settings) as application:
        yield LocalArbiter(
            DecisionServicer(application.decisions, application.explanations),
            OutcomeServicer(application.outcomes),
            ConsentServicer(application.consents),
            EventServicer(application.intake),
        )


def report(failure: CallFailed, place: str) -> NoReturn:
    """Says what a failed call means and ends the command; `place` is empty for a call in this process."""
    if failure.unavailable and place:
        fail(
            f"no answer from {place}: {_NO_CONNECTION.sub('', str(failure))}\n"
            "Is a server running there? `arbiter serve --demo` starts one; --target names another, --local "
            "needs none.",
            EXIT_UNAVAILABLE,
        )
    lines = [f"{failure.code}: {failure}", *(f"  {field}: {text}" for field, text in failure.violations)]
    if any(field.startswith("context[") and " of type " in text for field, text in failure.violations):
        lines.append("  say the type of a value with --context NAME:TYPE=VALUE")
    fail("\n".join(lines), EXIT_UNAVAILABLE if failure.unavailable else EXIT_ERRORS)


def print_json(message: Message) -> None:
    """The protobuf JSON form of a message, alone on stdout."""
    sys.stdout.write(json_format.MessageToJson(message, ensure_ascii=False) + "\n")
