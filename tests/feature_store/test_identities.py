"""Identities in one form, and sealed by a key."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from conformance import EMAIL, PHONE, StoreConformance
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st
from redis_at_work import RedisServer

from feature_store.embedded import open_embedded
from feature_store.errors import KeyMissing, StoreCorrupt
from feature_store.identities import (
    IdentityCipher,
    IdentityForms,
    IdentityStore,
    opened_identity,
    shown_identity,
)
from feature_store.redis.store import open_redis
from feature_store.sealing import SEALED, key_id
from feature_store.state import Identity
from feature_store.store import OnlineStore

KEY, OTHER_KEY = b"a long random text", b"another long random text"
DIGEST = hashlib.sha256(b"zoe@example.org").hexdigest()


def named(store: OnlineStore, key: bytes | None = KEY, region: str | None = None) -> IdentityStore:
    cipher = None if key is None else IdentityCipher(key)
    return IdentityStore(store, forms=IdentityForms(region), cipher=cipher)


def rotated(store: OnlineStore, key: bytes, former: bytes) -> IdentityStore:
    return IdentityStore(store, forms=IdentityForms(), cipher=IdentityCipher(key, former))


def unnamed(identity: Identity, key: bytes) -> Identity:
    """The identity as engines sealed it before values named their key."""
    derived = hashlib.blake2b(key, digest_size=64, person=b"arbiter-identity").digest()
    content = AESSIV(derived).encrypt(identity.value.encode(), [identity.type.encode()])
    return replace(identity, value="sealed:1:" + urlsafe_b64encode(content).decode())


def open_sealed(folder: Path) -> OnlineStore:
    return cast(OnlineStore, named(open_embedded(folder)))


class TestSealedStore(StoreConformance):
    """A store whose identities are sealed is an online store."""

    open_store = staticmethod(open_sealed)
    reopen = staticmethod(open_sealed)
    test_processes_race_for_everything = None  # nothing in it is about identities, and it takes seconds


@pytest.fixture(params=["embedded", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> Iterator[OnlineStore]:
    """Both kinds of store."""
    opened: OnlineStore = (
        open_embedded(tmp_path / "store")
        if request.param == "embedded"
        else open_redis(redis_server.url, timeout_ms=5_000)
    )
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (("phone", "+41 (0)79 000 01 31"), "+41790000131"),
        (("phone", "+41-79.000 01 31 "), "+41790000131"),
        (("phone", "tel:+41790000131"), "+41790000131"),
        (("phone", "0041 79 000 01 31"), "+41790000131"),
        (("phone", "079 000 01 31"), "+41790000131"),
        (("phone", "not a number"), "not a number"),
        (("phone", "+41 79 000 01 31 ext. 7"), "+41 79 000 01 31 ext. 7"),
        (("phone", "+" + "4" * 100), "+" + "4" * 100),
        (("email_sha256", DIGEST.upper()), DIGEST),
        (("email_sha256", " Zoe@Example.org "), DIGEST),
        (("email_sha256", "abc"), "abc"),
        (("cookie", " GA1.2.Case "), "GA1.2.Case"),
        (("loyalty_number", "Le\u0301o7"), "L\u00e9o7"),
    ],
)
def test_each_type_has_one_form(written: tuple[str, str], normal: str) -> None:
    """Numbers in E.164, hashes in lower-case hex, addresses hashed; what fits no form is only trimmed."""
    assert IdentityForms("CH").normal(Identity(*written)) == Identity(written[0], normal)


def test_a_national_number_needs_a_country() -> None:
    """Without a region it stays as written, and is said to be none."""
    forms, national = IdentityForms(), Identity("phone", "079 000 01 31")

    assert forms.normal(national) == national
    assert forms.fault(national) == "is no phone number; write it with its country, such as +41 79 000 00 01"
    assert forms.fault(Identity("phone", "+41 79 000 01 31")) is None
    assert "SHA-256" in str(forms.fault(Identity("email_sha256", "abc")))
    assert forms.fault(Identity("cookie", "  ")) == "is empty"


def test_preparing_loads_what_numbers_need() -> None:
    """In a process that has not seen any: a server does it before it serves."""
    code = (
        "import sys; from feature_store.identities import IdentityForms; forms = IdentityForms();"
        "before = 'phonenumbers' in sys.modules; forms.prepare();"
        "print(before, 'phonenumbers' in sys.modules)"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout == "False True\n"


@given(st.sampled_from(["phone", "email_sha256", "cookie"]), st.text(max_size=40))
def test_the_form_of_a_form_is_itself(kind: str, value: str) -> None:
    """Writing it in its form again changes nothing, whatever it was."""
    forms = IdentityForms("CH")

    once = forms.normal(Identity(kind, value))

    assert forms.normal(once) == once


@given(st.text(max_size=60), st.text(max_size=60))
def test_sealing_is_exact_and_tells_values_apart(value: str, other: str) -> None:
    """What is sealed opens to itself; two values look alike only where they are."""
    cipher = IdentityCipher(KEY)

    sealed = cipher.sealed(Identity("phone", value))

    assert cipher.opened(sealed) == Identity("phone", value)
    assert (sealed == cipher.sealed(Identity("phone", other))) == (value == other)
    assert sealed.value != IdentityCipher(OTHER_KEY).sealed(Identity("phone", value)).value


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: Identity("cookie", sealed.value),
        lambda sealed: Identity("phone", sealed.value[:-8] + "AAAAAAA="),
        lambda sealed: Identity("phone", SEALED + "x"),
    ],
)
def test_a_sealed_value_opens_only_as_it_was(spoil: Callable[[Identity], Identity]) -> None:
    """Not as another type, not changed, not under another key, not without one."""
    sealed = IdentityCipher(KEY).sealed(PHONE)

    with pytest.raises(StoreCorrupt):
        IdentityCipher(KEY).opened(spoil(sealed))
    with pytest.raises(StoreCorrupt):
        IdentityCipher(OTHER_KEY).opened(sealed)
    with pytest.raises(KeyMissing, match="ARBITER_IDENTITY_KEY_FILE"):
        opened_identity(sealed, None)


def test_the_same_number_written_differently_is_found(store: OnlineStore) -> None:
    """None, one and several stay answers of their own, with and without a key."""
    for key in (None, KEY):
        people = named(store, key, "CH")
        people.link([(Identity("phone", "079 000 00 00"), "c1"), (EMAIL, "c1")])

        assert people.resolve(Identity("phone", "+41 79 000 00 01")) == ()
        assert people.resolve(Identity("phone", "+41 (0)79 000 00 00")) == ("c1",)
        people.link([(PHONE, "c2")])
        assert people.resolve(Identity("phone", "0041790000000")) == ("c1", "c2")
        people.unlink([(Identity("phone", "079 0000000"), "c1"), (PHONE, "c2")])
        assert people.resolve(PHONE) == ()
        assert people.identities("c1") == (EMAIL,)


def test_nothing_readable_is_stored_under_a_key(store: OnlineStore) -> None:
    """The store underneath holds sealed values only; and says so, or that it does not."""
    people = named(store)

    people.link([(PHONE, "c1"), (EMAIL, "c1")])

    assert all(identity.value.startswith(SEALED) for identity in store.identities("c1"))
    assert store.resolve(PHONE) == ()
    assert set(people.identities("c1")) == {PHONE, EMAIL}
    assert people.condition().facts["identities"].startswith("encrypted")
    assert named(store, None).condition().facts["identities"].startswith("NOT ENCRYPTED")


def test_what_was_linked_before_there_was_a_key_is_found_and_sealed(store: OnlineStore) -> None:
    """Also where it was written otherwise; sealing takes the readable one away, once."""
    raw = Identity("phone", "+41 79 000 00 00")
    store.link([(raw, "c1"), (PHONE, "c2")])
    people = named(store)

    found = people.resolve(raw)
    changed = [people.reseal(["c1"]), people.reseal(["c1"]), people.reseal(["c1", "c2"])]

    assert found == ("c1", "c2")
    assert changed == [1, 0, 1]
    assert people.resolve(raw) == ("c1", "c2")
    assert store.resolve(raw) == ()
    assert store.resolve(PHONE) == ()


def test_a_key_takes_the_place_of_another(store: OnlineStore) -> None:
    """What the former one sealed is found until it is sealed anew; then nothing needs the former key."""
    former = named(store, OTHER_KEY)
    former.link([(PHONE, "c1"), (EMAIL, "c1"), (PHONE, "c2")])
    people = rotated(store, KEY, OTHER_KEY)

    before = people.resolve(PHONE), people.identities("c1")
    people.link([(PHONE, "c3")])
    together = people.resolve(PHONE)
    changed = [people.reseal(["c1", "c2", "c3"]), people.reseal(["c1", "c2", "c3"])]
    alone = named(store, KEY)

    assert before == (("c1", "c2"), tuple(sorted((EMAIL, PHONE), key=lambda each: (each.type, each.value))))
    assert together == ("c1", "c2", "c3")
    assert changed == [2, 0]
    assert alone.resolve(PHONE) == ("c1", "c2", "c3")
    assert set(alone.identities("c1")) == {PHONE, EMAIL}
    assert former.resolve(PHONE) == ()


def test_what_a_former_key_sealed_is_unlinked(store: OnlineStore) -> None:
    """A link goes away whichever key it was made under."""
    named(store, OTHER_KEY).link([(PHONE, "c1")])
    people = rotated(store, KEY, OTHER_KEY)

    people.unlink([(PHONE, "c1")])

    assert people.resolve(PHONE) == ()
    assert store.identities("c1") == ()


def test_a_former_key_that_is_missing_is_named(store: OnlineStore) -> None:
    """Reading and sealing anew say which key it takes, and change nothing."""
    named(store, OTHER_KEY).link([(PHONE, "c1")])
    people = named(store, KEY)

    with pytest.raises(KeyMissing, match=key_id(OTHER_KEY)):
        people.identities("c1")
    with pytest.raises(KeyMissing, match=key_id(OTHER_KEY)):
        people.reseal(["c1"])

    assert named(store, OTHER_KEY).resolve(PHONE) == ("c1",)


def test_values_that_do_not_name_their_key_are_found_and_sealed_anew(store: OnlineStore) -> None:
    """As earlier engines wrote them, under the present key or a former one."""
    for customer_id, key in (("c1", KEY), ("c2", OTHER_KEY)):
        store.link([(unnamed(PHONE, key), customer_id)])
    people = rotated(store, KEY, OTHER_KEY)

    found, carried = people.resolve(PHONE), people.identities("c2")
    changed = people.reseal(["c1", "c2"])

    assert (found, carried, changed) == (("c1", "c2"), (PHONE,), 2)
    assert named(store, KEY).resolve(PHONE) == ("c1", "c2")
    assert all(each.value.startswith(SEALED) for name in ("c1", "c2") for each in store.identities(name))
    with pytest.raises(StoreCorrupt, match=key_id(KEY)):
        IdentityCipher(KEY).opened(unnamed(PHONE, OTHER_KEY))
    assert shown_identity(unnamed(PHONE, OTHER_KEY), None).value.startswith("[sealed phone")


def test_the_files_of_the_store_hold_no_number(tmp_path: Path) -> None:
    """Nor does a copy of them, such as a backup."""
    people = named(open_embedded(tmp_path / "store"))
    people.link([(PHONE, "c1")])
    people.close()

    copy = shutil.copytree(tmp_path / "store", tmp_path / "copy")

    content = b"".join(path.read_bytes() for path in copy.rglob("*") if path.is_file())
    assert b"c1" in content
    assert b"790000000" not in content
