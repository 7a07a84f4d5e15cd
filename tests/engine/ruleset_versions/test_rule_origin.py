"""Where rule files come from: the commit of their folder, and past revisions of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.ruleset.origin import RevisionUnknown, git_origin, sources_at


def git(folder: Path, *arguments: str) -> str:
    """Runs git with an author of its own."""
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A rules folder inside a repository, with one commit and a file beside it."""
    rules = tmp_path / "repository" / "rules"
    rules.mkdir(parents=True)
    (rules / "a.yaml").write_text("number: 1\n")
    (rules.parent / "README").write_text("beside\n")
    git(rules.parent, "init", "--quiet")
    git(rules.parent, "add", ".")
    git(rules.parent, "commit", "--quiet", "-m", "first")
    return rules


def test_the_origin_is_the_commit_and_whether_rule_files_differ_from_it(folder: Path) -> None:
    """A changed file beside the rules is no edit of the rules."""
    commit = git(folder, "rev-parse", "HEAD")
    (folder.parent / "README").write_text("changed\n")
    clean = git_origin(folder)
    (folder / "b.yaml").write_text("number: 2\n")

    edited = git_origin(folder)

    assert clean is not None
    assert edited is not None
    assert (commit, False) == (clean.commit, clean.dirty)
    assert (commit, True) == (edited.commit, edited.dirty)


def test_a_folder_that_is_not_in_git_has_no_origin(tmp_path: Path) -> None:
    """Neither has one that does not exist."""
    assert git_origin(tmp_path) is None
    assert git_origin(tmp_path / "nowhere") is None


def test_without_git_there_is_no_origin_and_no_revision(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing works on a machine that has no git."""
    monkeypatch.setenv("PATH", "")

    assert git_origin(folder) is None
    with pytest.raises(RevisionUnknown):
        sources_at(folder, "HEAD")


def test_a_past_revision_gives_the_files_as_they_were(folder: Path) -> None:
    """Only the rules folder's, by their paths in it, whatever lies in the folder now."""
    (folder / "a.yaml").write_text("number: 2\n")

    sources = sources_at(folder, "HEAD")

    assert dict(sources) == {"a.yaml": "number: 1\n"}


@pytest.mark.parametrize("revision", ["nowhere", "--help", "-1", "HEAD:rules", "HEAD~5", ""])
def test_what_is_no_revision_is_refused(folder: Path, revision: str) -> None:
    """Text that looks like an option is not one."""
    with pytest.raises(RevisionUnknown):
        sources_at(folder, revision)
