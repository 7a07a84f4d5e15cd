"""The demo company: the same for everybody, loaded once, kept fresh."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, settings_for

from engine.bootstrap import Application, open_application
from engine.decisionlog.ledger import consent_ledger
from engine.demo.cast import CAST, TOLD_APART
from engine.demo.company import DAY_MS, consents_of, identities_of, load_company
from engine.errors import SetupInvalid
from engine.service.consents import ConsentSubmission
from feature_store.state import ConsentState, Identity
from model_registry import open_version


def test_company_has_all_its_customers(application: Application) -> None:
    """The data set's 7,043 customers, from C0001 on."""
    customers = {c for c in application.store.customers() if c.startswith("C")}

    assert customers == {f"C{number:04d}" for number in range(1, 7044)}


def test_cast_said_what_is_written_down(application: Application) -> None:
    """Each telling customer holds the consents of the cast, and no contacts."""
    for customer_id, met in CAST.items():
        state = application.store.read(customer_id)
        assert state is not None
        assert {(c.purpose, c.channel): c.state for c in state.consents} == met.consents
        assert state.contacts == ()


def test_household_shares_its_phone(application: Application) -> None:
    """One number, two customers; every other identity names one."""
    shared = application.store.resolve(Identity("phone", TOLD_APART.phone))

    assert shared == TOLD_APART.customers
    for identity in identities_of(AT_RISK):
        assert application.store.resolve(identity) == (AT_RISK,)


def test_ledger_and_online_copy_agree(demo_company: Path, application: Application) -> None:
    """What was projected is what the ledger says, at the position it names, for every customer."""
    said: dict[tuple[str, str, str], object] = {}
    with consent_ledger(demo_company / "consents") as ledger:
        for entry in ledger.replay():
            place = (entry.customer_id, entry.consent.purpose, entry.consent.channel)
            assert place not in said
            said[place] = entry.consent

        sample = [f"C{number:04d}" for number in range(1, 7044, 97)]
        for customer_id in sample:
            state = application.store.read(customer_id)
            assert state is not None
            held = {(customer_id, c.purpose, c.channel): replace(c, position=0) for c in state.consents}
            assert held == {place: c for place, c in said.items() if place[0] == customer_id}
            entries = [ledger.read(c.position) for c in state.consents]
            assert [e and e.consent for e in entries] == list(held.values())


def test_seed_gives_the_same_company_to_everybody() -> None:
    """The same customer says the same at the same instant, on every machine."""
    assert consents_of("C0500", 1_800_000_000_000) == consents_of("C0500", 1_800_000_000_000)


def test_loading_again_changes_nothing(data_dir: Path) -> None:
    """A company that is there and fresh is left alone, with what happened since."""
    settings = settings_for(data_dir)
    with open_application(settings) as application:
        application.consents.record(ConsentSubmission(AT_RISK, "marketing", "any", ConsentState.OBJECTED))
    marker = (data_dir / "demo.json").read_bytes()

    load_company(settings)

    assert (data_dir / "demo.json").read_bytes() == marker
    with open_application(settings) as application:
        assert objected(application)


def objected(application: Application) -> bool:
    """Whether the customer at risk has objected to marketing."""
    state = application.store.read(AT_RISK)
    assert state is not None
    return any(c.state is ConsentState.OBJECTED for c in state.consents)


@pytest.mark.parametrize("marker", ["a day old", pytest.param("damaged", marks=pytest.mark.slow)])
def test_stale_company_is_refreshed_and_keeps_what_customers_said(data_dir: Path, marker: str) -> None:
    """Features are loaded anew; consents given since stay in force."""
    settings, path = settings_for(data_dir), data_dir / "demo.json"
    with open_application(settings) as application:
        application.consents.record(ConsentSubmission(AT_RISK, "marketing", "any", ConsentState.OBJECTED))
        before = application.store.read(AT_RISK)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["loaded_at_ms"] -= DAY_MS
    path.write_text(json.dumps(document) if marker == "a day old" else "{", encoding="utf-8")

    load_company(settings)

    with open_application(settings) as application:
        after = application.store.read(AT_RISK)
        assert objected(application)
    assert before is not None
    assert after is not None
    assert before.features is not None
    assert after.features is not None
    assert max(after.features.view_times_ms) > max(before.features.view_times_ms)


def test_company_without_its_customers_file_is_a_setup_error(tmp_path: Path) -> None:
    """SetupInvalid names the file."""
    schema = tmp_path / "telco.toml"
    schema.write_bytes(settings_for(tmp_path).feature_schema.read_bytes())

    with pytest.raises(SetupInvalid, match=r"customers\.csv\.gz"):
        load_company(settings_for(tmp_path / "data", feature_schema=schema))


def test_every_value_a_model_may_name_has_words(application: Application) -> None:
    """No reason shows a bare token: categories and yes/no of every model input are labelled."""
    snapshot = application.live.current
    registry = application.settings.registry
    inputs = {
        each.name
        for name, version in snapshot.versions.models.items()
        for each in open_version(registry, name, version).manifest.inputs
        if each.source == "feature"
    }
    features = [feature for feature in snapshot.schema.feature if feature.name in inputs]

    tokens = {category for feature in features for category in feature.categories} | {
        f"{feature.name}={answer}"
        for feature in features
        if feature.type == "bool"
        for answer in ("yes", "no")
    }

    assert tokens - snapshot.rulebook.labels.keys() == set()
