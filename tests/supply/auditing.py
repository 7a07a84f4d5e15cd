"""`python tests/supply/auditing.py`: known vulnerabilities of what Arbiter runs on, as PyPI's service tells.

Three answers, three exit codes: 0, none is known; 1, some are, and which version mends them; 2, not all could
be asked about, so of those nothing is known. The suite does not ask, as it works without a network:
`test_dependencies.py` looks at what can be told from the files alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / "requirements.lock"
AUDITOR = ("uv", "tool", "run", "--from", "pip-audit==2.10.1", "pip-audit")
"""In an environment of its own: it is no dependency of what it audits."""
CLEAN, VULNERABLE, NOT_ASKED = 0, 1, 2


def audit(command: Sequence[str], lock: Path) -> int:
    """Asks about every version of a lock file, and prints the answer."""
    asked = [*command, "--requirement", str(lock), "--no-deps", "--disable-pip", "--format", "json"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _not_asked(str(error))
    document = _document(told.stdout)
    if document is None:
        return _not_asked((told.stderr.strip().splitlines() or ["no answer"])[-1])
    listed, found = document["dependencies"], list(_found(document))
    for line in found:
        print(line)
    skipped = [each["name"] for each in listed if "skip_reason" in each]
    looked_at = len(listed) - len(skipped)
    print(f"{looked_at} of {len(listed)} versions looked at: {len(found) or 'no'} known vulnerabilities")
    if found:
        return VULNERABLE
    return _not_asked(f"it knows nothing of {_few(skipped)}") if skipped else CLEAN


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _not_asked(why: str) -> int:
    print(f"not everything could be asked about, so nothing is known of it: {why}", file=sys.stderr)
    return NOT_ASKED


def _document(text: str) -> dict[str, Any] | None:
    """The answer; None where it is none, or tells of nothing."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) and document.get("dependencies") else None


def _found(document: dict[str, Any]) -> Iterator[str]:
    for each in document["dependencies"]:
        for known in each.get("vulns", ()):
            mended = ", ".join(known.get("fix_versions", ())) or "no version yet"
            yield f"{each['name']} {each['version']}: {known['id']}, mended in {mended}"


if __name__ == "__main__":
    sys.exit(audit(AUDITOR, LOCK))
