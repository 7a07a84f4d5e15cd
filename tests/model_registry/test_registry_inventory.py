from __future__ import annotations

from pathlib import Path

import pytest

import model_registry
from model_registry import list_models, promote, publish, verify
from model_registry.errors import ModelNotFound


def test_models_are_listed_with_versions_and_aliases(root, at, offered, files):
    """A model is a folder with integer-named versions; code and caches beside it are none."""
    publish(root, offered, files)
    publish(root, {**offered, "version": 10}, files)
    promote(root, "churn", 1, reason="first")
    at.write("__pycache__/publishing.pyc", b"")
    at.write("publishing.py", b"")

    (listed,) = list_models(root)

    assert (listed.name, listed.versions, dict(listed.aliases)) == ("churn", (1, 10), {"champion": 1})


def test_the_code_folder_lists_models_only(tmp_path):
    """The folder that also holds this package's code lists no part of the code as a model."""
    names = [m.name for m in list_models(Path(model_registry.__file__).parent)]

    assert set(names) <= {"churn", "propensity"}


def test_whole_models_verify_without_problems(root, offered, files):
    """One row a version, with the aliases on it and nothing to say."""
    publish(root, offered, files)
    promote(root, "churn", 1, reason="first")

    rows = [(r.name, r.version, r.aliases, r.problems) for r in verify(root)]

    assert rows == [("churn", 1, ("champion",), ())]


def test_every_problem_is_reported_at_once(root, at, offered, files):
    """A changed file, a missing file, a broken manifest and a dangling alias are four findings in one run."""
    for _ in range(3):
        publish(root, offered, files)
    promote(root, "churn", 3, reason="first")
    at.write("churn/1/model.onnx", b"x")
    at.remove("churn/1/golden.npz")
    at.write("churn/2/manifest.json", "{")
    at.remove("churn/3")

    rows = verify(root)

    assert [(r.version, r.aliases, len(r.problems)) for r in rows] == [
        (1, (), 2),
        (2, (), 1),
        (3, ("champion",), 1),
    ]


def test_unreadable_aliases_do_not_hide_the_versions(root, at, offered, files):
    """Broken aliases are a row of their own; the versions are still verified."""
    publish(root, offered, files)
    at.write("churn/aliases.json", "{")

    rows = [(r.version, bool(r.problems)) for r in verify(root)]

    assert rows == [(0, True), (1, False)]


def test_a_registry_path_that_is_wrong_is_told(root):
    """A mistyped path is not an empty registry."""
    with pytest.raises(ModelNotFound, match="correct the registry path"):
        list_models(f"{root}/nowhere")
