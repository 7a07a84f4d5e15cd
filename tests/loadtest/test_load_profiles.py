"""Who asks what."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine._pb.arbiter.v1 import decision_service_pb2
from loadtest.errors import FileInvalid
from loadtest.profiles import FOLDER, load_profile, requests_of

CALLS = 4000


def drawn(name: str, seed: int = 1) -> list[decision_service_pb2.DecideRequest]:
    profile, folder = load_profile(name)
    requests = requests_of(profile, folder, count=CALLS, rng=np.random.default_rng(seed))
    return [decision_service_pb2.DecideRequest.FromString(request) for request in requests]


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_every_profile_that_comes_along_asks_for_customers_of_the_demo(name: str) -> None:
    """By their ids, on channels with their placements."""
    requests = drawn(name)

    assert all("C0001" <= request.customer_id <= "C7043" for request in requests)
    assert all(request.channel and request.placement for request in requests)


def test_traffic_comes_in_its_shares_with_its_context() -> None:
    """Six of ten requests are of the web; of callers some did not say why."""
    requests = drawn("company")

    channels = Counter(request.channel for request in requests)
    reasons = Counter(
        request.context["call_reason"].string_value if "call_reason" in request.context else ""
        for request in requests
        if request.channel == "call_center"
    )
    assert channels["web"] / CALLS == pytest.approx(0.6, abs=0.03)
    assert 0.1 < reasons[""] / reasons.total() < 0.3


def test_with_skew_few_customers_ask_much() -> None:
    """The busiest hundredth asks for far more than its share; without skew it does not."""
    counts = {
        name: sorted(Counter(request.customer_id for request in drawn(name)).values(), reverse=True)
        for name in ("web", "call_center")
    }

    assert sum(counts["web"][:70]) / CALLS > 0.4
    assert sum(counts["call_center"][:70]) / CALLS < 0.1


def test_the_same_seed_asks_the_same() -> None:
    """And another asks something else."""
    assert drawn("company") == drawn("company")
    assert drawn("company") != drawn("company", seed=2)


def test_facts_keep_their_types(tmp_path: Path) -> None:
    """The server refuses a number where a truth value is declared."""
    (tmp_path / "ids.txt").write_text("A1\n\nB2\n", encoding="utf-8")
    name = written(
        tmp_path,
        "name: mine\ncustomers: {file: ids.txt}\ntraffic:\n"
        "  - {name: n, share: 1, channel: web, context: {a: {true: 1}, b: {2: 1}, c: {2.5: 1}, d: {x: 1}}}\n",
    )

    (request, *_) = drawn(name)

    kinds = {fact: value.WhichOneof("kind") for fact, value in request.context.items()}
    assert kinds == {"a": "bool_value", "b": "int_value", "c": "double_value", "d": "string_value"}
    assert request.customer_id in ("A1", "B2")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [", "is no YAML"),
        ("name: x\n", "customers: Field required; traffic: Field required"),
        (
            "name: x\ncustomers: {pattern: C}\ntraffic: [{name: n, share: 1, channel: web}]",
            "must hold {} once",
        ),
        (
            "name: x\ncustomers: {skew: 1}\ntraffic: [{name: n, share: 1, channel: web}]",
            "either `pattern` or",
        ),
        (
            "name: x\ncustomers: {file: none.txt}\ntraffic: [{name: n, share: 0, channel: web}]",
            "traffic.0.share",
        ),
    ],
)
def test_a_profile_that_cannot_be_used_is_told_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    """Every problem, with its place."""
    with pytest.raises(FileInvalid, match=r"mine\.yaml") as refused:
        load_profile(written(tmp_path, text))

    assert told in str(refused.value)


def test_an_unknown_name_lists_those_that_there_are() -> None:
    """A typo costs no search."""
    with pytest.raises(FileInvalid, match="batch, call_center, company, web"):
        load_profile("compny")
