"""Our own log under a key names nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from engine import logs
from engine.pseudonyms import Pseudonyms, pseudonymise
from feature_store import layout
from feature_store.errors import StoreCorrupt

KEY = b"a long random text"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """What this process logs, set up as a server sets it up."""
    before, stream = structlog.get_config(), StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure("debug")
    yield stream
    structlog.configure(**before)


def corrupt(customer_id: str) -> StoreCorrupt:
    with pytest.raises(StoreCorrupt) as raised:
        layout.decode_stream(customer_id, b"damaged")
    return raised.value


def log_everything(customer_id: str) -> None:
    log = structlog.get_logger()
    log.warning("by.field", customer=customer_id, customers=[customer_id], identity={"value": customer_id})
    log.error("by.cause", cause=str(corrupt(customer_id)), error=corrupt(customer_id))
    try:
        seen = {"customer": customer_id}
        raise corrupt(seen["customer"])
    except StoreCorrupt:
        log.exception("by.traceback")


def test_no_event_names_a_customer(written: StringIO) -> None:
    """Not in a field, not in the text of an error, not in the variables of a traceback."""
    pseudonymise(KEY)

    log_everything("C-4711")

    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    pseudonym = Pseudonyms(KEY).of("C-4711")
    assert "C-4711" not in written.getvalue()
    assert [line["event"] for line in lines] == ["by.field", "by.cause", "by.traceback"]
    assert (lines[0]["customer"], lines[0]["customers"]) == (pseudonym, [pseudonym])
    assert pseudonym in lines[1]["cause"]
    assert "damaged (7 bytes" in lines[1]["cause"]
    assert pseudonym in json.dumps(lines[2]["exception"])


def test_without_a_key_it_stays_as_it_is(written: StringIO) -> None:
    """Who gave no key wants to read ids."""
    pseudonymise(b"")

    structlog.get_logger().info("seen", customer="C-4711")

    assert "C-4711" in written.getvalue()


def test_the_last_key_counts(written: StringIO) -> None:
    """A second configuration replaces the first; it does not make pseudonyms of pseudonyms."""
    pseudonymise(b"first")
    pseudonymise(KEY)

    structlog.get_logger().info("seen", customer="C-4711")

    assert json.loads(written.getvalue())["customer"] == Pseudonyms(KEY).of("C-4711")


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_a_pseudonym_is_of_one_customer_under_one_key(one: str, other: str) -> None:
    """The same each time, another for another, and another under another key; quotes in ids or not."""
    pseudonyms = Pseudonyms(KEY)

    event = pseudonyms(None, "info", {"cause": f"stored features of customer {one!r}: damaged", "n": 1})

    assert event == {"cause": f"stored features of customer {pseudonyms.of(one)}: damaged", "n": 1}
    assert (pseudonyms.of(one) == pseudonyms.of(other)) == (one == other)
    assert pseudonyms.of(one) != Pseudonyms(b"another").of(one)
