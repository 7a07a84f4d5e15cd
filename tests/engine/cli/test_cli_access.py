"""Our own commands on a protected server, and servers that do not start half protected."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
import typer
from arbiter_at_work import REPOSITORY, RunningServer
from tokens_at_work import AUDIENCE, ISSUER, Issuer, chain_of, key_set, write_pair

from engine.cli.access import AccessFiles
from engine.cli.console import EXIT_ERRORS

ROLES = '[[grants]]\nsubject = "shop"\nroles = ["decide"]\n'
SECRET = "planted-secret-3141"


def arbiter(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    clean = {name: v for name, v in os.environ.items() if not name.startswith("ARBITER_")}
    return subprocess.run(
        [sys.executable, "-m", "engine", *words],
        env=clean | environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_commands_reach_a_protected_server(
    start_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    """With authorities, certificate and token; without one of them they say what is missing."""
    authority, issuer = trustme.CA(), Issuer()
    certificate, key = write_pair(authority.issue_cert("127.0.0.1"), tmp_path)
    client = authority.issue_cert("ops.internal")
    files = {
        "ca.pem": authority.cert_pem.bytes(),
        "client.pem": chain_of(client),
        "client.key": client.private_key_pem.bytes(),
        "token": issuer.token("shop", exp=4_000_000_000).encode() + b"\n",
        "keys.json": key_set(issuer).encode(),
        "roles.toml": ROLES.encode(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    server = start_server(
        ready=False,
        ARBITER_TLS_CERTIFICATE=str(certificate),
        ARBITER_TLS_KEY=str(key),
        ARBITER_TLS_CLIENT_CA=str(tmp_path / "ca.pem"),
        ARBITER_TOKEN_KEYS=str(tmp_path / "keys.json"),
        ARBITER_TOKEN_ISSUER=ISSUER,
        ARBITER_TOKEN_AUDIENCE=AUDIENCE,
        ARBITER_ROLES_FILE=str(tmp_path / "roles.toml"),
        ARBITER_STORE_PASSWORD=SECRET,
        ARBITER_IDENTITY_KEY=SECRET,
        ARBITER_CHECKPOINT_KEY=SECRET,
    )
    server.wait_for_log("server.ready")
    asked = ("decide", "--customer", "C0133", "--channel", "web", "--json", "--target", server.target)
    shown = ("--tls-ca", f"{tmp_path}/ca.pem", "--tls-cert", f"{tmp_path}/client.pem")
    shown += ("--tls-key", f"{tmp_path}/client.key")

    good = arbiter(*asked, *shown, "--token-file", f"{tmp_path}/token")
    tokenless = arbiter(*asked, *shown)
    clear = arbiter(*asked)
    seen = arbiter("status", "--target", server.target, *shown, "--json")
    loaded = arbiter(
        *(
            "loadtest",
            "run",
            "--target",
            server.target,
            *shown,
            "--token-file",
            f"{tmp_path}/token",
            "--json",
        ),
        *("--seconds", "1", "--warm-up", "0", "--rate", "20", "--save", f"{tmp_path}/result.json"),
    )
    command_line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().decode()
    mark = server.mark
    (tmp_path / "roles.toml").write_text("grants = 7")
    server.send(signal.SIGHUP)
    server.wait_for_log("security.reread.failed", since=mark)
    after = arbiter(*asked, *shown, "--token-file", f"{tmp_path}/token")

    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["customerId"] == "C0133"
    assert (tokenless.returncode, "PERMISSION_DENIED" in tokenless.stderr) == (3, True)
    assert clear.returncode == 5
    assert json.loads(seen.stdout)["health"]["decisions"]
    assert set(json.loads(loaded.stdout)["steps"][0]["codes"]) == {"OK"}, loaded.stderr
    assert after.returncode == 0, after.stderr
    assert SECRET not in server.log + command_line


WRONG: dict[str, tuple[AccessFiles, str]] = {
    "certificate without key": (AccessFiles(tls_cert=Path("c")), "--tls-key go together"),
    "certificate without TLS": (AccessFiles(tls_cert=Path("c"), tls_key=Path("k")), "goes with --tls-ca"),
    "token in the clear": (AccessFiles(token_file=Path("t")), "in the clear"),
}


@pytest.mark.parametrize("case", WRONG)
def test_options_that_make_no_sense_are_refused(case: str) -> None:
    """Before anything is sent."""
    files, words = WRONG[case]

    with pytest.raises(Exception, match=words):
        files.read("arbiter.internal:50051")


@pytest.mark.parametrize("content", [b"", b"two words", "é".encode(), b"\x00"])
def test_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    """Rather than to send what no server takes."""
    (tmp_path / "token").write_bytes(content)

    with pytest.raises(typer.Exit) as refused:
        AccessFiles(token_file=tmp_path / "token").read("localhost:50051")

    assert refused.value.exit_code == EXIT_ERRORS


def test_options_of_a_server_do_not_go_with_local(tmp_path: Path) -> None:
    """There is no server to show anything to."""
    refused = arbiter(
        "decide", "--customer", "C0133", "--channel", "web", "--local", "--token-file", f"{tmp_path}/token"
    )

    assert refused.returncode == 2


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ARBITER_TLS_CERTIFICATE": "server.pem"}, "ARBITER_TLS_KEY go together"),
        ({"ARBITER_TLS_CERTIFICATE": "no.pem", "ARBITER_TLS_KEY": "no.key"}, "cannot be read"),
    ],
)
def test_server_does_not_start_half_protected(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    """It says what is missing, and ends."""
    refused = arbiter("serve", "--port", "0", "--data-dir", f"{tmp_path}/data", **environment)

    assert refused.returncode == 3
    assert words in " ".join(refused.stderr.split())
