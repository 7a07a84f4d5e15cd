"""docs/security.md says what there is, and its commands make a protected server that our commands reach."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from arbiter_at_work import REPOSITORY, RunningServer

from engine.api.servicers import MAX_BATCH
from engine.errors import Unauthenticated
from engine.security.authorising import METHODS
from engine.security.callers import Role
from engine.security.roles import parse_roles
from engine.security.tokens import MAX_TOKEN
from engine.service.intake import MAX_ATTRIBUTES, MAX_EVENTS
from engine.service.requests import MAX_CONTEXT, MAX_ELEMENTS, MAX_FILTER

PAGE = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
TRIAL = PAGE.partition("## Try it")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TRIAL, re.MULTILINE | re.DOTALL)


def test_every_role_is_told_of_with_its_methods() -> None:
    """By the names of the contract."""
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", PAGE, re.MULTILINE))

    assert {role.value for role in Role} <= set(rows)
    for method, role in METHODS.items():
        if method.startswith("/arbiter."):
            assert f"`{method.rpartition('/')[2]}`" in rows[role.value]


def test_every_refusal_is_told_of() -> None:
    """Clients act on the reason."""
    reasons = {kind.reason for kind in Unauthenticated.__subclasses__()}

    assert {reason for reason in reasons if f"`{reason}`" not in PAGE} == set()


def test_roles_file_of_the_page_is_one() -> None:
    """It can be copied."""
    text = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]

    book = parse_roles(text, source="the page")

    assert book.of_token({"sub": "web-shop"}) == {Role.DECIDE, Role.OUTCOME}
    assert book.of_token({"realm_access": {"roles": ["privacy-officer"]}}) == {Role.CONSENT, Role.READ_LOG}


@pytest.mark.parametrize(
    "words",
    [
        f"{MAX_TOKEN:,} characters",
        f"| {MAX_BATCH}; 100 |",
        f"| {MAX_EVENTS}; {MAX_ATTRIBUTES} |",
        f"| {MAX_CONTEXT}; {MAX_ELEMENTS} |",
        f"| {MAX_FILTER:,} |",
    ],
)
def test_limits_are_those_of_the_code(words: str) -> None:
    """A change of one fails here."""
    assert words in PAGE


@pytest.mark.parametrize("page", ["security.md", "threat-model.md"])
def test_what_is_linked_is_there(page: str) -> None:
    """A claim whose test was renamed is a claim without one."""
    folder = REPOSITORY / "docs"
    links = re.findall(r"\]\(([^)#:]+)", (folder / page).read_text(encoding="utf-8"))

    assert links
    assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the page makes its certificates with openssl")
def test_trial_of_the_page_works(start_server: Callable[..., RunningServer], tmp_path: Path) -> None:
    """Every command of it, in their order; only the port and the data are the test's."""
    certificates, issuer, serving, calls = BLOCKS
    shim = tmp_path / "bin"
    shim.mkdir()
    for name, words in (("arbiter", f"{sys.executable} -m engine"), ("python", sys.executable)):
        (shim / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (shim / name).chmod(0o755)
    clean = {name: v for name, v in os.environ.items() if not name.startswith("ARBITER_")}
    environment = clean | {"PATH": f"{shim}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}

    def run(script: str, folder: Path) -> str:
        done = subprocess.run(
            ["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(certificates, tmp_path)
    folder = tmp_path / "secured"
    run(issuer, folder)
    exports = dict(re.findall(r"(ARBITER_\w+)=(\S+)", serving))
    server = start_server(
        ready=False, **{n: v if ":" in v or v == "arbiter" else f"{folder}/{v}" for n, v in exports.items()}
    )
    server.wait_for_log("server.ready")

    replies = run(calls.replace("--channel web", f"--channel web --target localhost:{server.port}"), folder)

    assert "arbiter serve" in serving
    assert replies.count("C0133") == 2
