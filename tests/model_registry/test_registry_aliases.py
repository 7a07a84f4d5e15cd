from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from model_registry import open_alias, promote, publish, release, resolve, roll_back
from model_registry.aliases import read_aliases
from model_registry.errors import AliasUnknown, ChampionMoved, ModelCorrupt, ModelNotFound, NothingBefore

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)


def test_promotion_and_rollback_move_the_alias_and_are_remembered(root, offered, files):
    """The alias follows each promotion; the history says from where, to where and why."""
    publish(root, offered, files)
    publish(root, offered, files)

    promote(root, "churn", 1, reason="first", at=AT)
    promote(root, "churn", 2, reason="better AUC", at=AT)
    promote(root, "churn", 1, reason="rollback", at=AT)

    history = [(p.previous, p.version, p.reason) for p in read_aliases(root, "churn").history]
    assert resolve(root, "churn", "champion") == 1
    assert history == [(None, 1, "first"), (1, 2, "better AUC"), (2, 1, "rollback")]


def test_aliases_are_independent(root, offered, files):
    """A challenger does not move the champion."""
    publish(root, offered, files)
    publish(root, offered, files)
    promote(root, "churn", 1, reason="first")

    promote(root, "churn", 2, alias="challenger", reason="try")

    assert resolve(root, "churn", "champion") == 1
    assert resolve(root, "churn", "challenger") == 2


def test_a_version_that_is_not_there_is_not_promoted(root, offered, files):
    """Promoting a missing version fails and leaves the alias alone."""
    publish(root, offered, files)
    promote(root, "churn", 1, reason="first")

    with pytest.raises(ModelNotFound):
        promote(root, "churn", 9, reason="typo")

    assert resolve(root, "churn", "champion") == 1


def test_a_broken_version_is_not_promoted(root, at, offered, files):
    """Every file is read against its digest before the alias moves."""
    publish(root, offered, files)
    at.write("churn/1/golden.npz", b"changed")

    with pytest.raises(ModelCorrupt, match=r"golden\.npz"):
        promote(root, "churn", 1, reason="first")

    with pytest.raises(AliasUnknown):
        resolve(root, "churn", "champion")


def test_an_alias_of_a_version_that_was_removed_is_told(root, at, offered, files):
    """An alias whose version is gone does not fall back to another version."""
    publish(root, offered, files)
    publish(root, offered, files)
    promote(root, "churn", 1, reason="first")
    at.remove("churn/1")

    with pytest.raises(ModelNotFound, match=r"no version 1 .*published are 2"):
        open_alias(root, "churn", "champion")


def test_a_manifest_changed_after_its_promotion_is_told(root, at, offered, files):
    """Calibration is in the manifest: a changed manifest does not serve although it is valid."""
    publish(root, offered, files)
    promote(root, "churn", 1, reason="first")
    manifest = at.read("churn/1/manifest.json")
    at.write("churn/1/manifest.json", manifest.replace(b'"slope": 1.0', b'"slope": 9.0'))

    with pytest.raises(ModelCorrupt, match="expected the promoted content sha256:"):
        open_alias(root, "churn", "champion")


def test_an_unknown_alias_says_which_there_are(root, offered, files):
    """The text lists the aliases the model has."""
    publish(root, offered, files)
    promote(root, "churn", 1, reason="first")

    with pytest.raises(AliasUnknown, match="no alias 'shadow': it has champion"):
        resolve(root, "churn", "shadow")


def test_an_unknown_model_is_told(root):
    """A model that was never published has no aliases to read."""
    with pytest.raises(ModelNotFound, match="no model 'churn'"):
        resolve(root, "churn", "champion")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"aliases": {"champion": 1}}', '{"format": 2}', '{"surprise": 1}']
)
def test_aliases_that_cannot_be_believed_are_told(root, at, offered, files, text):
    """A damaged or hand-edited alias file is an error, never an empty set of aliases."""
    publish(root, offered, files)
    at.write("churn/aliases.json", text)

    with pytest.raises(ModelCorrupt, match=r"aliases\.json: expected valid aliases"):
        resolve(root, "churn", "champion")


