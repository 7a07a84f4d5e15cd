from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from model_registry import open_alias, promote, publish, resolve
from model_registry.aliases import read_aliases
from model_registry.errors import AliasUnknown, ModelCorrupt, ModelNotFound

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)


def test_promotion_and_rollback_move_the_alias_and_are_remembered(tmp_path, offered, files):
    """The alias follows each promotion; the history says from where, to where and why."""
    publish(tmp_path, offered, files)
    publish(tmp_path, offered, files)

    promote(tmp_path, "churn", 1, reason="first", at=AT)
    promote(tmp_path, "churn", 2, reason="better AUC", at=AT)
    promote(tmp_path, "churn", 1, reason="rollback", at=AT)

    history = [(p.previous, p.version, p.reason) for p in read_aliases(tmp_path, "churn").history]
    assert resolve(tmp_path, "churn", "champion") == 1
    assert history == [(None, 1, "first"), (1, 2, "better AUC"), (2, 1, "rollback")]


def test_aliases_are_independent(tmp_path, offered, files):
    """A challenger does not move the champion."""
    publish(tmp_path, offered, files)
    publish(tmp_path, offered, files)
    promote(tmp_path, "churn", 1, reason="first")

    promote(tmp_path, "churn", 2, alias="challenger", reason="try")

    assert resolve(tmp_path, "churn", "champion") == 1
    assert resolve(tmp_path, "churn", "challenger") == 2


def test_a_version_that_is_not_there_is_not_promoted(tmp_path, offered, files):
    """Promoting a missing version fails and leaves the alias alone."""
    publish(tmp_path, offered, files)
    promote(tmp_path, "churn", 1, reason="first")

    with pytest.raises(ModelNotFound):
        promote(tmp_path, "churn", 9, reason="typo")

    assert resolve(tmp_path, "churn", "champion") == 1


def test_a_broken_version_is_not_promoted(tmp_path, offered, files):
    """Every file is read against its digest before the alias moves."""
    folder = publish(tmp_path, offered, files)
    (folder / "golden.npz").write_bytes(b"changed")

    with pytest.raises(ModelCorrupt, match=r"golden\.npz"):
        promote(tmp_path, "churn", 1, reason="first")

    with pytest.raises(AliasUnknown):
        resolve(tmp_path, "churn", "champion")


def test_an_alias_of_a_version_that_was_removed_is_told(tmp_path, offered, files):
    """An alias whose version is gone does not fall back to another version."""
    folder = publish(tmp_path, offered, files)
    publish(tmp_path, offered, files)
    promote(tmp_path, "churn", 1, reason="first")
    folder.rename(tmp_path / "gone")

    with pytest.raises(ModelNotFound, match=r"no version 1 .*published are 2"):
        open_alias(tmp_path, "churn", "champion")


def test_a_manifest_changed_after_its_promotion_is_told(tmp_path, offered, files):
    """Calibration is in the manifest: a changed manifest does not serve although it is valid."""
    path = publish(tmp_path, offered, files) / "manifest.json"
    promote(tmp_path, "churn", 1, reason="first")
    path.write_text(path.read_text().replace('"slope": 1.0', '"slope": 9.0'))

    with pytest.raises(ModelCorrupt, match="expected the promoted content sha256:"):
        open_alias(tmp_path, "churn", "champion")


def test_an_unknown_alias_says_which_there_are(tmp_path, offered, files):
    """The text lists the aliases the model has."""
    publish(tmp_path, offered, files)
    promote(tmp_path, "churn", 1, reason="first")

    with pytest.raises(AliasUnknown, match="no alias 'shadow': it has champion"):
        resolve(tmp_path, "churn", "shadow")


def test_an_unknown_model_is_told(tmp_path):
    """A model that was never published has no aliases to read."""
    with pytest.raises(ModelNotFound, match="no model 'churn'"):
        resolve(tmp_path, "churn", "champion")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"aliases": {"champion": 1}}', '{"format": 2}', '{"surprise": 1}']
)
def test_aliases_that_cannot_be_believed_are_told(tmp_path, offered, files, text):
    """A damaged or hand-edited alias file is an error, never an empty set of aliases."""
    publish(tmp_path, offered, files)
    (tmp_path / "churn" / "aliases.json").write_text(text)

    with pytest.raises(ModelCorrupt, match=r"aliases\.json: expected valid aliases"):
        resolve(tmp_path, "churn", "champion")


@pytest.mark.parametrize(("alias", "reason"), [("Champion!", "why"), ("champion", "")])
def test_a_promotion_needs_a_plain_alias_and_a_reason(tmp_path, offered, files, alias, reason):
    """What cannot be read back is not written."""
    publish(tmp_path, offered, files)

    with pytest.raises(ValueError, match=r"alias|reason"):
        promote(tmp_path, "churn", 1, alias=alias, reason=reason)

    assert not (tmp_path / "churn" / "aliases.json").exists()


def test_concurrent_promotions_are_all_remembered(tmp_path, offered, files):
    """No promotion is lost when several arrive at once, and the file is valid JSON afterwards."""
    publish(tmp_path, offered, files)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: promote(tmp_path, "churn", 1, reason=f"n{i}"), range(8)))

    history = json.loads((tmp_path / "churn" / "aliases.json").read_text())["history"]
    assert {p["reason"] for p in history} == {f"n{i}" for i in range(8)}
    assert sorted(p.name for p in (tmp_path / "churn").iterdir()) == ["1", "aliases.json"]
