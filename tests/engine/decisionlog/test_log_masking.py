"""What leaves the log: nothing that the policy does not name."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from decision_examples import NOW_MS, decision_record
from export_examples import FEATURES, mask
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from engine.decisionlog.masking import Handling, MaskingPolicy, read_policy, unknown_names
from engine.domain import Reason, ReasonSource
from engine.errors import SetupInvalid
from feature_store.state import FeatureVector, Signal

SECRETS = {
    "customer_id": "customer-7731",
    "request_id": "request-7732",
    "context.note": "context-7733",
    "context.page": "context-7734",
    "features.feature_3": "7735.5",
    "features.feature_4": "7736.5",
    "evidence": "evidence-7737",
}
TEXTS = [Handling.KEEP, Handling.PSEUDONYM, Handling.DROP]
NUMBERS = [Handling.KEEP, Handling.DROP]


def telling_record():
    """A decision in which every value of the customer can be told from all others."""
    record = decision_record("0" * 26, customer_id=SECRETS["customer_id"], request_id=SECRETS["request_id"])
    values = np.full(30, np.nan, np.float32)
    values[3], values[4] = float(SECRETS["features.feature_3"]), float(SECRETS["features.feature_4"])
    schema = record.decision.versions.feature_schema
    consents = tuple(
        replace(c, evidence=SECRETS["evidence"], actor=SECRETS["evidence"]) for c in record.state.consents
    )
    names = {name: value for name, value in SECRETS.items() if "." in name}
    by_rule = Reason("R", ReasonSource.RULE, "rule", values=names | {"unheard.of": SECRETS["evidence"]})
    by_model = Reason(
        "M", ReasonSource.MODEL, "", "churn/1", 0.5,
        {"feature": "feature_3", "value": SECRETS["features.feature_3"]},
    )  # fmt: skip
    action = structs.replace(record.decision.actions[0], reasons=(by_rule, by_model))
    gone = structs.replace(record.decision.suppressed[0], reasons=(by_rule,))
    return replace(
        record,
        request=replace(
            record.request,
            context={"note": SECRETS["context.note"], "page": SECRETS["context.page"]},
        ),
        state=replace(record.state, features=FeatureVector(schema, (), values), consents=consents,
                      signals=(Signal("trouble", True, NOW_MS, NOW_MS + 1),)),
        decision=replace(record.decision, actions=(action,), suppressed=(gone,)),
    )  # fmt: skip


def handling_of(policy, name):
    section, _, field = name.partition(".")
    chosen = getattr(policy, section)
    return chosen.get(field, chosen.get("default", Handling.DROP)) if field else chosen


sections = {
    "context": st.dictionaries(st.sampled_from(["default", "note", "page"]), st.sampled_from(TEXTS)),
    "features": st.dictionaries(
        st.sampled_from(["default", "feature_3", "feature_4"]), st.sampled_from(NUMBERS)
    ),
    "signals": st.dictionaries(st.sampled_from(["default", "trouble"]), st.sampled_from(NUMBERS)),
}
policies = st.builds(
    MaskingPolicy,
    customer_id=st.sampled_from(TEXTS),
    request_id=st.sampled_from(TEXTS),
    evidence=st.sampled_from(NUMBERS),
    scores=st.sampled_from(NUMBERS),
    **sections,
)


@given(policies)
@settings(max_examples=150, deadline=None)
def test_no_value_leaves_that_the_policy_does_not_keep(policy):
    """Neither in its own field nor in the values of a reason; what is kept does leave."""
    row = msgspec.json.encode(mask(policy).row(telling_record())).decode()

    left = {name for name, value in SECRETS.items() if value in row}

    assert left == {name for name in SECRETS if handling_of(policy, name) is Handling.KEEP}


def test_by_default_nothing_of_the_customer_leaves_but_scores():
    """The policy nobody wrote: a pseudonym, reasons without values, what was decided and why."""
    row = mask().row(telling_record())

    assert row["customer"].startswith("p-")
    assert (row["request_id"], row["context"], row["features"], row["signals"]) == (None, {}, {}, {})
    assert row["evidence"] == []
    assert row["candidates"][0]["reasons"][0]["values"] == {}
    assert row["candidates"][0]["reasons"][1]["values"] == {"feature": "feature_3"}
    assert (row["churn"], row["candidates"][0]["priority"]) == (0.41, 8.125)


def test_pseudonyms_are_the_same_for_the_same_customer_and_key():
    """So that decisions of one customer can be counted, and not be told whose they are without the key."""
    first, other = decision_record(customer_id="c-1"), decision_record(customer_id="c-2")

    names = [
        mask(key=key).row(each)["customer"]
        for key, each in ((b"a", first), (b"a", first), (b"b", first), (b"a", other))
    ]

    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_a_decision_of_a_schema_that_is_not_held_has_no_features():
    """Numbers without names say nothing, and could be anything."""
    policy = MaskingPolicy(features={"default": Handling.KEEP})
    record = telling_record()
    foreign = replace(
        record, state=replace(record.state, features=replace(record.state.features, schema_version="x"))
    )

    assert set(mask(policy).row(record)["features"]) == {"feature_3", "feature_4"}
    assert mask(policy).row(foreign)["features"] == {}


def test_pseudonyms_need_a_key():
    """The error says which key, and what to write instead."""
    with pytest.raises(SetupInvalid, match="ARBITER_IDENTITY_KEY") as error:
        mask(key=b"")

    assert "customer_id = 'drop'" in str(error.value)


def test_a_policy_is_read_from_a_file(tmp_path):
    """What the file leaves out is as strict as the default."""
    path = tmp_path / "masking.toml"
    path.write_text('customer_id = "drop"\n[context]\npage = "keep"\n', encoding="utf-8")

    policy = read_policy(path)

    assert policy == MaskingPolicy(customer_id=Handling.DROP, context={"page": Handling.KEEP})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("customer = 'keep'", "unknown field `customer`"),
        ("customer_id = 'hide'", "'hide'"),
        ("[features]\nage = 'pseudonym'", "features: can have no pseudonyms; write keep or drop"),
        ("scores = 'pseudonym'", "scores: can have no pseudonyms"),
        ("customer_id =", "not TOML"),
        ("context = 'keep'", "Expected `object`"),
    ],
)
def test_a_wrong_policy_says_where_and_what_to_write(tmp_path, text, said):
    """File, field and what is allowed."""
    path = tmp_path / "masking.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(SetupInvalid) as error:
        read_policy(path)

    assert str(path) in str(error.value)
    assert said in str(error.value)


def test_a_policy_that_is_not_there_is_an_error(tmp_path):
    """Rather than the default, which would not be what was declared."""
    with pytest.raises(SetupInvalid, match="cannot be read"):
        read_policy(tmp_path / "none.toml")


def test_names_that_nobody_knows_are_told():
    """A misspelt field would be dropped in silence."""
    policy = MaskingPolicy(
        features={"feature_1": Handling.KEEP, "faeture_2": Handling.KEEP, "default": Handling.DROP}
    )

    assert unknown_names(policy, features=frozenset(FEATURES)) == ["features.faeture_2"]
