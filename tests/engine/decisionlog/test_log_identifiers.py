"""Decision ids that carry their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decisionlog.errors import InvalidDecisionId
from engine.decisionlog.identifiers import DecisionPlace, decode_id, encode_id

places = st.builds(
    DecisionPlace,
    time_ms=st.integers(0, 2**48 - 1),
    segment_id=st.integers(0, 2**40 - 1),
    offset=st.integers(0, 2**40 - 1),
)


@given(place=places)
def test_id_leads_back_to_its_place(place):
    """Every place has one id of 26 characters, and the id gives the place back."""
    decision_id = encode_id(place)

    assert len(decision_id) == 26
    assert decode_id(decision_id) == place


@given(first=places, second=places)
def test_ids_sort_like_places(first, second):
    """Ids sort by time, then segment, then offset."""
    assert (encode_id(first) < encode_id(second)) == (first < second)


def test_id_spelling_is_fixed():
    """The spelling of an id never changes, as logs and clients keep ids for years."""
    place = DecisionPlace(time_ms=1_780_000_000_000, segment_id=0xABCDEF0123, offset=28)

    assert encode_id(place) == "01KSR49200NF6YY0930000000W"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01KSR49200NF6YY0930000000",  # short
        "01KSR49200NF6YY0930000000WW",  # long
        "01ksr49200nf6yy0930000000w",  # lower case
        "81KSR49200NF6YY0930000000W",  # beyond 128 bits
        "01KSR49200NF6YY0930000000U",  # not in the alphabet
        "01KSR49200NF6YY0930000000W\n",
        "٠1KSR49200NF6YY0930000000W",  # a digit, but not one of ours
    ],
)
def test_text_that_is_no_id(text):
    """What cannot be an id is a ValueError that shows the text and the expected form."""
    with pytest.raises(InvalidDecisionId, match="is not a decision id: expected the 26 characters"):
        decode_id(text)


@pytest.mark.parametrize("place", [(-1, 0, 0), (2**48, 0, 0), (0, 2**40, 0), (0, 0, 2**40)])
def test_place_beyond_its_bits(place):
    """A place an id cannot hold is refused rather than cut."""
    with pytest.raises(ValueError, match="no decision id can hold"):
        encode_id(DecisionPlace(*place))
