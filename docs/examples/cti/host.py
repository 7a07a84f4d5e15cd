"""An agent's desktop that shows Arbiter in a side panel of 400 px, as those of contact centres do.

    ARBITER_WEB_FRAME_ANCESTORS=http://127.0.0.1:8090 make serve
    python host.py

Then open http://127.0.0.1:8090 and let somebody call. Arbiter lets pages of nobody frame its own, so that no
click is lured out of an agent: the setting names the desktops that may, by scheme, host and port.

The page asks this server to ring, and this server asks Arbiter: so what a token may do stays on servers, and
the browser gets a link that opens one call, once, within a minute. It needs Python's own library only.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ring import CALLERS, NotDone, Telephony, identity_of

PAGE = Path(__file__).with_name("host.html")
MOST_BYTES = 4096


class Desktop(ThreadingHTTPServer):
    """Serves the desktop, and rings where Arbiter is."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], arbiter: str, token: str | None = None) -> None:
        super().__init__(address, Page)
        self.telephony = Telephony(arbiter, "agent-7", token)

    @property
    def origin(self) -> str:
        """What ARBITER_WEB_FRAME_ANCESTORS must name."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class Page(BaseHTTPRequestHandler):
    """One request of the desktop's page."""

    server: Desktop

    def do_GET(self) -> None:
        """The page itself."""
        if self.path != "/":
            self._answer(404, b"there is only /", "text/plain")
            return
        buttons = "".join(
            f'<li><button data-caller="{name}">{name} · {number}<small>{told}</small></button></li>'
            for name, (number, told) in CALLERS.items()
        )
        page = PAGE.read_text(encoding="utf-8").replace("<!-- callers -->", buttons)
        self._answer(200, page.encode(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """A call rings, or has ended."""
        if self.headers.get("Origin") != self.server.origin:  # no other page rings an agent of ours
            self._answer(403, b"{}", "application/json")
            return
        try:
            said = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), MOST_BYTES)))
            if self.path == "/ring":
                call = f"desk-{uuid.uuid4().hex[:12]}"
                done = {"call": call, "link": self.server.telephony.ring(identity_of(said["caller"]), call)}
            else:
                self.server.telephony.hang_up(said["call"])
                done = {}
        except (NotDone, KeyError, TypeError, ValueError) as error:
            self._answer(502, json.dumps({"error": str(error)}).encode(), "application/json")
            return
        self._answer(200, json.dumps(done).encode(), "application/json")

    def log_message(self, *_said: object) -> None:
        """Says nothing: requests name callers."""

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def trouble_with(arbiter: str, origin: str) -> str:
    """Why Arbiter's pages would not show on a page of that origin; empty where they would."""
    try:
        with urllib.request.urlopen(f"{arbiter}/healthz", timeout=10) as reply:  # noqa: S310  # of its user
            policy = reply.headers.get("Content-Security-Policy", "")
    except (urllib.error.URLError, OSError) as error:
        return f"nobody answers at {arbiter} ({getattr(error, 'reason', error)}); start it with `make serve`"
    framing = policy.partition("frame-ancestors ")[2].partition(";")[0].split()
    if origin in framing:
        return ""
    return f"Arbiter may not be framed by {origin}; start it with ARBITER_WEB_FRAME_ANCESTORS={origin}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C; the exit code."""
    parser = argparse.ArgumentParser(description="An agent's desktop with Arbiter in a side panel.")
    parser.add_argument("--port", type=int, default=8090, help="port of the desktop (%(default)s)")
    parser.add_argument(
        "--arbiter", default="http://127.0.0.1:8080", help="where it serves pages (%(default)s)"
    )
    parser.add_argument("--token-file", type=Path, help="bearer token, where Arbiter asks for one")
    said = parser.parse_args(arguments)
    try:
        token = said.token_file.read_text(encoding="utf-8").strip() if said.token_file else None
        desktop = Desktop(("127.0.0.1", said.port), said.arbiter, token)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    trouble = trouble_with(said.arbiter, desktop.origin)
    if trouble:
        print(f"warning: {trouble}", file=sys.stderr)
    print(f"the desktop is at {desktop.origin}; Ctrl-C stops", flush=True)
    try:
        desktop.serve_forever()
    except KeyboardInterrupt:
        return 130
    finally:
        desktop.server_close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
