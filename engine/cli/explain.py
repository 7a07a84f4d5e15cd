"""`arbiter explain`: why a past decision was as it was."""

from __future__ import annotations

from typing import Annotated

import typer

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.cli import render
from engine.cli.access import AccessFiles
from engine.cli.calls import arbiter, print_json
from engine.cli.console import present
from engine.cli.explain_view import explain_view
from engine.cli.options import (
    AsJson,
    DecisionId,
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


@app.command()
def explain(
    decision_id: DecisionId,
    action: Annotated[str, typer.Option(help="Only this action's fate.")] = "",
    language: Language = "",
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
    """Explain a past decision: every candidate's fate, and what the rules saw.

    With --action: why that action was returned or not, rule by rule, and the smallest change that would
    have put it first.
    """
    request = decision_service_pb2.ExplainRequest(
        decision_id=decision_id, action_id=action, language=language
    )
    access = AccessFiles(tls_ca, tls_cert, tls_key, token_file)
    with arbiter(target, local=local, data_dir=data_dir, rules=rules, access=access) as callee:
        response = callee.explain(request)
    if as_json:
        print_json(response)
        return
    decision = response.decision
    present(render.heading(decision))
    if not action:
        present(render.decision(decision))
    present(explain_view(response))
    present(render.inputs(response.inputs), render.versions(decision.versions))
