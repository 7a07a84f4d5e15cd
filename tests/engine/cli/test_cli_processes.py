"""`arbiter` as processes: start-up, the demo, and how a server ends."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from engine.cli.app import COMMANDS
from engine.demo.cast import CAST

Start = Callable[..., subprocess.Popen[str]]
SECONDS = 60.0


@pytest.fixture
def demo_data(demo_company: Path, tmp_path: Path) -> Path:
    """A copy of the loaded demo company."""
    return Path(shutil.copytree(demo_company, tmp_path / "demo"))


def test_help_imports_neither_runtime_nor_server(start_arbiter: Start) -> None:
    """`arbiter --help` answers before anything heavy is imported."""
    process = start_arbiter("--help", PYTHONPROFILEIMPORTTIME="1")

    _, imports = process.communicate(timeout=SECONDS)

    names = {line.rpartition("|")[2].strip() for line in imports.splitlines()}
    assert "engine.cli.app" in names
    assert not names & {"onnxruntime", "lmdb", "grpc", "numpy", "google.protobuf", "ruamel.yaml"}


def test_help_tells_of_each_command_what_the_command_says_itself() -> None:
    """The words that stand in for a command that is not imported yet are its own first sentence."""
    told = {command.name: command.help for command in COMMANDS}

    own = {command.name: command.load().help.split("\n")[0] for command in COMMANDS}

    assert told == own


def test_the_demo_runs_to_its_end(start_arbiter: Start, demo_data: Path) -> None:
    """Each of the cast is decided for with reasons and suppressions; the server is stopped in the end."""
    process = start_arbiter("demo", "--data-dir", demo_data)

    told, errors = process.communicate(timeout=SECONDS)

    assert (process.returncode, errors) == (0, "")
    assert all(f"{customer}: {scene.title}" in told for customer, scene in CAST.items())
    assert told.count("suppressed: ") == len(CAST) + 1
    assert "objects to marketing" in told
    assert "FAILED_PRECONDITION" in told
    assert "p50" in told
    assert "server.stopped" in (demo_data / "server.log").read_text()


def test_an_interrupted_demo_leaves_no_server_and_can_run_again(
    start_arbiter: Start, demo_data: Path
) -> None:
    """Whatever ends the demo, its server is stopped, there is no traceback, and the data stay good."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start_arbiter("demo", "--data-dir", demo_data, PYTHONUNBUFFERED="1")
        assert process.stdout is not None
        process.stdout.readline()

        process.send_signal(number)
        _, errors = process.communicate(timeout=SECONDS)

        assert (process.returncode, "Traceback" in errors) == (code, False)
        assert "server.stopped" in (demo_data / "server.log").read_text()


def test_a_demo_whose_server_cannot_start_says_why(
    start_arbiter: Start, demo_data: Path, tmp_path: Path
) -> None:
    """The server's own words, and no waiting."""
    process = start_arbiter("demo", "--data-dir", demo_data, "--rules", tmp_path / "none")

    _, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == 3
    assert "there is no such folder" in errors


@pytest.mark.parametrize("command", [["demo"], ["serve", "--demo"]])
def test_the_demo_keeps_out_of_other_data(
    run: Callable[..., Result], tmp_path: Path, command: list[str]
) -> None:
    """Made-up consents are never loaded into somebody's own data directory."""
    (tmp_path / "decisions").mkdir()

    result = run(*command, "--data-dir", tmp_path)

    assert result.exit_code == 3
    assert "not the demo's" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["decisions"]


@pytest.mark.parametrize("command", [["demo"], ["serve"], ["serve", "--demo"]])
def test_a_file_is_no_data_directory(run: Callable[..., Result], tmp_path: Path, command: list[str]) -> None:
    """The error says what is in the way."""
    (tmp_path / "data").write_text("")

    result = run(*command, "--data-dir", tmp_path / "data")

    assert result.exit_code == 3
    assert "is a file" in result.stderr


def test_a_port_in_use_ends_with_3(start_arbiter: Start, demo_data: Path) -> None:
    """The error names the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        process = start_arbiter("serve", "--port", port, "--data-dir", demo_data)
        told, errors = process.communicate(timeout=SECONDS)

    assert (process.returncode, told) == (3, "")
    assert f"cannot listen on 127.0.0.1:{port}" in errors
    assert "Traceback" not in errors
