"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of state, decision log and consent ledger.")
]
Store = Annotated[
    str | None,
    typer.Option("--store", help="Where customer state is: embedded, or the URL of a Redis."),
]
Rules = Annotated[Path | None, typer.Option("--rules", help="Folder of the rule set.")]
Registry = Annotated[
    str | None, typer.Option("--registry", help="Folder of published models, or URL of their store.")
]
Target = Annotated[
    str | None,
    typer.Option("--target", help="Address of a running server. By default the one on this machine."),
]
TlsCa = Annotated[
    Path | None,
    typer.Option("--tls-ca", help="Authorities that certify the server, in PEM; for calls over TLS."),
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", help="Own certificate, in PEM, for a server that asks for one.")
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="Key of that certificate, in PEM.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="File with the bearer token to send with each call.")
]
Local = Annotated[
    bool, typer.Option("--local", help="Work in this process on --data-dir; a server may run on it too.")
]
LocalDataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="With --local: folder of state, decision log and consent ledger."),
]
LocalRules = Annotated[Path | None, typer.Option("--rules", help="With --local: folder of the rule set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Customer = Annotated[str, typer.Option("--customer", help="Customer id, such as C0131.")]
Language = Annotated[str, typer.Option("--language", help="Language of the texts, such as en or fr.")]
DecisionId = Annotated[str, typer.Argument(help="Id of a decision, as a reply gives it.")]
Stream = Annotated[
    str | None, typer.Option("--stream", help="URL of the Redis whose stream is meant, instead of a server.")
]
StreamName = Annotated[str, typer.Option("--name", help="Name of the stream.")]
StreamGroup = Annotated[str, typer.Option("--group", help="Consumer group that reads the stream.")]
CustomerId = Annotated[str, typer.Argument(help="Customer id, such as C0131.")]
Actor = Annotated[str, typer.Option("--actor", help="Who does it, such as dpo:17; kept for good.")]
Reason = Annotated[
    str, typer.Option("--reason", help="Why, such as a ticket; kept for good, so it names nobody.")
]
