"""What every online store must do. A store's test file names its factory:

class TestMyStore(StoreConformance):
    open_store = staticmethod(open_my_store)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_examples import DAY_MS, consent, contact, same_vector, vector

from feature_store.errors import StoreRefused, StoreUnavailable
from feature_store.state import ConsentState, Identity, Signal
from feature_store.store import OnlineStore

PHONE = Identity("phone", "+41790000000")
RAIN = Signal("payment_trouble", True, 1_000, 9_000)


class StoreConformance:
    """Inherit and set `open_store`: a directory to a new, empty store."""

    open_store: Callable[[Path], OnlineStore]

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[OnlineStore]:
        store = self.open_store(tmp_path / "store")
        yield store
        store.close()

    def test_unknown_customer(self, store: OnlineStore) -> None:
        """A customer that was never put does not exist, whatever its id looks like."""
        store.put_customers([("c1", vector())])

        read = [store.read(name) for name in ("c2", "", "c", "c11", "x" * 2000)]

        assert read == [None] * 5

    def test_new_customer_has_features_only(self, store: OnlineStore) -> None:
        """A customer put with features reads back with them, and with nothing else."""
        put = vector(1.5, float("nan"), -0.0, 3.4e38)

        count = store.put_customers([("c1", put)])

        state = store.read("c1")
        assert count == 1
        assert state is not None
        assert state.customer_id == "c1"
        assert same_vector(state.features, put)
        assert (state.consents, state.contacts, state.signals) == ((), (), ())

    def test_features_cannot_be_changed_by_readers(self, store: OnlineStore) -> None:
        """What a reader is given is frozen, so decisions cannot disturb each other."""
        store.put_customers([("c1", vector(1.0))])

        state = store.read("c1")

        assert state is not None
        assert state.features is not None
        assert not state.features.values.flags.writeable
        assert state.features.values.flags.aligned

    def test_features_are_replaced_and_the_rest_stays(self, store: OnlineStore) -> None:
        """A nightly load replaces features, their times and schema, and touches nothing else."""
        store.put_customers([("c1", vector(1.0))])
        store.put_consents([("c1", consent())])
        store.record_contact("c1", contact(), key="k1")
        store.put_signals("c1", [RAIN])
        newer = vector(2.0, 3.0, schema="sha256:" + "ff" * 32, times=(5_000,))

        store.put_customers([("c1", newer)])

        state = store.read("c1")
        assert state is not None
        assert same_vector(state.features, newer)
        assert (state.consents, state.contacts, state.signals) == ((consent(),), (contact(),), (RAIN,))

    def test_a_load_is_whole_or_not_at_all(self, store: OnlineStore) -> None:
        """One customer that cannot be kept keeps all others of the load out."""
        with pytest.raises(StoreRefused):
            store.put_customers([("c1", vector()), ("", vector())])

        assert store.read("c1") is None

    def test_a_vector_without_schema_digest_is_refused(self, store: OnlineStore) -> None:
        """Features must name the schema they were packed with by its digest."""
        with pytest.raises(StoreRefused, match=r"c1.*(digest|packed)"):
            store.put_customers([("c1", vector(schema="telco-1"))])

    def test_customers_are_listed_in_order(self, store: OnlineStore) -> None:
        """All ids come once, in the order of their text, however many there are."""
        names = [f"c{i:04d}" for i in range(2500)] + ["é", "Ω", "😀"]
        store.put_customers((name, vector()) for name in reversed(names))

        listed = list(store.customers())

        assert listed == sorted(names)

    def test_no_customers(self, store: OnlineStore) -> None:
        """An empty store lists nobody."""
        assert list(store.customers()) == []

    def test_ids_of_any_alphabet(self, store: OnlineStore) -> None:
        """An id is text, up to 128 characters of any alphabet that UTF-8 writes in 511 bytes."""
        name = "ü😀" * 64

        store.put_customers([(name, vector())])

        state = store.read(name)
        assert state is not None
        assert state.customer_id == name

    def test_identity_of_none_one_and_several(self, store: OnlineStore) -> None:
        """An identity resolves to nobody, to one, or to all that carry it, sorted; never to a guess."""
        before = store.resolve(PHONE)
        store.link([(PHONE, "c2")])
        one = store.resolve(PHONE)
        store.link([(PHONE, "c1"), (PHONE, "c2"), (Identity("email", PHONE.value), "c3")])

        several = store.resolve(PHONE)

        assert (before, one, several) == ((), ("c2",), ("c1", "c2"))

    def test_identity_type_and_value_do_not_run_together(self, store: OnlineStore) -> None:
        """The border between type and value counts: `ab`+`c` is not `a`+`bc`."""
        store.link([(Identity("ab", "c"), "c1")])

        assert store.resolve(Identity("a", "bc")) == ()

    def test_later_consent_wins(self, store: OnlineStore) -> None:
        """Per purpose and channel the latest record stands, in whatever order records arrive."""
        store.put_customers([("c1", vector())])
        latest = consent(ConsentState.GRANTED, at_ms=3_000)

        store.put_consents([("c1", consent(at_ms=1_000)), ("c1", latest)])
        store.put_consents([("c1", consent(ConsentState.OBJECTED, at_ms=2_000))])

        state = store.read("c1")
        assert state is not None
        assert state.consents == (latest,)

    def test_an_objection_yields_to_a_later_grant_only(self, store: OnlineStore) -> None:
        """A later denial leaves the objection standing; a later grant ends it."""
        store.put_customers([("c1", vector())])
        grant = consent(ConsentState.GRANTED, at_ms=3_000)

        seen = []
        for record in (
            consent(ConsentState.OBJECTED, at_ms=1_000),
            consent(ConsentState.DENIED, at_ms=2_000),
            grant,
        ):
            store.put_consents([("c1", record)])
            state = store.read("c1")
            assert state is not None
            seen.append(state.consents[0].state)

        assert seen == [ConsentState.OBJECTED, ConsentState.OBJECTED, ConsentState.GRANTED]

    @pytest.mark.parametrize("refusal_first", [True, False])
    def test_at_the_same_time_the_refusal_wins(self, store: OnlineStore, refusal_first: bool) -> None:
        """Of two records with one time the more restrictive stands, in either order."""
        store.put_customers([("c1", vector())])
        refusal, grant = consent(ConsentState.WITHDRAWN), consent(ConsentState.GRANTED)

        for record in (refusal, grant) if refusal_first else (grant, refusal):
            store.put_consents([("c1", record)])

        state = store.read("c1")
        assert state is not None
        assert state.consents == (refusal,)

    def test_consents_of_purposes_and_channels_stand_side_by_side(self, store: OnlineStore) -> None:
        """Each purpose and channel has its record, ordered by purpose, then channel, in full."""
        store.put_customers([("c1", vector()), ("c2", vector())])
        full = replace(
            consent(channel="web", until_ms=9_000), source="s", notice_version="n", actor="a", evidence="e"
        )
        other = consent(ConsentState.OBJECTED, purpose="analytics")

        store.put_consents([("c1", full), ("c1", consent()), ("c1", other), ("c2", consent())])

        state = store.read("c1")
        assert state is not None
        assert state.consents == (other, consent(), full)

    @pytest.mark.parametrize("derived", [ConsentState.EXPIRED, ConsentState.UNKNOWN])
    def test_derived_states_are_not_recorded(self, store: OnlineStore, derived: ConsentState) -> None:
        """EXPIRED and UNKNOWN are conclusions; recording one is refused, with all beside it."""
        store.put_customers([("c1", vector())])

        with pytest.raises(StoreRefused, match="derived"):
            store.put_consents([("c1", consent()), ("c1", consent(derived, channel="web"))])

        state = store.read("c1")
        assert state is not None
        assert state.consents == ()

    def test_what_arrives_before_the_customer_is_kept(self, store: OnlineStore) -> None:
        """An objection that is here before the customer's features is obeyed once they are."""
        objection = consent(ConsentState.OBJECTED)
        store.put_consents([("c1", objection)])
        store.record_contact("c1", contact(), key="k1")
        before = store.read("c1")

        store.put_customers([("c1", vector())])

        after = store.read("c1")
        assert before is None
        assert after is not None
        assert (after.consents, after.contacts) == ((objection,), (contact(),))

    def test_signals_are_replaced_by_name(self, store: OnlineStore) -> None:
        """A signal replaces that of its name; others stay, and none is filtered by time."""
        store.put_customers([("c1", vector())])
        store.put_signals("c1", [RAIN, Signal("churner", True, 1, 2)])

        store.put_signals("c1", [replace(RAIN, value=False, since_ms=5_000)])

        state = store.read("c1")
        assert state is not None
        assert state.signals == (
            Signal("churner", True, 1, 2),
            Signal("payment_trouble", False, 5_000, 9_000),
        )

    def test_contacts_come_in_order_of_time(self, store: OnlineStore) -> None:
        """Contacts read back in order of time, in whatever order they were recorded."""
        store.put_customers([("c1", vector())])

        for at_ms in (3_000, 1_000, 2_000):
            store.record_contact("c1", contact(at_ms), key=f"k{at_ms}")

        state = store.read("c1")
        assert state is not None
        assert state.contacts == (contact(1_000), contact(2_000), contact(3_000))

    def test_contact_counts_once_for_its_key(self, store: OnlineStore) -> None:
        """A contact sent again under its key is not counted again, even with other content."""
        store.put_customers([("c1", vector())])

        counted = [store.record_contact("c1", contact(at), key="k1") for at in (1_000, 1_000, 2_000)]

        state = store.read("c1")
        assert counted == [True, False, False]
        assert state is not None
        assert state.contacts == (contact(1_000),)

    def test_contacts_at_the_same_instant_all_count(self, store: OnlineStore) -> None:
        """Equal contacts under different keys are different contacts."""
        store.put_customers([("c1", vector())])

        counted = [store.record_contact("c1", contact(), key=key) for key in ("k1", "k2", "k" * 3000)]

        state = store.read("c1")
        assert counted == [True] * 3
        assert state is not None
        assert state.contacts == (contact(),) * 3

    def test_old_contacts_are_dropped(self, store: OnlineStore) -> None:
        """A contact older than the history goes when a newer one is written."""
        store.put_customers([("c1", vector())])
        old, kept, new = (contact(day * DAY_MS) for day in (1, 2, 401))

        for event in (old, kept, new):
            store.record_contact("c1", event, key=str(event.at_ms))

        state = store.read("c1")
        assert state is not None
        assert state.contacts == (kept, new)

    def test_customers_do_not_mix(self, store: OnlineStore) -> None:
        """What is written for one customer is never read for another, ids alike or not."""
        store.put_customers([("c1", vector(1.0)), ("c10", vector(10.0)), ("c", vector(0.0))])

        store.put_consents([("c1", consent())])
        store.record_contact("c10", contact(), key="k")
        store.put_signals("c", [RAIN])

        states = [store.read(name) for name in ("c1", "c10", "c")]
        assert [
            (s.features.values.tolist(), len(s.consents), len(s.contacts), len(s.signals))  # type: ignore[union-attr]
            for s in states
        ] == [([1.0], 1, 0, 0), ([10.0], 0, 1, 0), ([0.0], 0, 0, 1)]

    def test_claim_is_taken_once(self, store: OnlineStore) -> None:
        """The first to claim a key gets it; whoever comes next gets the first one's value."""
        first = store.claim("r1", b"first", now_ms=1_000, ttl_ms=100)
        second = store.claim("r1", b"second", now_ms=1_099, ttl_ms=100)
        other = store.claim("r2", b"other", now_ms=1_099, ttl_ms=100)

        assert (first, second, other) == (None, b"first", None)

    def test_claim_ends(self, store: OnlineStore) -> None:
        """A claim is free again at its expiry, and the new holder's value counts from then on."""
        store.claim("r1", b"first", now_ms=1_000, ttl_ms=100)

        at_expiry = store.claim("r1", b"second", now_ms=1_100, ttl_ms=100)
        after = store.claim("r1", b"third", now_ms=1_150, ttl_ms=100)

        assert (at_expiry, after) == (None, b"second")

    def test_claim_without_duration_only_looks(self, store: OnlineStore) -> None:
        """With no time to live a claim returns what holds the key and takes nothing."""
        free = store.claim("r1", b"look", now_ms=1_000, ttl_ms=0)
        taken = store.claim("r1", b"first", now_ms=1_000, ttl_ms=100)
        held = store.claim("r1", b"look", now_ms=1_000, ttl_ms=0)

        assert (free, taken, held) == (None, None, b"first")

    def test_release_needs_the_value(self, store: OnlineStore) -> None:
        """Only who knows the value of a claim frees it."""
        store.claim("r1", b"mine", now_ms=1_000, ttl_ms=100)

        store.release("r1", b"yours")
        still = store.claim("r1", b"next", now_ms=1_001, ttl_ms=100)
        store.release("r1", b"mine")
        store.release("never-claimed", b"mine")
        freed = store.claim("r1", b"next", now_ms=1_001, ttl_ms=100)

        assert (still, freed) == (b"mine", None)

    def test_threads_lose_nothing(self, store: OnlineStore) -> None:
        """Contacts recorded by several threads at once are all counted, each once, while others read."""
        store.put_customers([("c1", vector(*np.arange(20)))])

        with ThreadPoolExecutor(8) as pool:
            counted = list(
                pool.map(lambda i: store.record_contact("c1", contact(i), key=f"k{i % 40}"), range(80))
            )
            seen = list(pool.map(lambda _: store.read("c1"), range(40)))

        state = store.read("c1")
        assert sum(counted) == 40
        assert all(s is not None for s in seen)
        assert state is not None
        assert len(state.contacts) == 40

    def test_closed_store_says_so(self, tmp_path: Path) -> None:
        """After `close` a call is a clear error, not a crash."""
        store = self.open_store(tmp_path / "closed")
        store.close()

        with pytest.raises(StoreUnavailable, match="closed"):
            store.read("c1")
        with pytest.raises(StoreUnavailable, match="closed"):
            store.put_customers([("c1", vector())])
