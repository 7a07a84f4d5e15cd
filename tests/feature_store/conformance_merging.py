"""What every online store must do where customers are merged; named by test files as in conformance.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from conformance import EMAIL, PHONE, RAIN, keep, record_of
from store_examples import consent, contact, reservation, same_vector, vector

from feature_store import layout
from feature_store.contacts import key_digest
from feature_store.errors import CustomerMerged
from feature_store.exporting import exported
from feature_store.merged import MergingStore
from feature_store.schema import FeatureSchema
from feature_store.state import (
    ConsentState,
    ContactHistory,
    CustomerChange,
    CustomerRecord,
    CustomerState,
    FeatureVector,
    MergedPart,
    OutcomeType,
    Signal,
)
from feature_store.store import OnlineStore
from feature_store.versions import SchemaVersions

MERGED_MS = 5_000
OLD = ContactHistory((contact(100),), (key_digest("old"),))
GRANTED, DENIED, OBJECTED = ConsentState.GRANTED, ConsentState.DENIED, ConsentState.OBJECTED


def part(name: str = "c1", into: str = "c2", **changes: object) -> MergedPart:
    made = MergedPart(name, into, MERGED_MS, vector(1.0), OLD, (RAIN,), b"of c1")
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of the part


def known(store: OnlineStore | MergingStore, customer_id: str) -> CustomerState:
    state = store.read(customer_id)
    assert state is not None
    return state


class MergingConformance:
    """Inherit and set `open_store` as for StoreConformance. In `merged` c1 is merged into c2; c3 is not."""

    open_store: Callable[[Path], OnlineStore]

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[OnlineStore]:
        store = self.open_store(tmp_path / "store")
        store.put_customers((name, vector(float(i))) for i, name in enumerate(("c1", "c2", "c3"), start=1))
        yield store
        store.close()

    @pytest.fixture
    def merged(self, store: OnlineStore) -> MergingStore:
        store.update(["c2"], keep(parts=(part(),)))
        store.update(["c1"], keep(merged_into="c2", due_at_ms=0))
        return MergingStore(store, clock=lambda: 6_000)

    def test_parts_lie_beside_what_the_customer_has(self, store: OnlineStore) -> None:
        """Contacts of all are read as one history; everything else is apart, and comes back as it was put."""
        store.record_contact("c2", contact(200), key="own")
        store.update(["c2"], keep(parts=(part(), part("c0", "c1", contacts=ContactHistory(), stream=b""))))

        record, state = record_of(store, "c2"), known(store, "c2")

        first, second = record.parts
        assert [event.at_ms for event in record.contacts.events] == [100, 200]
        assert [event.at_ms for event in record.own_contacts.events] == [200]
        assert state.contacts == record.contacts.events
        assert same_vector(record.features, vector(2.0))
        assert [same_vector(each, vector(1.0)) for each in state.merged_features] == [True, True]
        assert (first.customer_id, first.into, first.at_ms, first.contacts) == ("c1", "c2", MERGED_MS, OLD)
        assert (first.signals, first.stream) == ((RAIN,), b"of c1")
        assert (second.customer_id, second.into, second.stream) == ("c0", "c1", b"")

    def test_parts_are_taken_away(self, store: OnlineStore) -> None:
        """Without parts the customer is what it was."""
        store.update(["c2"], keep(parts=(part(),)))

        store.update(["c2"], keep(parts=()))

        record = record_of(store, "c2")
        assert (record.parts, record.contacts, known(store, "c2").merged_features) == (
            (),
            ContactHistory(),
            (),
        )

    def test_whoever_touches_a_merged_customer_learns_of_it(
        self, store: OnlineStore, merged: MergingStore
    ) -> None:
        """From the value that is read or replaced, so that no write is lost beside the merge."""
        calls: list[Callable[[], object]] = [
            lambda: store.read("c1"),
            lambda: store.read_many(["c2", "c1"]),
            lambda: store.put_consents([("c1", consent())]),
            lambda: store.put_signals("c1", [RAIN]),
            lambda: store.record_contact("c1", contact(), key="k"),
        ]

        for call in calls:
            with pytest.raises(CustomerMerged, match="'c1' is merged into 'c2'") as told:
                call()
            assert (told.value.customer_id, told.value.into) == ("c1", "c2")
        assert record_of(store, "c1").merged_into == "c2"
        assert merged.read("c1") is not None

    def test_a_decision_from_before_the_merge_reserves_nothing(self, store: OnlineStore) -> None:
        """Neither of the customer who is gone nor of the one who has more contacts than were seen."""
        before = [known(store, name) for name in ("c1", "c2")]
        store.update(["c2"], keep(parts=(part(),)))
        store.update(["c1"], keep(merged_into="c2"))

        kept = [store.reserve(state, [reservation()]) for state in before]
        now = store.reserve(known(store, "c2"), [reservation(200)])

        assert kept == [False, False]
        assert now is True
        assert [event.at_ms for event in record_of(store, "c2").own_contacts.events] == [200]

    def test_contacts_are_settled_where_they_are(self, store: OnlineStore) -> None:
        """What was reserved before the merge is settled in its own history; what is new is the customer's."""
        held = reservation(150, key="held").event
        history = ContactHistory((held,), (key_digest("held"),))
        store.update(["c2"], keep(parts=(part(contacts=history),)))

        counted = store.record_contact("c2", contact(160), key="shown", settles="held")
        again = store.record_contact("c2", contact(160), key="shown")
        store.record_contact("c2", contact(170), key="new")

        record = record_of(store, "c2")
        assert (counted, again) == (True, False)
        assert [event.outcome for event in record.contacts.events] == [OutcomeType.SHOWN] * 2
        assert record.parts[0].contacts == ContactHistory()

    def test_a_yes_from_before_the_merge_comes_too_late(self, store: OnlineStore) -> None:
        """One that was given before and arrives after loosens nothing; what is said afterwards counts."""
        store.put_consents([("c2", consent(DENIED, at_ms=1_000))])
        store.update(["c2"], keep(parts=(part(),)))

        store.put_consents([("c2", consent(GRANTED, at_ms=4_000))])
        late = known(store, "c2").consents[0].state
        store.put_consents([("c2", consent(GRANTED, at_ms=5_001))])

        assert (late, known(store, "c2").consents[0].state) == (DENIED, GRANTED)

    def test_loaded_features_wait_for_the_parting(self, store: OnlineStore, merged: MergingStore) -> None:
        """Loads of who is merged are kept for then, change nothing now, and do not undo the merge."""
        seen: list[bytes | None] = []

        def loaded(places: object, stored: object) -> list[bytes]:
            seen.extend(stored)  # type: ignore[call-overload]  # a sequence
            return [layout.encode_features("c1", vector(7.0))]

        store.merge_features(["c1"], loaded)
        store.put_customers([("c1", vector(8.0))])

        state = known(merged, "c1")
        assert seen == [layout.encode_features("c1", vector(1.0))]
        assert (state.customer_id, same_vector(state.features, vector(2.0))) == ("c2", True)
        assert same_vector(record_of(store, "c1").features, vector(8.0))
        store.update(["c1"], keep(merged_into=""))
        assert same_vector(known(store, "c1").features, vector(8.0))

    def test_a_merged_customer_gets_everything_back(self, store: OnlineStore, merged: MergingStore) -> None:
        """All that it is given in the step that parts it, and of what it had before only the features."""
        inner = part("c0", "c1")

        store.update(
            ["c1"],
            keep(
                merged_into="",
                contacts=OLD,
                consents=(consent(),),
                signals=(RAIN,),
                stream=b"of c1",
                parts=(inner,),
            ),
        )

        record = record_of(store, "c1")
        assert (record.merged_into, record.own_contacts, record.consents) == ("", OLD, (consent(),))
        assert (record.signals, record.stream, len(record.parts)) == ((RAIN,), b"of c1", 1)
        assert same_vector(record.features, vector(1.0))
        assert known(merged, "c1").customer_id == "c1"

    def test_either_id_is_answered_by_the_one_customer(self, merged: MergingStore) -> None:
        """Reads alone and with others, by identities that one or both carry; nobody is who is not there."""
        merged.link([(PHONE, "c1"), (PHONE, "c2"), (EMAIL, "c1"), (EMAIL, "c3")])

        many = merged.read_many(["c1", "c3", "nobody"])

        assert known(merged, "c1").customer_id == "c2"
        assert [state and state.customer_id for state in many] == ["c2", "c3", None]
        assert (merged.resolve(PHONE), merged.resolve(EMAIL)) == (("c2",), ("c2", "c3"))
        assert merged.identities("c1") == (EMAIL, PHONE)

    def test_what_is_written_by_either_id_is_the_one_customers(self, merged: MergingStore) -> None:
        """Consents, signals, contacts and updates; a contact is noted with the id it came in under."""
        wind = Signal("wind", True, 1, 2)

        merged.put_consents([("c1", consent(at_ms=6_000)), ("c3", consent())])
        merged.put_signals("c1", [wind])
        counted = [merged.record_contact(name, contact(300), key="k") for name in ("c1", "c2", "c1")]
        merged.update(["c1", "c2", "c3"], _longer)

        record = record_of(merged.own, "c2")
        assert record.consents == (consent(at_ms=6_000),)
        assert record_of(merged.own, "c3").consents == (consent(),)
        assert record.signals == (wind,)
        assert counted == [True, False, False]
        assert [event.at_ms for event in record.parts[0].contacts.events] == [100, 300]
        assert (record.own_contacts, record.stream) == (ContactHistory(), b"+c2+c1")
        assert record_of(merged.own, "c3").stream == b"+c3"

    def test_erasing_one_id_leaves_the_other(self, store: OnlineStore, merged: MergingStore) -> None:
        """The store erases what lies under an id; who belongs together is for others to know."""
        gone = store.erase("c1")

        assert gone is True
        assert merged.read("c1") is None
        assert known(merged, "c2").customer_id == "c2"
        assert (store.erase("c2"), merged.read("c2")) == (True, None)
        assert record_of(store, "c2").parts == ()

    def test_a_merged_customer_has_no_row_of_its_own(
        self, store: OnlineStore, merged: MergingStore, telco: FeatureSchema
    ) -> None:
        """Exports of features list who answers, once."""
        nothing = np.full(len(telco.feature), np.nan, dtype=np.float32)
        of_telco = FeatureVector(telco.digest, (0,) * len(telco.view), nothing)
        store.put_customers((name, of_telco) for name in ("c1", "c2"))
        asked = cast(OnlineStore, merged)

        rows = list(exported(asked, ["c1", "c2"], telco, SchemaVersions(store.schemas)))

        assert [row.customer_id for row in rows] == ["c2"]

    def test_only_who_is_merged_costs_another_read(self, store: OnlineStore, merged: MergingStore) -> None:
        """A decision about anybody else reads once, as ever."""
        counting = _Counting(store)
        asked = MergingStore(counting)  # type: ignore[arg-type]  # it hands all else on

        reads = [(name, asked.read(name), list(counting.taken())) for name in ("c3", "c2", "c1")]

        assert [taken for _, _, taken in reads] == [["c3"], ["c2"], ["c1", "c2"]]
        assert merged.own is store


class _Counting:
    """A store that notes who is read."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._read: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def read(self, customer_id: str) -> CustomerState | None:
        self._read.append(customer_id)
        return self._store.read(customer_id)

    def taken(self) -> Iterator[str]:
        """Who was read since this was asked last."""
        while self._read:
            yield self._read.pop(0)


def _longer(customer_id: str, record: CustomerRecord) -> CustomerChange:
    return CustomerChange(stream=record.stream + b"+" + customer_id.encode())
