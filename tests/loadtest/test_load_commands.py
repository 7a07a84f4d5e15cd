"""The commands, on real processes and a real gRPC server that stands still when told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.cli import app
from loadtest.stalling import Stall, stalling_server

NEVER = Stall(at_s=1e9, for_s=0.0)


def run(*arguments: str, code: int = 0) -> str:
    """What a command prints on stdout; it must end with `code`."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.stdout


def measured(target: str, folder: Path, *arguments: str, code: int = 0) -> dict[str, object]:
    """A short run against a server."""
    return json.loads(
        run(
            *(
                "run",
                "--target",
                target,
                "--warm-up",
                "0",
                "--seconds",
                "1",
                "--arrivals",
                "constant",
                "--json",
            ),
            *("--save", str(folder / "result.json"), "--html", str(folder / "report.html")),
            *arguments,
            code=code,
        )
    )


def test_a_stall_is_shown() -> None:
    """Of 200 calls a second all that were to be sent while the server stood still have waited."""
    told = json.loads(run("selftest", "--seconds", "3", "--stall", "0.6", "--json"))

    assert told["shown"]
    assert told["worst_ms"] >= 540
    assert told["share_that_waited"] == pytest.approx(0.1, abs=0.04)


def test_a_run_is_judged_saved_and_reported(tmp_path: Path) -> None:
    """Two steps by two processes; objectives wide enough for any machine."""
    wide = tmp_path / "wide.yaml"
    wide.write_text("name: wide\np99_ms: 900\nerrors: 0\n", encoding="utf-8")
    with stalling_server(NEVER) as target:
        told = measured(
            target, tmp_path, "--rate", "50", "--rate", "100", "--processes", "2", "--slo", str(wide)
        )

    assert told["kept"]
    assert told["knee"] == 100
    steps = told["steps"]
    assert isinstance(steps, list)
    assert [step["codes"] for step in steps] == [{"OK": 50}, {"OK": 100}]
    assert "Load test run" in (tmp_path / "report.html").read_text(encoding="utf-8")
    compared = run("compare", str(tmp_path / "result.json"), str(tmp_path / "result.json"), "--json")
    assert {change["ratio"] for change in json.loads(compared)} == {1.0}


def test_broken_objectives_end_a_ladder_and_the_command(tmp_path: Path) -> None:
    """Nobody keeps a microsecond: two steps, then exit code 4."""
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text("name: narrow\np50_ms: 0.001\n", encoding="utf-8")
    with stalling_server(NEVER) as target:
        told = measured(target, tmp_path, "--rate", "20", "--ladder", "--slo", str(narrow), code=4)

    steps = told["steps"]
    assert isinstance(steps, list)
    assert [step["rate"] for step in steps] == [20, 25]
    assert told["knee"] is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "--profile", "none"), "no such profile"),
        (("run", "--slo", "none"), "no such objectives"),
        (("report", "none.json"), "cannot be read"),
    ],
)
def test_what_cannot_be_run_says_why(arguments: tuple[str, ...], told: str) -> None:
    """Exit code 3, before any server is started."""
    done = CliRunner().invoke(app, list(arguments))

    assert done.exit_code == 3
    assert told in done.stderr


@pytest.mark.parametrize("content", [b"", b"two words", "é".encode()])
def test_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    """Rather than to measure refusals."""
    (tmp_path / "token").write_bytes(content)

    done = CliRunner().invoke(app, ["run", "--target", "localhost:1", "--token-file", f"{tmp_path}/token"])

    assert done.exit_code == 3
    assert "holds no token" in done.stderr
