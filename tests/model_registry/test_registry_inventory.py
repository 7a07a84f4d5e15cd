from __future__ import annotations

from pathlib import Path

import pytest

import model_registry
from model_registry import list_models, promote, publish, verify
from model_registry.errors import ModelNotFound


def test_models_are_listed_with_versions_and_aliases(tmp_path, offered, files):
    """A model is a folder with integer-named versions; code and caches beside it are none."""
    publish(tmp_path, offered, files)
    publish(tmp_path, {**offered, "version": 10}, files)
    promote(tmp_path, "churn", 1, reason="first")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "publishing.py").write_text("")

    (listed,) = list_models(tmp_path)

    assert (listed.name, listed.versions, dict(listed.aliases)) == ("churn", (1, 10), {"champion": 1})


def test_the_code_folder_lists_models_only(tmp_path):
    """The folder that also holds this package's code lists no part of the code as a model."""
    names = [m.name for m in list_models(Path(model_registry.__file__).parent)]

    assert set(names) <= {"churn", "propensity"}


def test_whole_models_verify_without_problems(tmp_path, offered, files):
    """One row a version, with the aliases on it and nothing to say."""
    publish(tmp_path, offered, files)
    promote(tmp_path, "churn", 1, reason="first")

    rows = [(r.name, r.version, r.aliases, r.problems) for r in verify(tmp_path)]

    assert rows == [("churn", 1, ("champion",), ())]


def test_every_problem_is_reported_at_once(tmp_path, offered, files):
    """A changed file, a missing file, a broken manifest and a dangling alias are four findings in one run."""
    first = publish(tmp_path, offered, files)
    second = publish(tmp_path, offered, files)
    third = publish(tmp_path, offered, files)
    promote(tmp_path, "churn", 3, reason="first")
    (first / "model.onnx").write_bytes(b"x")
    (first / "golden.npz").unlink()
    (second / "manifest.json").write_text("{")
    third.rename(tmp_path / "gone")

    rows = verify(tmp_path)

    assert [(r.version, r.aliases, len(r.problems)) for r in rows] == [
        (1, (), 2),
        (2, (), 1),
        (3, ("champion",), 1),
    ]


def test_unreadable_aliases_do_not_hide_the_versions(tmp_path, offered, files):
    """Broken aliases are a row of their own; the versions are still verified."""
    publish(tmp_path, offered, files)
    (tmp_path / "churn" / "aliases.json").write_text("{")

    rows = [(r.version, bool(r.problems)) for r in verify(tmp_path)]

    assert rows == [(0, True), (1, False)]


def test_a_registry_path_that_is_wrong_is_told(tmp_path):
    """A mistyped path is not an empty registry."""
    with pytest.raises(ModelNotFound, match="correct the registry path"):
        list_models(tmp_path / "nowhere")
