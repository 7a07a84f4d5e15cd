"""Looking a store through: what cannot be read is named, and everything else is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_examples import SCHEMA_DIGEST, consent, vector

from feature_store import inspecting
from feature_store.embedded import EmbeddedStore, open_embedded
from feature_store.inspecting import look_through, pages, sampled

OTHER_DIGEST = "sha256:" + "0f" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = open_embedded(tmp_path)
    yield store
    store.close()


def test_schemas_in_use_are_counted(store: EmbeddedStore) -> None:
    """Customers are counted by the schema their features are of; one without features by none."""
    store.put_customers((f"c{i}", vector()) for i in range(700))
    store.put_customers([("other", vector(schema=OTHER_DIGEST))])
    store.put_consents([("early", consent())])
    seen: list[int] = []

    findings = look_through(store, [*store.customers(), "early"], seen=seen.append)

    assert (findings.customers, findings.unreadable) == (702, 0)
    assert findings.schemas == {SCHEMA_DIGEST: 700, OTHER_DIGEST: 1}
    assert seen == [500, 702]


def test_what_cannot_be_read_is_named(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each damaged customer counts, the first of them with what is wrong; the others are looked at."""
    monkeypatch.setattr(inspecting, "MAX_NAMED", 2)
    names = [f"c{i}" for i in range(600)]
    store.put_customers((name, vector()) for name in names)
    store.merge_features(["c5", "c550", "c599"], lambda places, stored: [b"damaged"] * len(places))

    findings = look_through(store, names)

    assert (findings.customers, findings.unreadable) == (600, 3)
    assert list(findings.named) == ["c5", "c550"]
    assert "damaged" in findings.named["c5"]
    assert findings.schemas == {SCHEMA_DIGEST: 597}


def test_sample_is_spread_over_all(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small store is looked at whole, of a large one every so many."""
    names = [f"c{i:03}" for i in range(100)]
    store.put_customers((name, vector()) for name in names)

    whole = list(sampled(store))
    monkeypatch.setattr(inspecting, "_MOST_SAMPLED", 10)
    some = list(sampled(store))

    assert whole == names
    assert some == names[::10]


def test_pages_hold_everyone_once() -> None:
    """Customers come in pages, in their order."""
    read = list(pages(str(i) for i in range(1_001)))

    assert [len(page) for page in read] == [500, 500, 1]
    assert [name for page in read for name in page] == [str(i) for i in range(1_001)]