@pytest.mark.parametrize(("alias", "reason"), [("Champion!", "why"), ("champion", "")])
def test_a_promotion_needs_a_plain_alias_and_a_reason(root, at, offered, files, alias, reason):
    """What cannot be read back is not written."""
    publish(root, offered, files)

    with pytest.raises(ValueError, match=r"alias|reason"):
        promote(root, "churn", 1, alias=alias, reason=reason)

    assert "churn/aliases.json" not in at.names()


def test_concurrent_promotions_are_all_remembered(root, at, offered, files):
    """No promotion is lost when several arrive at once, and the file is valid JSON afterwards."""
    publish(root, offered, files)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: promote(root, "churn", 1, reason=f"n{i}"), range(8)))

    history = json.loads(at.read("churn/aliases.json"))["history"]
    assert {p["reason"] for p in history} == {f"n{i}" for i in range(8)}
    assert {name.partition("/")[0] for name in at.names("churn")} == {"1", "aliases.json"}


def test_rollbacks_go_back_one_version_each(root, offered, files):
    """From 3 to 2 to 1, although 2 was served twice; before the first there is nothing."""
    for _ in range(3):
        publish(root, offered, files)
    for version in (1, 2, 3):
        promote(root, "churn", version, reason="better")

    went = [roll_back(root, "churn", reason="worse", actor="ops:1") for _ in range(2)]

    assert went == [(3, 2), (2, 1)]
    assert resolve(root, "churn") == 1
    assert read_aliases(root, "churn").history[-1].actor == "ops:1"
    with pytest.raises(NothingBefore, match="no version was champion before the present one"):
        roll_back(root, "churn", reason="worse")


def test_a_rollback_to_a_broken_version_leaves_the_present_one(root, at, offered, files):
    """What serves is not traded for what cannot."""
    for version in (1, 2):
        publish(root, offered, files)
        promote(root, "churn", version, reason="better")
    at.write("churn/1/model.onnx", b"x")

    with pytest.raises(ModelCorrupt):
        roll_back(root, "churn", reason="worse")

    assert resolve(root, "churn") == 2


def test_an_alias_is_taken_away_and_remembered(root, offered, files):
    """A shadow that has been seen enough stands for nothing; the history says why."""
    publish(root, offered, files)
    promote(root, "churn", 1, alias="shadow", reason="see")

    release(root, "churn", alias="shadow", reason="seen")

    with pytest.raises(AliasUnknown):
        resolve(root, "churn", "shadow")
    last = read_aliases(root, "churn").history[-1]
    assert (last.version, last.previous, last.reason) == (None, 1, "seen")
    with pytest.raises(AliasUnknown):
        release(root, "churn", alias="shadow", reason="again")


def test_a_plain_promotion_is_written_as_before(root, at, offered, files):
    """Fields nobody used are left out, so that older servers read the file."""
    publish(root, offered, files)
    promote(root, "churn", 1, reason="first")

    (told,) = json.loads(at.read("churn/aliases.json"))["history"]

    assert set(told) == {"alias", "version", "previous", "at", "reason", "manifest"}


def test_a_forced_promotion_says_so(root, at, offered, files):
    """Who, and past which gates."""
    publish(root, offered, files)
    promote(root, "churn", 1, reason="needed", actor="risk:17", overridden=("auc", "fairness"))

    (told,) = json.loads(at.read("churn/aliases.json"))["history"]

    assert (told["actor"], told["forced"], told["gates"]) == ("risk:17", True, ["auc", "fairness"])


@pytest.mark.parametrize(("judged_against", "told"), [(1, "champion 1, and meanwhile it is 2"), (0, "none")])
def test_a_judgement_against_a_former_champion_promotes_nothing(root, offered, files, judged_against, told):
    """Who was first wins; the other judges again."""
    for _ in range(3):
        publish(root, offered, files)
    promote(root, "churn", 1, reason="first")
    promote(root, "churn", 2, reason="meanwhile", judged_against=1)

    with pytest.raises(ChampionMoved, match=told):
        promote(root, "churn", 3, reason="late", judged_against=judged_against)

    assert resolve(root, "churn") == 2
