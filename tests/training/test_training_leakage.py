import numpy as np

from training.candidate import TARGET_PREFIX, Candidate
from training.propensity import TARGETS, Target
from training.telco import Telco


def test_a_products_own_column_is_hidden_from_its_rows(propensity: Candidate) -> None:
    """No row, in no part, shows the column that its label is read from."""
    task = propensity.task
    names = [model_input.name for model_input in task.inputs]

    shown = [
        target.name
        for place, target in enumerate(TARGETS)
        for part in (task.train, task.seen, task.validation, task.test)
        if not np.isnan(part.of_target(place).rows[:, names.index(target.feature)]).all()
    ]

    assert shown == []


def test_the_manifest_hides_what_training_hid(propensity: Candidate) -> None:
    """Serving is told to hide the same column."""
    hidden = {target.name: (target.feature,) for target in TARGETS}

    assert propensity.task.hidden == hidden


def test_charges_are_no_inputs_of_propensity(propensity: Candidate) -> None:
    """Charges are sums of the prices of products owned; the model never sees them."""
    names = {model_input.name for model_input in propensity.task.inputs}

    assert not names & {"monthly_charges", "total_charges"}


def test_churn_is_nobodys_input(candidate: Candidate) -> None:
    """The churn label is read as a label only, and behaviour made from it not at all."""
    names = [model_input.name for model_input in candidate.task.inputs]

    leaking = [n for n in names if "churn" in n or n.endswith(("_30d", "_90d", "_7d"))]

    assert leaking == []


def test_each_row_asks_about_one_target(propensity: Candidate) -> None:
    """Target columns are one-hot and agree with the row's target."""
    task = propensity.task
    places = [i for i, model_input in enumerate(task.inputs) if model_input.source == "target"]

    asked = task.train.rows[:, places]

    np.testing.assert_array_equal(asked.sum(axis=1), 1.0)
    np.testing.assert_array_equal(asked.argmax(axis=1), task.train.targets)
    assert [task.inputs[i].name for i in places] == [TARGET_PREFIX + name for name in task.targets]


def test_targets_are_asked_only_of_those_who_could_have_them(few: Telco, propensity: Candidate) -> None:
    """Add-ons of customers with internet, lines of customers with a phone; contracts of everybody."""
    task = propensity.task
    places = {target.name: place for place, target in enumerate(TARGETS)}

    asked = {name: np.unique(task.seen.of_target(place).customers) for name, place in places.items()}

    assert few.column("internet_service")[asked["streaming_tv"]].min() > 0
    assert few.column("phone_service")[asked["multiple_lines"]].min() == 1.0
    assert len(asked["two_year_contract"]) > len(asked["fiber_internet"])


def test_labels_are_ownership(few: Telco, propensity: Candidate) -> None:
    """A label is 1 exactly where the customer's own record says so."""
    place = next(i for i, target in enumerate(TARGETS) if target.name == "one_year_contract")

    rows = propensity.task.test.of_target(place)

    np.testing.assert_array_equal(rows.labels, few.column("contract")[rows.customers] >= 1)


def test_no_customer_of_the_test_was_learnt_from(candidate: Candidate) -> None:
    """Parts are parted by customer, so no pair of a held-out customer is in training."""
    task = candidate.task

    shared = set(task.test.customers) & (set(task.train.customers) | set(task.validation.customers))

    assert shared == set()


def test_targets_name_features_of_the_schema(few: Telco) -> None:
    """Every target's feature and values exist."""

    def exists(target: Target) -> bool:
        feature = few.schema.feature[few.schema.index[target.feature]]
        return all(feature.encode(value) >= 0 for value in target.owned)

    assert all(exists(target) for target in TARGETS)
