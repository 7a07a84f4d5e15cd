"""What two rule sets have in common is read and loaded once, and says the same as read alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.core.inputs import current_vector
from engine.core.snapshot import Snapshot
from engine.models.scorer import OnnxScorer
from engine.publishing import named_set
from engine.ruleset.reading import files_read_once, read_documents
from engine.ruleset.sources import RuleSources
from engine.service.impact import Case
from engine.settings import Settings
from engine.snapshots import compile_snapshot

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_file_both_sets_have_is_read_once() -> None:
    """One that differs is read anew, and nothing is kept afterwards."""
    rules = RuleSources.from_directory(REPOSITORY / "rules")
    file = "arbitration.yaml"
    edited = RuleSources({**rules, file: rules[file].replace("threshold: 1.0", "threshold: 2.0")})

    with files_read_once():
        first, second = read_documents(rules), read_documents(edited)
    later = read_documents(rules)

    shared = {a.yaml.file for a, b in zip(first.documents, second.documents, strict=True) if a.yaml is b.yaml}
    assert {d.yaml.file for d in first.documents} - shared == {file}
    assert first.documents == later.documents
    assert not any(a.yaml is b.yaml for a, b in zip(first.documents, later.documents, strict=True))


def test_mistakes_of_a_shared_file_are_told_of_both_sets() -> None:
    """Sharing hides nothing."""
    wrong = {"broken.yaml": "kind: [", "odd.yaml": "kind: Nothing"}

    alone = read_documents(wrong)
    with files_read_once():
        first, second = read_documents(wrong), read_documents(wrong)

    assert alone.diagnostics
    assert alone.diagnostics == first.diagnostics == second.diagnostics
    assert [yaml.file for yaml in alone.untyped] == [yaml.file for yaml in second.untyped]


def test_models_are_shared_and_score_another_catalogue_as_if_loaded_for_it(
    demo_snapshot: Snapshot, diff_settings: Settings, demo_cast: list[Case]
) -> None:
    """Actions in another order, without one of them, and one whose target no model knows."""
    scorer, actions = demo_snapshot.scorer, demo_snapshot.rulebook.actions
    assert isinstance(scorer, OnnxScorer)
    other = (*reversed(actions[1:]), replace(actions[0], id="unheard_of", target="unheard_of"))
    case = demo_cast[0]
    vector = current_vector(demo_snapshot.schema, case.request, case.state, now_ms=case.now_ms)
    everything = np.arange(len(actions))

    shared = scorer.for_catalogue(other)

    here, there = scorer.propensity(vector, everything), shared.propensity(vector, everything)
    np.testing.assert_array_equal(here[1:][::-1], there[:-1])
    assert np.isnan(there[-1])
    assert shared.unscored == ("unheard_of",)
    assert scorer.churn(vector) == shared.churn(vector)
    assert dict(scorer.versions) == dict(shared.versions)


def test_a_snapshot_beside_another_shares_only_models_of_the_same_versions(
    demo_snapshot: Snapshot, diff_settings: Settings
) -> None:
    """Models of other versions are loaded."""
    archived = named_set(diff_settings, str(REPOSITORY / "rules")).archived
    churn = {"churn": demo_snapshot.versions.models["churn"]}

    beside = compile_snapshot(archived, diff_settings.registry, beside=demo_snapshot)
    fewer = compile_snapshot(archived, diff_settings.registry, churn, beside=demo_snapshot)

    assert dict(beside.versions.models) == dict(demo_snapshot.versions.models)
    assert churn == dict(fewer.versions.models)
