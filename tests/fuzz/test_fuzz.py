"""A few thousand of the inputs of `make fuzz`; a finding names its seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from arbiter_at_work import AT_RISK, LOYAL, RunningServer
from files_fuzzed import surfaces as file_surfaces
from mutating import Mutator
from requests_fuzzed import Calls, Requests, Texts, judged
from surfaces import Finding, Surface, fuzz, refuse_inside
from wire_fuzzed import Port, Served, WireRequests, slow_clients

from engine.bootstrap import Application

FILES = {surface.name: surface for surface in file_surfaces()}


@pytest.mark.parametrize("name", FILES)
def test_files_and_tokens_end_in_words(name: str) -> None:
    """Right, or an error of their own kind."""
    counts = fuzz(FILES[name], 20 if name == "rule files" else 150, seed=7)

    assert counts.findings == []


@pytest.mark.parametrize("kind", [Requests, Texts])
def test_requests_are_answered_or_refused(
    application: Application, like: Callable[[str], str], kind: type[Requests]
) -> None:
    """With a reason that clients know; never as if the fault were ours."""
    surface = kind(application, like(AT_RISK), like(LOYAL))

    counts = fuzz(surface, 500, seed=7)

    assert counts.findings == []
    assert counts.became["answered"] > 0


def test_a_port_stands_what_strangers_send(
    start_server: Callable[..., RunningServer], application: Application, like: Callable[[str], str]
) -> None:
    """While slow clients hold connections, and a good request is answered afterwards."""
    messages = Requests(application, like(AT_RISK), like(LOYAL)).messages
    served = Served(start_server())

    with slow_clients(served, 30):
        wire, port = fuzz(WireRequests(served, messages), 150, seed=7), fuzz(Port(served), 60, seed=7)

    assert wire.findings + port.findings == []


def test_bytes_that_are_no_message_are_the_callers_fault(application: Application) -> None:
    """gRPC would say INTERNAL."""
    calls = Calls(application)

    _, status = calls.answer("/arbiter.v1.DecisionService/Decide", b"\xff\xff")

    assert status is not None
    assert judged(status) == "INVALID_ARGUMENT REQUEST_INVALID"


class _Raising:
    """A surface that is at fault."""

    name = "raising"

    def run(self, mutator: Mutator) -> str:
        if mutator.random.random() < 0.5:
            raise ZeroDivisionError
        refuse_inside("see /home/arbiter/engine/api.py")
        return "unreached"

    def check(self) -> None:
        raise Finding("the good input is not right any more")


def test_faults_are_found() -> None:
    """What is raised, what tells of the inside, what is wrong afterwards; else nothing above would fail."""
    surface: Surface = _Raising()

    counts = fuzz(surface, 12, seed=1)

    assert len(counts.findings) == 13
    assert sum("ZeroDivisionError" in finding for finding in counts.findings) in range(1, 12)
    assert "not right any more" in counts.findings[-1]


def test_a_seed_finds_the_same_again() -> None:
    """So that a finding can be looked into."""
    made = [Mutator(5).data([b"some bytes", b"others"]) for _ in range(2)]

    assert made[0] == made[1]
