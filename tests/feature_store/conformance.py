"""What every online store must do. A store's test file names its factory:

class TestMyStore(StoreConformance):
    open_store = staticmethod(open_my_store)
    reopen = staticmethod(open_my_store_again)
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import store_workers
from store_examples import DAY_MS, consent, contact, reservation, same_vector, vector

from feature_store import layout
from feature_store.contacts import key_digest
from feature_store.errors import StoreRefused, StoreUnavailable
from feature_store.state import (
    ConsentState,
    ContactHistory,
    CustomerChange,
    CustomerRecord,
    CustomerState,
    Demand,
    Identity,
    Signal,
)
from feature_store.store import OnlineStore

PHONE = Identity("phone", "+41790000000")
EMAIL = Identity("email", "zoe@example.org")
RAIN = Signal("payment_trouble", True, 1_000, 9_000)
ONE = Demand("gifts", 1, 1_000)
TWO = Demand("calls", 2, 10_000)
SPAWN = multiprocessing.get_context("spawn")


def keep(**changes: object) -> Callable[[str, CustomerRecord], CustomerChange]:
    """An update that makes the same change whatever was there."""
    return lambda customer_id, record: CustomerChange(**changes)  # type: ignore[arg-type]


def known(store: OnlineStore, customer_id: str) -> CustomerState:
    """The state of a customer that exists."""
    state = store.read(customer_id)
    assert state is not None
    return state


def record_of(store: OnlineStore, customer_id: str) -> CustomerRecord:
    """What an update is given."""
    seen: list[CustomerRecord] = []
    store.update([customer_id], lambda _, record: seen.append(record))
    return seen[-1]


def _packed(customer_id: str, value: float) -> bytes:
    return layout.encode_features(customer_id, vector(value))


def _first(customer_id: str, stored: bytes | None, otherwise: float) -> float:
    return otherwise if stored is None else float(layout.decode_features(customer_id, stored).values[0])


def _value(record: CustomerRecord, otherwise: float) -> float:
    return otherwise if record.features is None else float(record.features.values[0])


class StoreConformance:
    """Inherit and set `open_store`, a directory to a new, empty store, and `reopen`.

    `reopen` is a function of a module that opens, in another process, the store that `open_store` made for
    the same directory.
    """

    open_store: Callable[[Path], OnlineStore]
    reopen: Callable[[Path], OnlineStore]

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

    def test_read_many_is_read_of_each(self, store: OnlineStore) -> None:
        """Many customers come in the order asked for, unknown ones as None, one asked twice twice."""
        names = [f"c{i}" for i in range(300)]
        store.put_customers((name, vector(float(i))) for i, name in enumerate(names))
        store.put_consents([("c7", consent())])
        store.record_contact("c8", contact(), key="k")
        asked = ["c8", "unknown", *reversed(names), "", "x" * 2000, "c7", "c8"]

        read = store.read_many(asked)

        each = [store.read(name) for name in asked]
        assert [state and state.customer_id for state in read] == [s and s.customer_id for s in each]
        for together, alone in zip(read, each, strict=True):
            if together is not None and alone is not None:
                assert same_vector(together.features, alone.features)
                assert together.consents == alone.consents
                assert together.contacts == alone.contacts
                assert together.contacts_token == alone.contacts_token

    def test_read_many_of_nobody(self, store: OnlineStore) -> None:
        """Asking for no customers is no error."""
        assert store.read_many([]) == []

    def test_everything_that_arrives_before_the_customer_shows(self, store: OnlineStore) -> None:
        """Signals, stream, reservations and identities are kept for a customer that does not exist yet."""
        store.put_signals("c1", [RAIN])
        store.update(["c1"], keep(stream=b"seen"))
        store.link([(PHONE, "c1")])
        store.reserve(CustomerState("c1"), [reservation()])
        before = store.read("c1"), store.read_many(["c1"]), list(store.customers())

        store.put_customers([("c1", vector())])

        after = known(store, "c1")
        assert before == (None, [None], [])
        assert (after.signals, after.contacts) == ((RAIN,), (reservation().event,))
        assert record_of(store, "c1").stream == b"seen"
        assert store.resolve(PHONE) == ("c1",)

    def test_update_is_given_the_whole_record(self, store: OnlineStore) -> None:
        """An update sees all that is kept under the id, contacts with the digests of their keys."""
        store.put_customers([("c1", vector(1.0))])
        store.put_consents([("c1", consent())])
        store.record_contact("c1", contact(), key="k1")
        store.put_signals("c1", [RAIN])
        store.update(["c1"], keep(stream=b"\x00state"))

        record = record_of(store, "c1")

        assert same_vector(record.features, vector(1.0))
        assert record.consents == (consent(),)
        assert record.contacts == ContactHistory((contact(),), (key_digest("k1"),))
        assert (record.signals, record.stream) == ((RAIN,), b"\x00state")

    def test_update_of_an_unknown_customer_is_given_an_empty_record(self, store: OnlineStore) -> None:
        """Before anything is kept of a customer, its record has nothing in it."""
        record = record_of(store, "c1")

        assert record.features is None
        assert record.contacts == ContactHistory()
        assert (record.consents, record.signals, record.stream) == ((), (), b"")

    def test_update_replaces_what_it_names(self, store: OnlineStore) -> None:
        """Features, contacts, signals and stream are replaced together; consents stay."""
        store.put_customers([("c1", vector(1.0))])
        store.put_consents([("c1", consent())])
        store.record_contact("c1", contact(), key="old")
        store.put_signals("c1", [RAIN])
        history = ContactHistory((contact(5), contact(6)), (key_digest("a"), key_digest("b")))
        churner = Signal("churner", True, 1, 2)

        store.update(["c1"], keep(features=vector(2.0), contacts=history, signals=(churner,), stream=b"new"))

        record, state = record_of(store, "c1"), known(store, "c1")
        assert same_vector(state.features, vector(2.0))
        assert (record.contacts, state.contacts) == (history, history.events)
        assert (state.signals, record.stream, state.consents) == ((churner,), b"new", (consent(),))
        assert store.record_contact("c1", contact(), key="a") is False

    @pytest.mark.parametrize(
        "change",
        [
            CustomerChange(features=vector(2.0)),
            CustomerChange(contacts=ContactHistory((contact(5),), (key_digest("a"),))),
            CustomerChange(signals=()),
            CustomerChange(consents=(consent(ConsentState.DENIED),)),
            CustomerChange(stream=b"new"),
            CustomerChange(due_at_ms=5),
            CustomerChange(),
            None,
        ],
        ids=["features", "contacts", "signals", "consents", "stream", "due", "nothing", "none"],
    )
    def test_update_leaves_what_it_does_not_name(
        self, store: OnlineStore, change: CustomerChange | None
    ) -> None:
        """What a change does not name stays as it was."""
        store.put_customers([("c1", vector(1.0))])
        store.record_contact("c1", contact(), key="old")
        store.put_signals("c1", [RAIN])
        store.put_consents([("c1", consent())])
        store.update(["c1"], keep(stream=b"old"))
        before = record_of(store, "c1")

        store.update(["c1"], lambda _, record: change)

        after, named = record_of(store, "c1"), change or CustomerChange()
        assert same_vector(after.features, named.features or before.features)
        assert after.contacts == (named.contacts or before.contacts)
        assert after.signals == (before.signals if named.signals is None else named.signals)
        assert after.consents == (named.consents or before.consents)
        assert after.stream == (named.stream or before.stream)

    def test_update_may_rebuild_consents(self, store: OnlineStore) -> None:
        """A rebuilt projection replaces all consents, also by none; later records go on from it."""
        store.put_customers([("c1", vector())])
        store.put_consents([("c1", consent(ConsentState.OBJECTED, at_ms=9_000))])
        rebuilt = (consent(at_ms=1_000), consent(ConsentState.DENIED, channel="web"))

        store.update(["c1"], keep(consents=rebuilt))
        read = known(store, "c1").consents
        store.put_consents([("c1", consent(ConsentState.WITHDRAWN, at_ms=2_000))])
        later = known(store, "c1").consents
        store.update(["c1"], keep(consents=()))

        assert read == rebuilt
        assert later == (consent(ConsentState.WITHDRAWN, at_ms=2_000), rebuilt[1])
        assert known(store, "c1").consents == ()

    def test_update_takes_away(self, store: OnlineStore) -> None:
        """Empty contacts, signals and stream are kept as none."""
        store.put_customers([("c1", vector())])
        store.record_contact("c1", contact(), key="k")
        store.put_signals("c1", [RAIN])
        store.update(["c1"], keep(stream=b"old"))

        store.update(["c1"], keep(contacts=ContactHistory(), signals=(), stream=b""))

        record, state = record_of(store, "c1"), known(store, "c1")
        assert (record.contacts, record.signals, record.stream) == (ContactHistory(), (), b"")
        assert (state.contacts, state.signals) == ((), ())
        assert store.record_contact("c1", contact(), key="k") is True

    def test_update_creates_a_customer_by_its_features_only(self, store: OnlineStore) -> None:
        """A customer exists once an update gave it features, and not before."""
        store.update(["c1"], keep(stream=b"seen", signals=(RAIN,)))
        before = store.read("c1")

        store.update(["c1"], keep(features=vector(3.0)))

        assert before is None
        assert same_vector(known(store, "c1").features, vector(3.0))
        assert list(store.customers()) == ["c1"]

    def test_update_of_many_customers_gives_each_its_own(self, store: OnlineStore) -> None:
        """Every customer's change comes from its own id and record; one may be left alone."""
        names = [f"c{i}" for i in range(50)]
        store.put_customers((name, vector(float(i))) for i, name in enumerate(names))

        def double(customer_id: str, record: CustomerRecord) -> CustomerChange | None:
            assert record.features is not None
            value = float(record.features.values[0])
            return None if customer_id == "c7" else CustomerChange(features=vector(2 * value))

        store.update(names, double)

        read = [float(known(store, name).features.values[0]) for name in names]  # type: ignore[union-attr]
        assert read == [7.0 if i == 7 else 2.0 * i for i in range(50)]

    def test_update_that_fails_changes_nobody(self, store: OnlineStore) -> None:
        """Changes are made for all customers before any is written: an error of one keeps all out."""

        def fail_on_second(customer_id: str, record: CustomerRecord) -> CustomerChange:
            if customer_id == "c2":
                raise LookupError("not declared")
            return CustomerChange(stream=b"new")

        with pytest.raises(LookupError, match="not declared"):
            store.update(["c1", "c2"], fail_on_second)

        assert record_of(store, "c1").stream == b""

    def test_update_refuses_what_cannot_be_kept(self, store: OnlineStore) -> None:
        """A change with a vector that names no schema is refused, with what stands beside it."""
        with pytest.raises(StoreRefused, match=r"c1.*(digest|packed)"):
            store.update(["c1"], keep(features=vector(schema="telco-1"), stream=b"new"))
        with pytest.raises(StoreRefused):
            store.update([""], keep(stream=b"new"))

        assert record_of(store, "c1").stream == b""

    def test_due_customers_come_the_longest_due_first(self, store: OnlineStore) -> None:
        """Who is marked for now or earlier is due, in order of the marks, up to the limit."""
        for at_ms in (500, 1_001, 300, 1_000, 400):
            store.update([f"c{at_ms}"], keep(due_at_ms=at_ms))

        due = (
            store.due(now_ms=1_000, limit=10),
            store.due(now_ms=1_000, limit=2),
            store.due(now_ms=1, limit=9),
        )

        assert due == (["c300", "c400", "c500", "c1000"], ["c300", "c400"], [])

    def test_due_mark_stays_until_it_is_replaced(self, store: OnlineStore) -> None:
        """Asking who is due changes nothing; a later mark replaces the earlier, 0 takes it away."""
        store.update(["c1", "c2", "c3"], keep(due_at_ms=100))
        store.update(["c1"], keep(stream=b"x"))
        first = [sorted(store.due(now_ms=100, limit=9)) for _ in range(2)]

        store.update(["c2"], keep(due_at_ms=200))
        store.update(["c3"], keep(due_at_ms=0))

        assert first == [["c1", "c2", "c3"]] * 2
        assert store.due(now_ms=150, limit=9) == ["c1"]
        assert store.due(now_ms=200, limit=9) == ["c1", "c2"]

    def test_reservations_are_added(self, store: OnlineStore) -> None:
        """Reservations made on the state that was read stand among the contacts, ends included."""
        store.put_customers([("c1", vector())])
        store.record_contact("c1", contact(2_000), key="k1")
        made = [reservation(3_000, key="a"), reservation(1_000, key="b", action="device_addon")]

        kept = store.reserve(known(store, "c1"), made)

        assert kept is True
        assert known(store, "c1").contacts == (made[1].event, contact(2_000), made[0].event)

    def test_reservation_needs_the_contacts_that_were_read(self, store: OnlineStore) -> None:
        """Where a contact came between, nothing is reserved; reading again helps."""
        store.put_customers([("c1", vector())])
        stale = known(store, "c1")
        store.record_contact("c1", contact(), key="k1")

        refused = store.reserve(stale, [reservation()])
        in_between = known(store, "c1")
        kept = store.reserve(in_between, [reservation()])
        again = store.reserve(in_between, [reservation(key="r2")])

        assert (refused, kept, again) == (False, True, False)
        assert in_between.contacts == (contact(),)
        assert len(known(store, "c1").contacts) == 2

    def test_reservation_of_none_tells_whether_contacts_changed(self, store: OnlineStore) -> None:
        """Without reservations the answer is the same and nothing is kept."""
        store.put_customers([("c1", vector())])
        state = known(store, "c1")

        same = store.reserve(state, [])
        store.reserve(state, [reservation()])
        changed = store.reserve(state, [])

        assert (same, changed) == (True, False)

    def test_reservation_does_not_mind_other_changes(self, store: OnlineStore) -> None:
        """Features, consents, signals and the stream may change between reading and reserving."""
        store.put_customers([("c1", vector())])
        store.record_contact("c1", contact(), key="k1")
        state = known(store, "c1")
        store.put_customers([("c1", vector(9.0))])
        store.put_consents([("c1", consent())])
        store.put_signals("c1", [RAIN])
        store.update(["c1"], keep(stream=b"seen"))

        assert store.reserve(state, [reservation(2_000)]) is True

    def test_reservation_made_again_is_one(self, store: OnlineStore) -> None:
        """Under one key there is one reservation, the later made; a counted contact is not undone."""
        store.put_customers([("c1", vector())])
        store.record_contact("c1", contact(), key="counted")
        store.reserve(known(store, "c1"), [reservation(2_000, until_ms=3_000)])
        longer = reservation(2_500, until_ms=9_000)

        kept = store.reserve(known(store, "c1"), [longer, reservation(key="counted")])

        assert kept is True
        assert known(store, "c1").contacts == (contact(), longer.event)

    def test_reservation_drops_contacts_older_than_the_history(self, store: OnlineStore) -> None:
        """A reservation moves the history on as a contact does."""
        store.put_customers([("c1", vector())])
        store.record_contact("c1", contact(DAY_MS), key="old")
        new = reservation(402 * DAY_MS, until_ms=403 * DAY_MS)

        store.reserve(known(store, "c1"), [new])

        assert known(store, "c1").contacts == (new.event,)

    def test_contact_settles_its_reservation(self, store: OnlineStore) -> None:
        """The outcome of a decision stands in the place of its reservation; others stay."""
        store.put_customers([("c1", vector())])
        other = reservation(1_500, key="other")
        store.reserve(known(store, "c1"), [reservation(1_000, key="mine"), other])

        counted = store.record_contact("c1", contact(2_000), key="shown", settles="mine")

        assert counted is True
        assert known(store, "c1").contacts == (other.event, contact(2_000))

    def test_contact_settles_a_reservation_that_had_ended(self, store: OnlineStore) -> None:
        """A late outcome replaces its reservation too, and counts where there is none."""
        store.put_customers([("c1", vector())])
        store.reserve(known(store, "c1"), [reservation(1_000, key="mine", until_ms=1_001)])

        counted = [
            store.record_contact("c1", contact(9_000), key="shown", settles="mine"),
            store.record_contact("c1", contact(9_001), key="clicked", settles="mine"),
        ]

        assert counted == [True, True]
        assert known(store, "c1").contacts == (contact(9_000), contact(9_001))

    def test_contact_may_have_the_key_of_its_reservation(self, store: OnlineStore) -> None:
        """A reservation under the same key does not pass for the contact that settles it."""
        store.put_customers([("c1", vector())])
        store.reserve(known(store, "c1"), [reservation(key="d1")])

        counted = [store.record_contact("c1", contact(2_000), key="d1", settles="d1") for _ in range(2)]

        assert counted == [True, False]
        assert known(store, "c1").contacts == (contact(2_000),)

    def test_only_reservations_are_settled(self, store: OnlineStore) -> None:
        """A contact that was counted under the key is not undone by another."""
        store.put_customers([("c1", vector())])
        store.record_contact("c1", contact(1_000), key="mine")

        store.record_contact("c1", contact(2_000), key="next", settles="mine")

        assert known(store, "c1").contacts == (contact(1_000), contact(2_000))

    def test_budget_gives_as_many_units_as_it_has(self, store: OnlineStore) -> None:
        """Units are taken until none is left; the answer then names the budget."""
        took = [store.take([TWO], key=f"k{i}", now_ms=0, until_ms=100) for i in range(4)]

        assert took == [(), (), ("calls",), ("calls",)]

    def test_units_are_taken_from_all_budgets_or_from_none(self, store: OnlineStore) -> None:
        """Where one budget is exhausted, the other keeps its unit; every exhausted one is named."""
        none = Demand("none", 0, 1_000)
        store.take([ONE], key="first", now_ms=0, until_ms=100)

        refused = store.take([TWO, ONE, none], key="second", now_ms=0, until_ms=100)

        assert refused == ("gifts", "none")
        assert store.left([TWO, ONE, none], now_ms=0) == (2, 0, 0)

    def test_taking_again_under_a_key_is_one_taking(self, store: OnlineStore) -> None:
        """A repeated request takes nothing more, neither while it holds nor when its unit is spent."""
        held = [store.take([TWO], key="k1", now_ms=now, until_ms=100) for now in (0, 1)]
        store.settle(["calls"], key="k1", now_ms=2, spent=True)

        spent = store.take([TWO], key="k1", now_ms=200, until_ms=300)

        assert (*held, spent) == ((), (), ())
        assert store.left([TWO], now_ms=200) == (1,)

    def test_taking_again_works_where_nothing_is_left(self, store: OnlineStore) -> None:
        """Who holds the last unit is not refused it."""
        store.take([ONE], key="k1", now_ms=0, until_ms=100)

        again = store.take([ONE], key="k1", now_ms=1, until_ms=100)

        assert again == ()

    def test_held_unit_is_free_again_at_its_end(self, store: OnlineStore) -> None:
        """A unit counts up to the instant it is held until, and from there on no more."""
        store.take([ONE], key="k1", now_ms=0, until_ms=100)

        left = [store.left([ONE], now_ms=now)[0] for now in (99, 100)]
        took = [store.take([ONE], key="k2", now_ms=now, until_ms=200) for now in (99, 100)]

        assert left == [0, 1]
        assert took == [("gifts",), ()]

    def test_spent_unit_counts_until_it_is_as_old_as_the_window(self, store: OnlineStore) -> None:
        """A unit counts from its spending for a window's length, whatever it was held until."""
        store.take([ONE], key="k1", now_ms=0, until_ms=100)
        store.settle(["gifts"], key="k1", now_ms=50, spent=True)

        left = [store.left([ONE], now_ms=now)[0] for now in (51, 100, 1_049)]
        refused = store.take([ONE], key="k2", now_ms=1_049, until_ms=2_000)
        took = store.take([ONE], key="k3", now_ms=2_050, until_ms=3_000)

        assert left == [0, 0, 0]
        assert (refused, took) == (("gifts",), ())

    def test_unit_given_back_is_free(self, store: OnlineStore) -> None:
        """A unit that is settled unspent may be taken by the next."""
        store.take([ONE], key="k1", now_ms=0, until_ms=100)

        store.settle(["gifts"], key="k1", now_ms=1, spent=False)

        assert store.take([ONE], key="k2", now_ms=1, until_ms=100) == ()

    def test_settling_what_is_not_held_is_harmless(self, store: OnlineStore) -> None:
        """Unknown keys and budgets, units already spent and holds that ended are left as they are."""
        store.take([TWO], key="spent", now_ms=0, until_ms=100)
        store.settle(["calls"], key="spent", now_ms=1, spent=True)
        store.take([TWO], key="ended", now_ms=0, until_ms=100)

        store.settle(["calls"], key="spent", now_ms=2, spent=False)
        store.settle(["calls"], key="ended", now_ms=100, spent=True)
        store.settle(["calls", "unknown"], key="never", now_ms=2, spent=True)

        assert store.left([TWO], now_ms=200) == (1,)

    def test_one_unit_serves_all_windows_of_a_budget(self, store: OnlineStore) -> None:
        """Two limits on one budget both hold, and a unit counts once in each."""
        short, long = Demand("calls", 1, 100), Demand("calls", 2, 10_000)

        def call(key: str, now_ms: int) -> tuple[str, ...]:
            took = store.take([short, long], key=key, now_ms=now_ms, until_ms=now_ms + 10)
            store.settle(["calls"], key=key, now_ms=now_ms, spent=True)
            return took

        took = [call("k1", 0), call("k2", 50), call("k3", 300), call("k4", 600)]

        assert took == [(), ("calls",), (), ("calls",)]

    def test_budgets_do_not_mix(self, store: OnlineStore) -> None:
        """Budgets whose names are alike, and keys that are, are told apart."""
        names = ["a", "ab", "b", "", "é", "x" * 3_000]
        demands = [Demand(name, 1, 1_000) for name in names]

        took = [store.take([demand], key=f"b{demand.budget}", now_ms=0, until_ms=9) for demand in demands]

        assert took == [()] * len(names)
        assert store.left(demands, now_ms=0) == (0,) * len(names)

    def test_units_left_are_never_negative(self, store: OnlineStore) -> None:
        """A limit that was lowered below what is taken leaves nothing."""
        for key in ("k1", "k2"):
            store.take([TWO], key=key, now_ms=0, until_ms=100)

        assert store.left([replace(TWO, limit=1), TWO, replace(TWO, limit=5)], now_ms=0) == (0, 0, 3)

    @pytest.mark.parametrize("seed", range(3))
    def test_budget_is_never_exceeded(self, store: OnlineStore, seed: int) -> None:
        """Whatever is taken, spent, given back and left to end, a unit taken was one there was."""
        chance, demand, now_ms = random.Random(seed), Demand("calls", 5, 400), 1_000
        held: dict[str, int] = {}
        spent: list[int] = []

        for i in range(150):
            now_ms += chance.randrange(60)
            held = {key: until_ms for key, until_ms in held.items() if until_ms > now_ms}
            taken = len(held) + sum(at_ms + demand.window_ms > now_ms for at_ms in spent)
            assert store.left([demand], now_ms=now_ms)[0] <= demand.limit - taken
            key, until_ms = f"k{i}", now_ms + chance.randrange(1, 200)
            if not store.take([demand], key=key, now_ms=now_ms, until_ms=until_ms):
                assert taken < demand.limit
                held[key] = until_ms
            if held and chance.random() < 0.7:
                key, is_spent = chance.choice(sorted(held)), chance.random() < 0.7
                store.settle(["calls"], key=key, now_ms=now_ms, spent=is_spent)
                del held[key]
                spent += [now_ms] * is_spent

        assert len(spent) > 20

    def test_features_are_merged_in_bulk(self, store: OnlineStore) -> None:
        """What a merge makes of the stored values replaces them; it sees None for who has none yet."""
        names = [f"c{i}" for i in range(1_500)]
        store.put_customers((name, vector(float(i))) for i, name in enumerate(names[:700]))
        store.put_consents([("c3", consent())])

        def doubled(places: Sequence[int], stored: Sequence[bytes | None]) -> list[bytes]:
            return [
                _packed(names[i], 2 * _first(names[i], s, -1.0)) for i, s in zip(places, stored, strict=True)
            ]

        store.merge_features(names, doubled)

        read = [float(known(store, name).features.values[0]) for name in names]  # type: ignore[union-attr]
        assert read == [2.0 * i for i in range(700)] + [-2.0] * 800
        assert list(store.customers()) == sorted(names)
        assert known(store, "c3").consents == (consent(),)

    def test_merges_lose_no_other_merge(self, store: OnlineStore) -> None:
        """Threads that merge into the same customers, others beside them, each build on what is stored."""
        names = [f"c{i}" for i in range(20)]

        def one_more(places: Sequence[int], stored: Sequence[bytes | None]) -> list[bytes]:
            return [
                _packed(names[i], 1 + _first(names[i], s, 0.0)) for i, s in zip(places, stored, strict=True)
            ]

        def update_or_merge(i: int) -> None:
            if i % 4:
                store.merge_features(names, one_more)
            else:
                store.update(["c7"], lambda name, r: CustomerChange(features=vector(1 + _value(r, 0.0))))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(update_or_merge, range(24)))

        read = [float(known(store, name).features.values[0]) for name in names]  # type: ignore[union-attr]
        assert read == [24.0 if name == "c7" else 18.0 for name in names]

    def test_merge_of_nobody_is_harmless(self, store: OnlineStore) -> None:
        """Without customers nothing is merged; an id that nobody can have is refused."""
        store.merge_features([], lambda places, stored: [])

        with pytest.raises(StoreRefused):
            store.merge_features([""], lambda places, stored: [b"never kept"])

        assert list(store.customers()) == []

    def test_stats_say_what_is_held(self, store: OnlineStore) -> None:
        """An operator sees how many customers, values of each kind, identities and budgets there are."""
        store.put_customers([("c1", vector()), ("c2", vector())])
        store.put_consents([("c3", consent())])
        store.update(["c1"], keep(stream=b"seen"))
        store.link([(PHONE, "c1"), (PHONE, "c2"), (EMAIL, "c1")])
        store.take([ONE, TWO], key="k", now_ms=0, until_ms=1)

        stats = store.stats()

        assert (stats.customers, stats.identities, stats.budgets) == (2, 3, 2)
        assert {kind: held.count for kind, held in stats.kinds.items()} == {
            "features": 2,
            "consents": 1,
            "contacts": 0,
            "signals": 0,
            "parts": 0,
            "stream": 1,
            "identities": 2,
        }
        assert stats.kinds["features"].bytes > 0

    def test_condition_names_engine_and_settings(self, store: OnlineStore) -> None:
        """An operator sees what the store is, which version, where, and how it keeps writes."""
        condition = store.condition()

        assert condition.engine
        assert condition.version[0].isdigit()
        assert condition.place
        assert condition.facts

    def test_identities_of_a_customer(self, store: OnlineStore) -> None:
        """A customer's identities are listed once each, sorted by type, then value."""
        store.link([(PHONE, "c1"), (EMAIL, "c1"), (PHONE, "c1"), (PHONE, "c2")])
        store.link([(Identity("phone", "+4100"), "c1")])

        carried = store.identities("c1"), store.identities("c2"), store.identities("c3")

        assert carried == ((EMAIL, Identity("phone", "+4100"), PHONE), (PHONE,), ())

    def test_unlinked_identity_is_not_carried(self, store: OnlineStore) -> None:
        """An identity that was taken away leads to its other carriers only, and is not listed."""
        store.link([(PHONE, "c1"), (PHONE, "c2"), (EMAIL, "c1")])

        store.unlink([(PHONE, "c1"), (EMAIL, "c2"), (Identity("cookie", "x"), "c1"), (PHONE, "unknown")])

        assert (store.resolve(PHONE), store.resolve(EMAIL)) == (("c2",), ("c1",))
        assert (store.identities("c1"), store.identities("c2")) == ((EMAIL,), (PHONE,))

    def test_identity_comes_back_after_unlinking(self, store: OnlineStore) -> None:
        """A link that was undone can be made again, as a merge undone is."""
        for _ in range(2):
            store.link([(PHONE, "c1")])
            store.unlink([(PHONE, "c1")])
        gone = store.resolve(PHONE), store.identities("c1")

        store.link([(PHONE, "c1")])

        assert gone == ((), ())
        assert (store.resolve(PHONE), store.identities("c1")) == (("c1",), (PHONE,))

    def test_erased_customer_leaves_nothing(self, store: OnlineStore) -> None:
        """Features, consents, contacts, signals, stream, identities and the due mark are all gone."""
        for name in ("c1", "c2"):
            store.put_customers([(name, vector())])
            store.put_consents([(name, consent())])
            store.record_contact(name, contact(), key="k")
            store.put_signals(name, [RAIN])
            store.update([name], keep(stream=b"seen", due_at_ms=5))
            store.link([(PHONE, name), (EMAIL, name)])

        erased = store.erase("c1")

        record = record_of(store, "c1")
        assert erased is True
        assert store.read("c1") is None
        assert (record.features, record.consents, record.contacts) == (None, (), ContactHistory())
        assert (record.signals, record.stream) == ((), b"")
        assert (store.resolve(PHONE), store.identities("c1")) == (("c2",), ())
        assert store.due(now_ms=9, limit=9) == ["c2"]
        assert list(store.customers()) == ["c2"]
        assert known(store, "c2").consents == (consent(),)

    def test_erasing_nothing_says_so(self, store: OnlineStore) -> None:
        """Where nothing is kept there is nothing to erase: neither for the unknown nor a second time."""
        store.link([(PHONE, "linked only")])
        store.update(["marked only"], keep(due_at_ms=5))

        erased = [store.erase(name) for name in ("linked only", "marked only")]
        again = [store.erase(name) for name in ("linked only", "marked only", "unknown", "", "x" * 2000)]

        assert erased == [True, True]
        assert again == [False] * 5
        assert store.resolve(PHONE) == ()

    def test_erased_customer_starts_afresh(self, store: OnlineStore) -> None:
        """A customer that comes back under the id has none of what was erased."""
        store.put_customers([("c1", vector())])
        store.record_contact("c1", contact(), key="k")
        store.erase("c1")

        counted = store.record_contact("c1", contact(5_000), key="k")
        store.put_customers([("c1", vector(2.0))])

        assert counted is True
        assert known(store, "c1").contacts == (contact(5_000),)

    def test_schemas_are_kept_by_digest(self, store: OnlineStore) -> None:
        """Texts of schemas come back whole; a digest put again has its latest text."""
        none = dict(store.schemas())
        long = "# größer\n" + "x" * 100_000

        store.put_schema("sha256:" + "aa" * 32, "first")
        store.put_schema("sha256:" + "bb" * 32, long)
        store.put_schema("sha256:" + "aa" * 32, "reworded")

        assert none == {}
        assert dict(store.schemas()) == {"sha256:" + "aa" * 32: "reworded", "sha256:" + "bb" * 32: long}

    def test_threads_race_for_everything(self, store: OnlineStore) -> None:
        """Eight threads reserve, take, count and update at once: nothing is lost, doubled or over-served."""
        store.put_customers([("c1", vector())])

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda worker: store_workers.race(store, worker, 8), range(8)))

        _assert_race_was_fair(store, won, rounds=8)

    def test_processes_race_for_everything(self, store: OnlineStore, tmp_path: Path) -> None:
        """What holds among threads holds among processes that opened the store by themselves."""
        store.put_customers([("c1", vector())])
        workers = [SPAWN.Pipe() for _ in range(3)]
        processes = [
            SPAWN.Process(
                target=store_workers.race_in_process,
                args=(type(self).reopen, tmp_path / "store", worker, 25, there),
                daemon=True,
            )
            for worker, (_, there) in enumerate(workers)
        ]
        for process, (_, there) in zip(processes, workers, strict=True):
            process.start()
            there.close()
        opened = [here.recv() for here, _ in workers]

        for here, _ in workers:
            here.send("start")
        won = [here.recv() for here, _ in workers]
        for process in processes:
            process.join(60)

        assert opened == ["open"] * 3
        _assert_race_was_fair(store, won, rounds=25)

    @pytest.mark.parametrize(
        "call",
        [
            lambda store: store.read("c1"),
            lambda store: store.read_many(["c1"]),
            lambda store: store.update(["c1"], keep(stream=b"x")),
            lambda store: store.due(now_ms=0, limit=1),
            lambda store: store.reserve(CustomerState("c1"), [reservation()]),
            lambda store: store.take([ONE], key="k", now_ms=0, until_ms=1),
            lambda store: store.settle(["gifts"], key="k", now_ms=0, spent=True),
            lambda store: store.left([ONE], now_ms=0),
            lambda store: store.resolve(PHONE),
            lambda store: list(store.customers()),
            lambda store: store.put_customers([("c1", vector())]),
            lambda store: store.link([(PHONE, "c1")]),
            lambda store: store.unlink([(PHONE, "c1")]),
            lambda store: store.identities("c1"),
            lambda store: store.put_consents([("c1", consent())]),
            lambda store: store.put_signals("c1", [RAIN]),
            lambda store: store.record_contact("c1", contact(), key="k"),
            lambda store: store.claim("k", b"v", now_ms=0, ttl_ms=9),
            lambda store: store.release("k", b"v"),
            lambda store: store.erase("c1"),
            lambda store: store.merge_features(["c1"], lambda places, stored: [_packed("c1", 1.0)]),
            lambda store: store.stats(),
            lambda store: store.condition(),
            lambda store: store.put_schema("sha256:", ""),
            lambda store: store.schemas(),
        ],
    )
    def test_closed_store_says_so(self, tmp_path: Path, call: Callable[[OnlineStore], object]) -> None:
        """After `close` every call is a clear error, not a crash."""
        store = self.open_store(tmp_path / "closed")
        store.close()

        with pytest.raises(StoreUnavailable, match="closed"):
            call(store)


def _assert_race_was_fair(store: OnlineStore, won: list[store_workers.Won], *, rounds: int) -> None:
    """Each round had one winner where there was one thing to win, and everything that was done is there."""
    reserved = [event.action_id for event in known(store, "c1").contacts]
    assert sum(worker.reserved for worker in won) == rounds
    assert sorted(reserved) == sorted(f"action {i}" for i in range(rounds))
    assert sum(worker.taken for worker in won) == rounds
    assert store.left([Demand("few", rounds, 1_000), Demand("back", 3, 1_000)], now_ms=rounds) == (0, 3)
    assert sum(worker.counted for worker in won) == rounds
    assert len(record_of(store, "c2").contacts.events) == rounds * (len(won) + 1)
    counts = [int.from_bytes(record_of(store, name).stream, "big") for name in ("c3", "c4")]
    assert counts == [rounds * len(won)] * 2
    assert store.due(now_ms=rounds * len(won), limit=9) == ["c3", "c4"]
    assert store.due(now_ms=rounds * len(won) - 1, limit=9) == []
