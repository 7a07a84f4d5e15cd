"""A CRM that takes outcomes from Arbiter: it verifies each message, knows again what it has, and prints it.

    pip install standardwebhooks
    echo whsec_$(openssl rand -base64 32) > secret
    python crm.py --secret-file secret
    ARBITER_WEBHOOK_SECRET_FILE=secret arbiter webhooks send --to http://127.0.0.1:8091/outcomes

With `--answer 503` it takes nothing, which shows how Arbiter waits; with `--answer 422` messages become dead
letters (`arbiter webhooks dead`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

MOST_BYTES = 1 << 16
TAKEN = 204


class Crm(ThreadingHTTPServer):
    """Takes messages that are signed with one of its secrets; `answer` is its status for good ones."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], secrets: Sequence[str], answer: int = TAKEN) -> None:
        super().__init__(address, Received)
        self._secrets = [Webhook(secret) for secret in secrets]
        self._had: set[str] = set()  # a real one asks its database, in the transaction that keeps the outcome
        self.answer = answer

    def verified(self, body: bytes, headers: dict[str, str]) -> dict[str, Any] | None:
        """What a message says; None where no secret of ours signed it, or too long ago."""
        for secret in self._secrets:
            try:
                return dict(secret.verify(body, headers))
            except (WebhookVerificationError, ValueError):
                continue
        return None

    def is_new(self, webhook_id: str) -> bool:
        """Whether it did not come before: each message comes at least once, and perhaps again."""
        if webhook_id in self._had:
            return False
        self._had.add(webhook_id)
        return True


class Received(BaseHTTPRequestHandler):
    """One message."""

    server: Crm

    def do_POST(self) -> None:
        """Verifies before anything else, and answers before it works on it."""
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MOST_BYTES))
        said = self.server.verified(body, dict(self.headers.items()))
        if said is None:
            print("refused: not signed by Arbiter, or too long ago", file=sys.stderr, flush=True)
            self._answer(401)
            return
        self._answer(self.server.answer)
        if self.server.answer != TAKEN:
            return
        data = said["data"]
        again = "" if self.server.is_new(self.headers["webhook-id"]) else " (had it before)"
        why = f", as of {data['reason']}" if "reason" in data else ""
        print(
            f"{said['timestamp']} {data['outcome']} {data['actionId']} on {data.get('channel', '?')} "
            f"by {data.get('customer', 'a customer')}{why}{again}",
            flush=True,
        )

    def log_message(self, *_said: object) -> None:
        """Says nothing but the above."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def main(arguments: Sequence[str] | None = None) -> int:
    """Takes messages until Ctrl-C; the exit code."""
    parser = argparse.ArgumentParser(description="A CRM that takes outcomes from Arbiter and prints them.")
    parser.add_argument("--secret-file", type=Path, required=True, help="secrets, whsec_..., one a line")
    parser.add_argument("--port", type=int, default=8091, help="port to listen on (%(default)s)")
    parser.add_argument(
        "--answer", type=int, default=TAKEN, metavar="STATUS", help="for good messages (%(default)s)"
    )
    said = parser.parse_args(arguments)
    try:
        crm = Crm(("127.0.0.1", said.port), said.secret_file.read_text(encoding="utf-8").split(), said.answer)
    except (OSError, ValueError) as error:
        print(f"error: {error}; make a secret with: echo whsec_$(openssl rand -base64 32)", file=sys.stderr)
        return 1
    print(f"takes outcomes at http://127.0.0.1:{crm.server_address[1]}/outcomes; Ctrl-C stops", flush=True)
    try:
        crm.serve_forever()
    except KeyboardInterrupt:
        return 130
    finally:
        crm.server_close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
