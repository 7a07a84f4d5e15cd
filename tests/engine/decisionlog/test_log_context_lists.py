"""Lists and maps of a request in the decision log."""

import dataclasses

import pytest
from decision_examples import decision_record

from engine.decisionlog.record import decode_record, encode_record


def _with_context(**context):
    record = decision_record()
    return dataclasses.replace(record, request=dataclasses.replace(record.request, context=context))


def test_lists_and_maps_come_back_as_they_were():
    """A replay sees tuples and dicts of the same values and types."""
    record = _with_context(pages=("a", "b"), counts=(1, 2), amounts=(1.0, 2.5), use={"x": 3.0}, one=4)

    decoded = decode_record(encode_record(record))

    assert decoded.request.context == record.request.context
    assert [type(v) for v in decoded.request.context["amounts"]] == [float, float]


@pytest.mark.parametrize("held", [(1.0, float("nan")), {"x": float("inf")}])
def test_an_element_that_is_no_number_is_refused(held):
    """JSON has no word for it, so it must not be lost silently."""
    with pytest.raises(ValueError, match="infinity"):
        encode_record(_with_context(held=held))
