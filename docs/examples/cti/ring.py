"""A fake telephone system: it rings an agent, says who calls, and hangs up after a while.

    python ring.py                        the demo company's callers, one after the other
    python ring.py +41791000131           one call from a number
    python ring.py household --talk 60    by its name, for a minute

Arbiter must run, as with `make serve`. Keep http://127.0.0.1:8080/pop open: it goes to each call as it rings,
and hides the customer when it has ended. Python's own library is all that this needs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
import uuid
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CALLERS = {
    "at-risk": ("+41791000131", "wants to cancel, and may be offered something"),
    "loyal": ("+41791000133", "loyal, with consent"),
    "objector": ("+41791000239", "objected to marketing: only service is proposed"),
    "unprofiled": ("+41791000060", "allows marketing but no profiling: no model is asked"),
    "french": ("+41791000334", "new and at risk"),
    "household": ("+41790000000", "two customers share this number: the agent picks"),
    "stranger": ("+41790009999", "a number that nobody has"),
}
"""Of the demo company."""
TIMEOUT_S = 10.0


class NotDone(Exception):
    """What Arbiter did not do, in words for a terminal."""


class Telephony:
    """Tells Arbiter of calls, as the computer beside a telephone system does."""

    def __init__(self, arbiter: str, agent: str, token: str | None = None) -> None:
        self._arbiter = arbiter.rstrip("/")
        self._agent = agent
        self._token = token

    def ring(self, identity: str, call: str) -> str:
        """A call comes in; the link that opens its page once, within a minute."""
        said = {"call": call, "identity": identity, "agent": self._agent}
        return str(self._post("/cti/calls", said)["link"])

    def hang_up(self, call: str) -> None:
        """A call has ended."""
        self._post(f"/cti/calls/{call}/ended", {})

    def _post(self, path: str, said: dict[str, str]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        asked = urllib.request.Request(  # noqa: S310  # the address that its user gave
            self._arbiter + path, json.dumps(said).encode(), headers, method="POST"
        )
        try:
            with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as reply:  # noqa: S310  # as above
                return dict(json.loads(reply.read() or b"{}"))
        except urllib.error.HTTPError as error:
            raise NotDone(f"{self._arbiter}{path} answered {error.code}: {_words(error.read())}") from error
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise NotDone(
                f"nobody answers at {self._arbiter} ({reason}); start it with `make serve`"
            ) from error


def _words(body: bytes) -> str:
    """Why, as the answer says it."""
    try:
        said = json.loads(body)
        fields = [v for detail in said["details"] for v in detail.get("fieldViolations", [])]
        return "; ".join([said["message"], *(f"{v['field']} {v['description']}" for v in fields)])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()[:200] or "without a word"


def identity_of(caller: str) -> str:
    """A caller's name, number or identity, as Arbiter wants it: TYPE:VALUE."""
    if caller in CALLERS:
        return f"phone:{CALLERS[caller][0]}"
    return caller if ":" in caller else f"phone:{caller}"


def talk(telephony: Telephony, caller: str, *, seconds: float, browser: bool) -> None:
    """One call from its ring to its end, however it ends."""
    call, identity = f"ring-{uuid.uuid4().hex[:12]}", identity_of(caller)
    link = telephony.ring(identity, call)
    print(f"{identity} rings{f': {CALLERS[caller][1]}' if caller in CALLERS else ''}\n    {link}", flush=True)
    if browser:
        webbrowser.open(link)
    try:
        time.sleep(seconds)
    finally:
        telephony.hang_up(call)
        print("    has hung up", flush=True)


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says."""
    width = max(map(len, CALLERS))
    known = "\n".join(f"  {name:{width}}  {number}  {told}" for name, (number, told) in CALLERS.items())
    parser = argparse.ArgumentParser(
        description="Rings an agent of Arbiter as a telephone system would.",
        epilog=f"callers of the demo company:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("callers", nargs="*", metavar="CALLER", help="name below, phone number or TYPE:VALUE")
    parser.add_argument(
        "--to", default="http://127.0.0.1:8080", help="where Arbiter serves pages (%(default)s)"
    )
    parser.add_argument("--agent", default="agent-7", help="whose telephone rings (%(default)s)")
    parser.add_argument(
        "--talk", type=float, default=20.0, metavar="S", help="length of a call (%(default)s s)"
    )
    parser.add_argument(
        "--pause", type=float, default=2.0, metavar="S", help="between two calls (%(default)s s)"
    )
    parser.add_argument("--token-file", type=Path, help="bearer token, where Arbiter asks for one")
    parser.add_argument("--open", action="store_true", help="open each call in a browser")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rings; the exit code."""
    said = options(arguments)
    try:
        token = said.token_file.read_text(encoding="utf-8").strip() if said.token_file else None
        telephony = Telephony(said.to, said.agent, token)
        for number, caller in enumerate(said.callers or CALLERS):
            time.sleep(said.pause if number else 0)
            talk(telephony, caller, seconds=said.talk, browser=said.open)
    except (NotDone, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
