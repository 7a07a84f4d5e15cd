"""`arbiter decide`, `explain` and `consent`: on a server and without one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, UNPROFILED, RunningServer
from google.protobuf import json_format
from typer.testing import Result

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2

Run = Callable[..., Result]


@pytest.fixture(params=["server", "local"])
def place(request: pytest.FixtureRequest) -> list[str]:
    """Options that name a running server, or this process."""
    if request.param == "server":
        return ["--target", f"localhost:{request.getfixturevalue('server_port')}"]
    return ["--local", "--data-dir", str(request.getfixturevalue("own_company"))]


def decided(run: Run, place: list[str], *options: str) -> decision_service_pb2.DecideResponse:
    result = run("decide", *place, "--customer", AT_RISK, "--channel", "call_center", "--json", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    return json_format.Parse(result.stdout, decision_service_pb2.DecideResponse())


def test_decide_prints_the_reply_as_json_and_nothing_else(run: Run, place: list[str]) -> None:
    """--json is the protobuf JSON form of the reply."""
    response = decided(run, place, "--context", "call_reason=cancel", "--limit", "1")

    assert (response.customer_id, len(response.actions)) == (AT_RISK, 1)
    assert response.suppressed


def test_decide_narrows_the_candidates(run: Run, server_port: int) -> None:
    """Groups, actions and exclusions of the command line reach the request."""
    place = ["--target", f"localhost:{server_port}"]
    response = decided(
        run, place, "--group", "retention", "--exclude", "retention_price_lock", "--limit", "9"
    )

    found = {action.action_id for action in response.actions}
    assert {action.group for action in response.actions} == {"retention"}
    assert "retention_price_lock" not in found


def test_decide_says_in_words_what_why_and_why_not(run: Run, server_port: int) -> None:
    """Ranked actions with their reasons, and every suppressed action under its stage."""
    place = ["--target", f"localhost:{server_port}"]
    result = run("decide", *place, "--customer", AT_RISK, "--channel", "call_center")

    response = decided(run, place)
    told = " ".join(result.stdout.split())
    reasons = [r.agent_text for a in (*response.actions, *response.suppressed) for r in a.reasons]
    assert result.exit_code == 0
    assert [a.name for a in response.actions if f"{a.rank}. {a.name}" not in told] == []
    assert [reason for reason in reasons if reason not in told] == []
    assert [f.action_id for f in response.suppressed if f.action_id not in told] == []
    assert f"suppressed: {len(response.suppressed)}" in told
    assert not any(line.endswith(" ") for line in result.stdout.splitlines())


def test_decide_says_when_models_were_not_used(run: Run, server_port: int) -> None:
    """Without consent to profiling the reader is told so."""
    place = ["--target", f"localhost:{server_port}"]
    result = run("decide", *place, "--customer", UNPROFILED, "--channel", "web")

    assert "no consent to profiling" in result.stdout


def test_explain_shows_what_the_rules_saw(run: Run, place: list[str]) -> None:
    """The account of a past decision names its inputs and versions."""
    decision_id = decided(run, place).decision_id

    told = run("explain", decision_id, *place)
    document = run("explain", decision_id, *place, "--json")

    response = json_format.Parse(document.stdout, decision_service_pb2.ExplainResponse())
    assert (told.exit_code, document.exit_code, document.stderr) == (0, 0, "")
    assert response.decision.decision_id == decision_id
    assert all(name in told.stdout for name in response.inputs)
    assert "made with rules sha256:" in told.stdout


def test_an_objection_is_recorded_shown_and_obeyed(run: Run, data_dir: Path) -> None:
    """The next decision after an objection to marketing returns no marketing."""
    place = ["--local", "--data-dir", str(data_dir)]
    before = decided(run, place)

    said = ("consent", "record", *place, "--customer", AT_RISK, "--purpose", "marketing")
    recorded = run(
        *said, "--state", "objected", "--evidence", "call 7", "--recorded", "2026-01-31T08:00Z", "--json"
    )
    shown = run("consent", "show", *place, "--customer", AT_RISK)
    after = decided(run, place)

    record = json_format.Parse(recorded.stdout, consent_service_pb2.RecordConsentResponse()).consent
    assert (record.evidence, record.record_time.ToJsonString()) == ("call 7", "2026-01-31T08:00:00Z")
    assert "objected" in shown.stdout
    assert "marketing" in {action.purpose for action in before.actions}
    assert "marketing" not in {action.purpose for action in after.actions}


def test_consents_are_shown_as_json(run: Run, server_port: int) -> None:
    """--json is the protobuf JSON form of the reply."""
    result = run("consent", "show", "--target", f"localhost:{server_port}", "--customer", AT_RISK, "--json")

    response = json_format.Parse(result.stdout, consent_service_pb2.GetConsentsResponse())
    assert (result.exit_code, result.stderr) == (0, "")
    assert {record.purpose for record in response.consents} == {"marketing", "profiling"}


def test_a_consent_that_ends_is_shown_with_its_end(run: Run, data_dir: Path) -> None:
    """--expires is the first instant at which a consent no longer holds."""
    place = ["--local", "--data-dir", data_dir]
    said = ("--purpose", "marketing", "--channel", "email", "--state", "granted", "--expires", "2099-07-01")

    recorded = run("consent", "record", *place, "--customer", AT_RISK, *said)
    shown = run("consent", "show", *place, "--customer", AT_RISK, "--json")

    held = json_format.Parse(shown.stdout, consent_service_pb2.GetConsentsResponse()).consents
    ends = [r.expire_time.ToJsonString() for r in held if r.channel == "email"]
    assert f"{AT_RISK}, marketing granted on email" in recorded.stdout
    assert ends == ["2099-07-01T00:00:00Z"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["decide", "--customer", "NOBODY", "--channel", "web"], "no such customer"),
        (["decide", "--customer", AT_RISK, "--channel", "fax"], "channel: is none of web"),
        (["decide", "--identity", "phone=+41790000000", "--channel", "web"], "2 customers carry this phone"),
        (["explain", "nonsense"], "no decision id"),
        (["consent", "show", "--customer", "NOBODY"], "no such customer"),
        (
            ["consent", "record", "--customer", AT_RISK, "--purpose", "x", "--state", "granted"],
            "consent.purpose: is none of",
        ),
    ],
)
def test_a_refused_request_ends_with_3_and_words_on_stderr(
    run: Run, server_port: int, arguments: list[str], words: str
) -> None:
    """What was asked is wrong, and the error says which part of it."""
    result = run(*arguments, "--target", f"localhost:{server_port}")

    assert (result.exit_code, result.stdout) == (3, "")
    assert words in result.stderr


def test_a_context_of_the_wrong_type_is_told_how_to_say_it(run: Run, own_company: Path) -> None:
    """A page named 1 looks like a whole number; NAME:TYPE=VALUE settles it."""
    asked = ("decide", "--local", "--data-dir", own_company, "--customer", AT_RISK, "--channel", "web")

    refused = run(*asked, "--context", "page=1")
    accepted = run(*asked, "--context", "page:string=1")

    assert (refused.exit_code, accepted.exit_code) == (3, 0)
    assert "context[page]: is of type int; string is declared" in refused.stderr
    assert "--context NAME:TYPE=VALUE" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["decide", "--customer", "C1"],
        ["decide", "--channel", "web"],
        ["decide", "--channel", "web", "--customer", "C1", "--identity", "phone=1"],
        ["decide", "--channel", "web", "--customer", "C1", "--limit", "0"],
        ["decide", "--channel", "web", "--customer", "C1", "--detail", "all"],
        ["decide", "--channel", "web", "--customer", "C1", "--context", "page"],
        ["decide", "--channel", "web", "--customer", "C1", "--data-dir", "x"],
        ["decide", "--channel", "web", "--customer", "C1", "--local", "--target", "localhost:1"],
        ["consent", "record", "--customer", "C1", "--purpose", "marketing", "--state", "perhaps"],
        [
            "consent",
            "record",
            "--customer",
            "C1",
            "--purpose",
            "m",
            "--state",
            "granted",
            "--expires",
            "soon",
        ],
        ["explain"],
        ["serve", "--port", "70000"],
        ["serve", "--workers", "0"],
        ["nonsense"],
        ["rules", "nonsense"],
    ],
)
def test_wrong_usage_ends_with_2_and_does_nothing(run: Run, arguments: list[str]) -> None:
    """Usage is checked before anything is read or called."""
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error" in result.stderr


def test_without_a_server_a_call_ends_with_5(run: Run) -> None:
    """Nobody listens: the error names the address and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it, and not listening
        target = f"127.0.0.1:{taken.getsockname()[1]}"

        result = run("decide", "--target", target, "--customer", "C1", "--channel", "web")

    assert (result.exit_code, result.stdout) == (5, "")
    assert f"no answer from {target}" in result.stderr
    assert "arbiter serve --demo" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["decide", "--local", "--customer", "C1", "--channel", "web"],
        ["consent", "show", "--local", "--customer", "C1"],
        ["log", "show", "x"],
        ["log", "replay", "x"],
    ],
)
@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_reading_a_wrong_data_directory_makes_nothing(
    run: Run, tmp_path: Path, arguments: list[str], kind: str
) -> None:
    """A mistyped folder is an error, not a new empty company."""
    wrong = tmp_path / "wrong"
    if kind == "empty":
        wrong.mkdir()
    elif kind == "file":
        wrong.write_text("")
    before = sorted(tmp_path.rglob("*"))

    result = run(*arguments, "--data-dir", wrong)

    assert (result.exit_code, result.stdout) == (3, "")
    assert f"{wrong}: holds no data of Arbiter" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_local_decides_beside_a_server_on_the_same_data(
    run: Run, start_server: Callable[..., RunningServer], data_dir: Path
) -> None:
    """A decision made by --local is in the log that the running server explains from."""
    server = start_server()

    made = decided(run, ["--local", "--data-dir", str(data_dir)])
    told = run("explain", made.decision_id, "--target", server.target, "--json")

    response = json_format.Parse(told.stdout, decision_service_pb2.ExplainResponse())
    assert response.decision.decision_id == made.decision_id
