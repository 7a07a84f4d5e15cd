"""Texts that only a key reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import KeyMissing, StoreCorrupt
from feature_store.sealing import SEALED, TextCipher, key_id, key_id_of

KEY, FORMER, OTHER = b"a long random text", b"one of last year", b"somebody else's"
USE = "text of a consent"


@given(st.text(min_size=1, max_size=80))
def test_a_sealed_text_opens_to_itself_and_is_never_twice_the_same(text: str) -> None:
    """Nobody sees that two texts are equal; each says which key opens it."""
    cipher = TextCipher(USE, [KEY])

    one, other = cipher.sealed(text), cipher.sealed(text)

    assert (cipher.opened(one), cipher.opened(other)) == (text, text)
    assert one != other
    assert key_id_of(one) == key_id(KEY) == cipher.current


@given(st.text(max_size=80))
def test_without_a_key_a_text_stays_as_it_is(text: str) -> None:
    """Nothing is sealed, and what is in the clear reads as it is, with a key too."""
    plain = TextCipher(USE)

    assert plain.sealed(text) == plain.opened(text) == plain.resealed(text) == text
    assert TextCipher(USE, [KEY]).opened(text) == text
    assert plain.current is None


def test_no_text_is_no_secret() -> None:
    """An empty field stays empty."""
    assert TextCipher(USE, [KEY]).sealed("") == ""


def test_a_former_key_opens_and_the_present_one_seals() -> None:
    """Until it is sealed anew; after that the former one is needed no more."""
    before = TextCipher(USE, [FORMER]).sealed("call 7")
    cipher = TextCipher(USE, [KEY, FORMER])

    anew = cipher.resealed(before)

    assert cipher.opened(before) == "call 7"
    assert key_id_of(anew) == key_id(KEY)
    assert TextCipher(USE, [KEY]).opened(anew) == "call 7"
    assert cipher.resealed(anew) == anew
    assert key_id_of(cipher.resealed("in the clear")) == key_id(KEY)


def test_a_missing_key_is_named() -> None:
    """In the error, in what a person is shown, and by nothing else of it; what no key opens stays."""
    sealed = TextCipher(USE, [OTHER]).sealed("call 7")
    cipher = TextCipher(USE, [KEY])

    with pytest.raises(KeyMissing) as raised:
        cipher.opened(sealed)

    assert raised.value.key_id == key_id(OTHER)
    assert str(raised.value) == (
        f"sealed text of a consent: opens by identity key {key_id(OTHER)}, which is not configured; give it "
        "as ARBITER_IDENTITY_KEY_FILE, or add it to ARBITER_FORMER_IDENTITY_KEY_FILES"
    )
    assert cipher.shown(sealed) == f"[{raised.value}]"
    assert cipher.resealed(sealed) == sealed


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-6] + "AAAAA=",
        lambda text: text[: len(SEALED) + 9] + "AAAA",
        lambda text: text[: len(SEALED) + 9] + "A",
    ],
)
def test_a_changed_text_does_not_open(spoil: Callable[[str], str]) -> None:
    """Not one byte of it, nor a part."""
    cipher = TextCipher(USE, [KEY])
    sealed = cipher.sealed("call 7")

    with pytest.raises(StoreCorrupt, match="changed"):
        cipher.opened(spoil(sealed))


def test_a_text_does_not_open_in_another_use() -> None:
    """Each use has keys of its own."""
    sealed = TextCipher("dead letter", [KEY]).sealed("call 7")

    with pytest.raises(StoreCorrupt):
        TextCipher(USE, [KEY]).opened(sealed)


def test_names_are_keyed() -> None:
    """The same for the same content, another under another key or for another use."""
    cipher = TextCipher(USE, [KEY])

    assert cipher.name_of(b"x") == TextCipher(USE, [KEY, FORMER]).name_of(b"x")
    assert len({cipher.name_of(b"x"), cipher.name_of(b"y"), TextCipher(USE, [OTHER]).name_of(b"x")}) == 3
    assert TextCipher("dead letter", [KEY]).name_of(b"x") != cipher.name_of(b"x")
