"""Strategies for any decision record there can be."""

import inspect
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.core.supply import Held, HeldBudget, Supply
from engine.decisionlog.record import DecisionRecord
from engine.domain import (
    ActionFilter,
    ChurnRisk,
    ConsentUsed,
    Decision,
    DecisionRequest,
    Detail,
    LegalBasis,
    Lever,
    MissingCause,
    MissingInput,
    Priority,
    PropensitySource,
    RankedAction,
    Reason,
    ReasonSource,
    Stage,
    SuppressedAction,
    Versions,
)
from feature_store.state import (
    ConsentRecord,
    ConsentState,
    ContactEvent,
    CustomerState,
    FeatureVector,
    OutcomeType,
    Signal,
)

_int = st.integers(-(2**63), 2**63 - 1)
_float = st.floats(allow_nan=False, allow_infinity=False)
_text = st.text(max_size=8)
_by_type: dict[str, st.SearchStrategy[Any]] = {
    "str": _text,
    "int": _int,
    "float": _float,
    "bool": st.booleans(),
    "int | None": st.none() | _int,
    "tuple[str, ...]": st.lists(_text, max_size=2).map(tuple),
    "tuple[int, ...]": st.lists(_int, max_size=2).map(tuple),
    "Mapping[str, str]": st.dictionaries(_text, _text, max_size=3),
    "Mapping[str, int]": st.dictionaries(_text, _int, max_size=3),
    "Mapping[str, ContextValue]": st.dictionaries(
        _text,
        st.one_of(
            st.booleans() | _int | _float | _text,
            st.lists(_text, max_size=2).map(tuple) | st.lists(_float, max_size=2).map(tuple),
            st.dictionaries(_text, _float, max_size=2),
        ),
        max_size=3,
    ),
    "bytes": st.just(b""),  # a token of the store, which no record holds
    "npt.NDArray[np.float32]": hnp.arrays(np.float32, st.integers(0, 5), elements=st.floats(width=32)),
}
for enum in (
    LegalBasis,
    ConsentState,
    Detail,
    MissingCause,
    OutcomeType,
    PropensitySource,
    ReasonSource,
    Stage,
):
    _by_type[enum.__name__] = st.sampled_from(enum)


def _parts(kind: type[Any]) -> dict[str, str]:
    """Names of the fields of a dataclass or struct, with their types as they are written."""
    return {name: str(kind.__annotations__[name]) for name in inspect.signature(kind).parameters}


def _any(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of a class whose field types are in `_by_type`; then that type is in it, too."""
    built = st.builds(kind, **{name: _by_type[of_type] for name, of_type in _parts(kind).items()})
    _by_type[kind.__name__] = built
    _by_type[f"{kind.__name__} | None"] = st.none() | built
    _by_type[f"tuple[{kind.__name__}, ...]"] = st.lists(built, max_size=2).map(tuple)
    _by_type[f"tuple[{kind.__name__}, ...] | None"] = st.none() | st.lists(built, max_size=2).map(tuple)
    return built


for kind in (
    Reason,
    Lever,
    Priority,
    RankedAction,
    SuppressedAction,
    ConsentUsed,
    MissingInput,
    ChurnRisk,
):
    _any(kind)
for kind in (Versions, ActionFilter, ConsentRecord, ContactEvent, Signal, FeatureVector):
    _any(kind)
decisions = _any(Decision)
requests = _any(DecisionRequest)
_by_type["tuple[OutcomeType, ...]"] = st.lists(_by_type["OutcomeType"], max_size=2).map(tuple)
for kind in (HeldBudget, Held, Supply):
    _any(kind)
states = _any(CustomerState)
decision_records = _any(DecisionRecord)


def as_comparable(value: Any) -> Any:
    """Nested plain data with the bits of arrays, so that records with NaN in a vector can be equal."""
    if type(value).__name__ in _by_type and hasattr(type(value), "__match_args__"):
        return tuple((name, as_comparable(getattr(value, name))) for name in _parts(type(value)))
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, tuple):
        return tuple(as_comparable(item) for item in value)
    return (type(value).__name__, dict(value)) if isinstance(value, dict) else (type(value).__name__, value)
