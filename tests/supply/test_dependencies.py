"""What can be told of dependencies without asking anybody; and that `make audit` tells its answers apart."""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from auditing import AUDITOR, CLEAN, LOCK, NOT_ASKED, REPOSITORY, VULNERABLE, audit

LOCKS = (LOCK, REPOSITORY / "requirements-dev.lock")
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[\w,-]+\])?==(?P<version>[\w.!+-]+)(?P<marker> ;[^;]+)?$")
ALLOWED = {
    "0BSD",
    "3-Clause BSD License",
    "Apache 2",
    "Apache 2.0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC License",
    "MIT",
    "MIT License",
    "MIT-0",
    "OLDAP-2.8",
    "PSF-2.0",
    "Zlib",
}
"""Licences under which a company may run and change Arbiter without publishing what it changed."""


def pins(lock: Path) -> list[str]:
    """Lines that ask for something."""
    lines = (line.rstrip() for line in lock.read_text().splitlines())
    return [line for line in lines if line and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_dependency_is_pinned(lock: Path) -> None:
    """To one version, from the index: no URL, no branch, no folder, no other index, no range."""
    assert [line for line in pins(lock) if not _PIN.match(line)] == []


def test_no_dependency_is_pinned_twice() -> None:
    """What serves runs on the versions that were tested."""
    serving, testing = (dict(_pinned(lock)) for lock in LOCKS)

    differing = {name for name in serving if serving[name] != testing.get(name)}

    assert differing == set()


def _pinned(lock: Path) -> list[tuple[str, str]]:
    matches = (_PIN.match(line) for line in pins(lock))
    return [(match["name"].lower(), match["version"]) for match in matches if match]


def test_every_dependency_that_serves_may_be_used() -> None:
    """By the licence that its own metadata names."""
    refused = {name: licence for name, licence in _licences() if not _parts(licence) <= ALLOWED}

    assert refused == {}


def _licences() -> list[tuple[str, str]]:
    """Of what is installed here: some of what is locked is for other systems."""
    found = []
    for name, _ in _pinned(LOCK):
        try:
            about = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue
        said = (
            about.get("License-Expression")
            or about.get("License")
            or _classified(about.get_all("Classifier"))
        )
        found.append((name, said))
    return found


def _classified(classifiers: list[str] | None) -> str:
    said = [each.rpartition(" :: ")[2] for each in classifiers or () if each.startswith("License ::")]
    return " AND ".join(said) or "none named"


def _parts(licence: str) -> set[str]:
    """Of "A OR B" one is enough, but here all are to be allowed, which is simpler and holds."""
    return {part.strip(" ()") for part in re.split(r" (?:AND|OR) ", licence)}


def answering(text: str, *, code: int = 0) -> list[str]:
    """An auditor that says something, and ends."""
    return [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({code})"]


def told(*vulnerabilities: str) -> str:
    """What pip-audit prints."""
    vulns = [{"id": each, "fix_versions": ["2.0"]} for each in vulnerabilities]
    return json.dumps({"dependencies": [{"name": "thing", "version": "1.0", "vulns": vulns}], "fixes": []})


def test_clean_audit_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """With how much was looked at."""
    code = audit(answering(told()), LOCK)

    assert code == CLEAN
    assert capsys.readouterr().out == "1 of 1 versions looked at: no known vulnerabilities\n"


def test_vulnerability_is_named_with_what_mends_it(capsys: pytest.CaptureFixture[str]) -> None:
    """pip-audit ends with 1 then, as it does where it could not ask."""
    code = audit(answering(told("PYSEC-1"), code=1), LOCK)

    assert code == VULNERABLE
    assert "thing 1.0: PYSEC-1, mended in 2.0" in capsys.readouterr().out


@pytest.mark.parametrize("command", [answering("no route", code=1), answering("{}"), ["/nowhere/pip-audit"]])
def test_audit_that_could_not_ask_is_no_clean_one(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is known then, and it says that."""
    code = audit(command, LOCK)

    assert code == NOT_ASKED
    assert "nothing is known" in capsys.readouterr().err


def test_version_that_was_not_looked_at_is_no_clean_one(capsys: pytest.CaptureFixture[str]) -> None:
    """As where the service stands behind a mirror that has none: no vulnerability, and no answer either."""
    names = ("a", "b", "c", "d")
    skipped = json.dumps({"dependencies": [{"name": name, "skip_reason": "not found"} for name in names]})

    code = audit(answering(skipped), LOCK)

    told_of = capsys.readouterr()
    assert code == NOT_ASKED
    assert "0 of 4 versions looked at" in told_of.out
    assert "it knows nothing of a, b, c and 1 more" in told_of.err


def test_auditor_is_pinned() -> None:
    """It runs what it downloads."""
    assert any("==" in word for word in AUDITOR)
