"""Merging and parting customers: what decisions see, what the ledger proves, and what survives a kill."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.ledger import ConsentEntry, ConsentLedger, consent_ledger
from engine.decisionlog.verifying import verify
from engine.service.identities import IdentityLog, identity_log
from engine.service.merges import merges_in, standing
from engine.service.merging import MergeRefused, Merging
from engine.service.projecting import rebuild
from engine.service.retention import Ageing, Retention, enforce
from feature_store.consents import effective_consent
from feature_store.contacts import key_digest
from feature_store.embedded import open_embedded
from feature_store.merged import MergingStore
from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    ContactEvent,
    CustomerChange,
    CustomerRecord,
    FeatureVector,
    Identity,
    OutcomeType,
    Signal,
)
from feature_store.store import OnlineStore

GRANTED, DENIED, WITHDRAWN, OBJECTED = (
    ConsentState.GRANTED,
    ConsentState.DENIED,
    ConsentState.WITHDRAWN,
    ConsentState.OBJECTED,
)
NAMES = ("ann", "bob", "cyd")
PHONE = Identity("phone", "+41790000000")


class Killed(Exception):
    """What stands for kill -9: nothing after it runs."""


@dataclass
class Office:
    """Three customers, what they say, and who merges them; the clock goes on with each word."""

    store: MergingStore
    ledger: ConsentLedger
    log: IdentityLog
    erased: set[str] = field(default_factory=set)
    ticks: Iterator[int] = field(default_factory=lambda: itertools.count(1_000, 10))

    @property
    def merging(self) -> Merging:
        return Merging(
            store=self.store,
            log=self.log,
            ledger=self.ledger,
            is_erased=lambda name: name in self.erased,
            refreshed=lambda names: None,
        )

    def say(
        self,
        name: str,
        state: ConsentState,
        channel: str = "email",
        *,
        ago_ms: int = 0,
        purpose: str = "marketing",
    ) -> None:
        """Records a word as the consent service does: in the ledger, then in the store."""
        now_ms = next(self.ticks)
        said = ConsentRecord(purpose, channel, state, now_ms - ago_ms)
        position = self.ledger.append(ConsentEntry(customer_id=name, consent=said, received_at_ms=now_ms))
        self.store.put_consents([(name, ConsentRecord(*_fields(said), position=position))])

    def merge(self, name: str, into: str) -> None:
        self.merging.merge(name, into, actor="crm:1", reason="same person", now_ms=next(self.ticks))

    def part(self, name: str) -> None:
        self.merging.unmerge(name, actor="crm:1", reason="a mistake", now_ms=next(self.ticks))

    def will(self, name: str, channel: str = "email") -> ConsentState:
        state = self.store.read(name)
        assert state is not None
        return effective_consent(
            state.consents, purpose="marketing", channel=channel, now_ms=next(self.ticks)
        ).state

    def own(self, name: str) -> CustomerRecord:
        """What lies under an id, merged away or not."""
        seen: list[CustomerRecord] = []
        self.store.own.update([name], lambda _, record: seen.append(record))
        return seen[-1]


def _fields(record: ConsentRecord) -> tuple[str, str, ConsentState, int]:
    return record.purpose, record.channel, record.state, record.recorded_at_ms


def shown(at_ms: int, action: str = "upgrade") -> ContactEvent:
    return ContactEvent(at_ms, action, "upsell", "email", "marketing", OutcomeType.SHOWN)


def features(value: float) -> FeatureVector:
    return FeatureVector("sha256:" + "5a" * 32, (1_000,), np.array([value], dtype=np.float32))


@contextmanager
def opened(folder: Path) -> Iterator[Office]:
    store = cast(OnlineStore, open_embedded(folder / "store", clock=lambda: 5_000))
    with consent_ledger(folder / "consents") as ledger, identity_log(folder / "identities") as log:
        yield Office(MergingStore(store, clock=lambda: 5_000), ledger, log)
    store.close()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with opened(tmp_path) as made:
        made.store.put_customers((name, features(float(i))) for i, name in enumerate(NAMES))
        yield made


def test_the_stricter_will_of_both_prevails(office: Office) -> None:
    """An objection of one holds for both, whoever is asked; what they say afterwards governs."""
    office.say("ann", OBJECTED)
    office.say("bob", GRANTED)

    office.merge("ann", "bob")
    merged = office.will("ann"), office.will("bob")
    office.say("ann", GRANTED)

    assert merged == (OBJECTED, OBJECTED)
    assert (office.will("ann"), office.will("bob")) == (GRANTED, GRANTED)


def test_parted_customers_have_their_own_will_back(office: Office) -> None:
    """Each what it said before; a refusal said meanwhile holds for both, a yes for the id it came under."""
    office.say("ann", DENIED)
    office.say("bob", GRANTED)
    office.say("bob", GRANTED, "sms")
    office.merge("ann", "bob")
    office.say("ann", GRANTED)
    office.say("ann", WITHDRAWN, "sms")

    office.part("ann")

    assert (office.will("ann"), office.will("bob")) == (GRANTED, GRANTED)
    assert (office.will("ann", "sms"), office.will("bob", "sms")) == (WITHDRAWN, WITHDRAWN)


def test_the_rest_comes_back_as_it_was(office: Office) -> None:
    """Features, contacts, signals, what ingestion remembers; a contact stays with the id it came in under."""
    rain = Signal("rain", True, 1_000, 9_000)
    office.store.update(["ann"], lambda *_: CustomerChange(stream=b"of ann", signals=(rain,)))
    office.store.update(["bob"], lambda *_: CustomerChange(stream=b"of bob"))
    office.store.record_contact("ann", shown(1_000), key="a1")
    office.store.record_contact("bob", shown(1_001), key="b1")
    office.store.link([(PHONE, "ann"), (PHONE, "bob")])
    before = {name: office.own(name) for name in NAMES}

    office.merge("ann", "bob")
    office.store.record_contact("ann", shown(1_002), key="a2")
    office.store.record_contact("bob", shown(1_003), key="b2")
    state, one = office.store.read("ann"), office.store.resolve(PHONE)
    office.part("ann")

    after = {name: office.own(name) for name in NAMES}
    assert state is not None
    assert (state.customer_id, [c.at_ms for c in state.contacts]) == ("bob", [1_000, 1_001, 1_002, 1_003])
    assert one == ("bob",)
    assert office.store.resolve(PHONE) == ("ann", "bob")
    assert [c.at_ms for c in after["ann"].contacts.events] == [1_000, 1_002]
    assert [c.at_ms for c in after["bob"].contacts.events] == [1_001, 1_003]
    for name in ("ann", "bob"):
        kept, held = before[name].features, after[name].features
        assert kept is not None
        assert held is not None
        assert kept.values.tobytes() == held.values.tobytes()
        assert (after[name].stream, after[name].signals) == (before[name].stream, before[name].signals)
        assert after[name].parts == ()


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([("ann", "ann")], "into itself"),
        ([("ann", "dan")], "dan: there is no such customer"),
        ([("dan", "ann")], "dan: there is no such customer"),
        ([("ann", "bob"), ("ann", "cyd")], "ann: is merged into bob already"),
        ([("ann", "bob"), ("cyd", "ann")], "ann: is itself merged into bob"),
        ([("ann", "bob"), ("bob", "ann")], "ann: is merged into bob already"),
        ([("ann", "bob"), ("bob", "cyd"), ("cyd", "ann")], "ann: is merged into cyd already"),
    ],
)
def test_what_cannot_be_is_refused(office: Office, steps: list[tuple[str, str]], words: str) -> None:
    """With whom it concerns and what to do, and nothing is noted."""
    *made, last = steps
    for name, into in made:
        office.merge(name, into)

    with pytest.raises(MergeRefused, match=words):
        office.merge(*last)

    assert len(merges_in(office.log.replay())) == len(made)


def test_the_erased_are_not_merged_and_the_unmerged_not_parted(office: Office) -> None:
    """Nothing may be kept of who was erased; who was parted is told so."""
    office.erased.add("cyd")
    office.merge("ann", "bob")
    office.part("ann")

    with pytest.raises(MergeRefused, match="cyd: was erased"):
        office.merge("cyd", "bob")
    with pytest.raises(MergeRefused, match="ann: is not merged; it was parted from bob"):
        office.part("ann")
    with pytest.raises(MergeRefused, match="bob: is not merged"):
        office.part("bob")


def test_to_merge_again_is_harmless(office: Office) -> None:
    """It is one merge in the log, and nothing is joined twice."""
    office.store.record_contact("ann", shown(1_000), key="a1")

    office.merge("ann", "bob")
    office.merge("ann", "bob")

    state = office.store.read("bob")
    assert state is not None
    assert len(state.contacts) == 1
    assert len(merges_in(office.log.replay())) == 1


def test_a_chain_is_followed_and_parted_in_the_middle(office: Office) -> None:
    """The last one answers for all; who is parted takes along whoever was merged into it."""
    office.say("ann", OBJECTED)
    office.store.record_contact("ann", shown(1_000), key="a1")
    office.merge("ann", "bob")
    office.merge("bob", "cyd")
    answered = office.store.read("ann")

    office.part("bob")

    assert answered is not None
    assert (answered.customer_id, len(answered.contacts)) == ("cyd", 1)
    assert [office.will(name) for name in NAMES] == [OBJECTED, OBJECTED, ConsentState.UNKNOWN]
    parted = office.store.read("ann")
    assert parted is not None
    assert (parted.customer_id, len(parted.contacts)) == ("bob", 1)


names = st.sampled_from(NAMES)
words = st.tuples(
    st.just("say"),
    names,
    st.sampled_from([GRANTED, GRANTED, DENIED, WITHDRAWN, OBJECTED]),
    st.sampled_from(["email", "sms", ANY_CHANNEL]),
    st.sampled_from([0, 0, 0, 15, 45]),
)
mergers = st.tuples(st.just("merge"), names, names)
partings = st.tuples(st.just("part"), names)
days = st.lists(st.one_of(words, words, words, mergers, partings), min_size=4, max_size=16)
_STRENGTH = (GRANTED, ConsentState.UNKNOWN, ConsentState.EXPIRED, DENIED, WITHDRAWN, OBJECTED)


def take_place(office: Office, step: tuple[object, ...]) -> None:
    """What can be done is done; what is refused changes nothing."""
    what, *rest = step
    if what == "say":
        name, state, channel, ago_ms = rest
        office.say(name, state, channel, ago_ms=ago_ms)  # type: ignore[arg-type]  # as drawn
        return
    with contextlib.suppress(MergeRefused):
        office.merge(*rest) if what == "merge" else office.part(*rest)  # type: ignore[arg-type]  # as drawn


def differing(office: Office) -> list[str]:
    """Customers whose consents a rebuild would change."""
    found = rebuild(
        cast(OnlineStore, office.store),
        office.ledger,
        write=False,
        merges=lambda: merges_in(office.log.replay()),
    )
    return [f"{d.customer_id}: {d.kind}: {d.stored} {d.ledger}" for d in found.differences]


def wills(office: Office) -> dict[tuple[str, str], ConsentState]:
    return {
        (name, channel): office.will(name, channel) for name in NAMES for channel in ("email", "sms", "push")
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(days)
def test_a_rebuild_from_the_ledger_changes_nothing(day: list[tuple[object, ...]]) -> None:
    """Whatever is said, merged and parted in any order: what decisions see follows from the two logs."""
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as office:
        office.store.put_customers((name, features(float(i))) for i, name in enumerate(NAMES))
        for step in day:
            before = wills(office)

            take_place(office, step)

            assert differing(office) == []
            if step[0] == "merge":
                _assert_nothing_looser(office, before, step)
        assert verify(office.ledger.directory, Checkpoints(Path(folder), "consents")).is_whole


def _assert_nothing_looser(
    office: Office, before: dict[tuple[str, str], ConsentState], step: tuple[object, ...]
) -> None:
    """The will of two merged customers is not milder than that of either who said anything."""
    _, name, into = step
    after = wills(office)
    if not any(m.customer_id == name and m.into == into for m in standing(merges_in(office.log.replay()))):
        return
    for (who, channel), state in before.items():
        if who in (name, into) and state is not ConsentState.UNKNOWN:
            assert _STRENGTH.index(after[who, channel]) >= _STRENGTH.index(state)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(days, days)
def test_parting_undoes_a_merge_exactly(
    first: list[tuple[object, ...]], second: list[tuple[object, ...]]
) -> None:
    """With nothing said in between both have the wills they would have had without."""
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as office:
        office.store.put_customers((name, features(float(i))) for i, name in enumerate(NAMES))
        for step in (*first, *second):
            if step[0] == "say":
                take_place(office, step)
        before = {name: office.own(name).consents for name in NAMES}

        office.merge("ann", "bob")
        office.merge("cyd", "bob")
        office.part("ann")
        office.part("cyd")

        assert {name: office.own(name).consents for name in NAMES} == before


class Dying:
    """A store that is killed at its n-th write, before or after it."""

    def __init__(self, store: OnlineStore, steps: int, *, after: bool) -> None:
        self._store = store
        self._left = steps
        self._after = after

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def update(self, customer_ids: list[str], change: Callable[..., CustomerChange | None]) -> None:
        self._left -= 1
        if self._left < 0 and not self._after:
            raise Killed
        self._store.update(customer_ids, change)
        if self._left < 0:
            raise Killed


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("steps", range(12))
def test_what_was_cut_short_is_finished_by_doing_it_again(office: Office, steps: int, after: bool) -> None:
    """Killed at any access of the store, merge and parting end as if they had not been; never milder."""
    office.say("ann", OBJECTED)
    office.say("bob", GRANTED)
    office.store.record_contact("ann", shown(1_000), key="a1")
    office.store.record_contact("bob", shown(1_001), key="b1")
    whole = office.store

    office.store = MergingStore(cast(OnlineStore, Dying(whole.own, steps, after=after)))
    with contextlib.suppress(Killed):
        office.merge("ann", "bob")
    office.store = whole
    in_between = office.will("ann")
    office.merge("ann", "bob")
    merged, seen = office.store.read("ann"), office.will("bob")
    office.store = MergingStore(cast(OnlineStore, Dying(whole.own, steps, after=after)))
    with contextlib.suppress(Killed):
        office.part("ann")
    office.store = whole
    parting = office.will("ann")
    with contextlib.suppress(MergeRefused):  # where it was done already
        office.part("ann")

    assert (in_between, seen, parting) == (OBJECTED, OBJECTED, OBJECTED)
    assert merged is not None
    assert [contact.at_ms for contact in merged.contacts] == [1_000, 1_001]
    assert (office.will("ann"), office.will("bob")) == (OBJECTED, GRANTED)
    assert [c.at_ms for c in office.own("ann").contacts.events] == [1_000]
    assert [c.at_ms for c in office.own("bob").contacts.events] == [1_001]
    assert differing(office) == []


def test_nothing_said_or_counted_meanwhile_is_lost(office: Office) -> None:
    """While two are merged and parted again and again, others record through both ids; then all is there."""
    done = threading.Event()

    def record(name: str) -> list[str]:
        keys: list[str] = []
        while not done.is_set() and len(keys) < 60:
            keys.append(f"{name}{len(keys)}")
            assert office.store.record_contact(name, shown(4_000 + len(keys)), key=keys[-1])
        return keys

    with ThreadPoolExecutor(3) as pool:
        counting = [pool.submit(record, name) for name in ("ann", "bob")]
        for _ in range(3):
            office.merge("ann", "bob")
            office.part("ann")
        office.merge("ann", "bob")
        done.set()
        counted = [key for each in counting for key in each.result()]

    merged = office.own("bob").contacts
    assert len(counted) > 10
    assert sorted(merged.keys) == sorted(key_digest(key) for key in counted)
    office.part("ann")
    for name in ("ann", "bob"):
        own = {key_digest(key) for key in counted if key.startswith(name)}
        assert set(office.own(name).contacts.keys) == own


@pytest.mark.parametrize("name", ["ann", "bob"])
def test_a_withdrawal_that_meets_a_merge_holds(office: Office, name: str) -> None:
    """However it falls between the steps of merging and parting, both obey it afterwards."""
    for round_number in range(8):
        channel = f"c{round_number}"
        for customer in ("ann", "bob"):
            office.say(customer, GRANTED, channel)
        with ThreadPoolExecutor(2) as pool:
            merging = pool.submit(office.merge, "ann", "bob")
            saying = pool.submit(office.say, name, WITHDRAWN, channel)
            merging.result()
            saying.result()
        merged = office.will("ann", channel), office.will("bob", channel)
        office.part("ann")

        assert merged == (WITHDRAWN, WITHDRAWN)
        assert office.will(name, channel) is WITHDRAWN
        assert differing(office) == []


@pytest.mark.parametrize("name", ["ann", "bob"])
def test_a_withdrawal_that_meets_a_parting_holds(office: Office, name: str) -> None:
    """However it falls between the steps, whoever said it is obeyed under the id they gave."""
    for round_number in range(8):
        channel = f"c{round_number}"
        office.merge("ann", "bob")
        for customer in ("ann", "bob"):
            office.say(customer, GRANTED, channel)
        with ThreadPoolExecutor(2) as pool:
            parting = pool.submit(office.part, "ann")
            saying = pool.submit(office.say, name, WITHDRAWN, channel)
            parting.result()
            saying.result()

        assert office.will(name, channel) is WITHDRAWN
        assert differing(office) == []


def test_retention_leaves_what_merged_customers_said(office: Office, tmp_path: Path) -> None:
    """Which of their words is in force may change when they are parted; of others the old ones go."""
    for name in ("ann", "cyd"):
        office.say(name, DENIED)
        office.say(name, GRANTED)
    office.merge("ann", "bob")
    directories = {log: tmp_path / log for log in ("consents", "identities")}
    places = Ageing(
        store=cast(OnlineStore, office.store), log_directories=directories, checkpoints_of=lambda _log: None
    )

    gone = enforce(places, Retention(days={"consents": 1}), now_ms=10 * 86_400_000, write=False)

    assert gone["consents"] == 1
