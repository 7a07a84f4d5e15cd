"""Versions: published once for good, found by name, activated and rolled back with every change kept."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ruleset.archive import ArchivedSet
from engine.ruleset.origin import GitOrigin
from engine.ruleset.sources import RuleSources
from engine.ruleset.versions import (
    ChangeKind,
    NothingBefore,
    RuleVersions,
    Version,
    VersionsUnusable,
    VersionUnknown,
)

SCHEMA = "sha256:" + "5" * 64


def sources_of(number: int) -> RuleSources:
    """A set of files that differs by its number."""
    return RuleSources({"a.yaml": f"number: {number}\n"})


def publish(versions: RuleVersions, number: int, *, message: str = "m", author: str = "ada") -> Version:
    """Publishes the set of a number; the number is its time too."""
    sources = sources_of(number)
    version = Version(
        rules=sources.digest,
        at_ms=number,
        author=author,
        message=message,
        files=len(sources),
        git=GitOrigin("c" * 40, dirty=True),
    )
    return versions.publish(ArchivedSet(sources, "schema"), feature_schema=SCHEMA, version=version)


def activate(versions: RuleVersions, version: Version) -> str | None:
    """Activates and says what serves."""
    return versions.activate(version, at_ms=9, author="ada", reason="because").current


def rollback(versions: RuleVersions) -> str | None:
    """Rolls back and says what serves."""
    return versions.rollback(at_ms=9, author="ada", reason="oops").current


def test_a_version_is_found_by_the_beginning_of_its_address_and_by_latest(tmp_path: Path) -> None:
    """Twelve digits, the whole address and `latest` all name it, for another process too."""
    first, second = (publish(RuleVersions(tmp_path), number) for number in (1, 2))

    found = [RuleVersions(tmp_path).find(name) for name in (first.short, first.rules, "latest")]

    assert [first, first, second] == found
    assert sources_of(1) == RuleVersions(tmp_path).sources(first.rules)


def test_a_published_version_never_changes(tmp_path: Path) -> None:
    """Publishing the same files again gives back the record of the first time."""
    versions = RuleVersions(tmp_path)
    first = publish(versions, 1, message="first", author="ada")

    again = publish(versions, 1, message="second", author="bob")

    assert first == again
    assert (first,) == versions.published()


@pytest.mark.parametrize("name", ["0000", "abc", "latest ", "../versions", ""])
def test_a_name_nobody_published_is_refused(tmp_path: Path, name: str) -> None:
    """Whatever is written as a name, nothing but a published version is found."""
    versions = RuleVersions(tmp_path)
    publish(versions, 1)

    with pytest.raises(VersionUnknown, match="history"):
        versions.find(name)


def test_a_beginning_that_several_versions_share_is_refused(tmp_path: Path) -> None:
    """A guess between two versions is never made."""
    versions = RuleVersions(tmp_path)
    by_beginning: dict[str, int] = {}
    for number in range(1, 2000):
        beginning = sources_of(number).digest.removeprefix("sha256:")[:4]
        if beginning in by_beginning:
            break
        by_beginning[beginning] = number
    publish(versions, by_beginning[beginning])
    publish(versions, number)

    with pytest.raises(VersionUnknown, match="2 versions"):
        versions.find(beginning)


def test_current_and_shadow_are_names_once_they_point_somewhere(tmp_path: Path) -> None:
    """Before, they are refused with the command that sets them; switching the shadow leaves current."""
    versions = RuleVersions(tmp_path)
    first, second = publish(versions, 1), publish(versions, 2)
    with pytest.raises(VersionUnknown, match="activate"):
        versions.find("current")
    activate(versions, first)
    versions.shadow(second, at_ms=9, author="ada", reason="")

    assert first == versions.find("current")
    assert second == versions.find("shadow")
    assert versions.shadow(None, at_ms=9, author="ada", reason="").shadow is None
    assert first == versions.find("current")


def test_every_change_is_kept_with_who_when_and_why(tmp_path: Path) -> None:
    """The pointers' file tells the whole way to where they point."""
    versions = RuleVersions(tmp_path)
    first, second = publish(versions, 1), publish(versions, 2)
    activate(versions, first)
    activate(versions, second)
    activate(versions, second)

    rollback(versions)

    told = [(c.kind, c.before, c.version, c.reason) for c in versions.pointers().changes]
    expected = [
        (ChangeKind.ACTIVATE, None, first.rules, "because"),
        (ChangeKind.ACTIVATE, first.rules, second.rules, "because"),
        (ChangeKind.ROLLBACK, second.rules, first.rules, "oops"),
    ]
    assert expected == told


@settings(max_examples=40, deadline=None)  # each step is synced to disk
@given(st.lists(st.sampled_from(["1", "2", "3", "back"]), max_size=12))
def test_rollbacks_go_back_through_what_was_activated(steps: list[str]) -> None:
    """For any sequence, what serves is the top of a stack that activations push and rollbacks pop."""
    with tempfile.TemporaryDirectory() as folder:
        versions = RuleVersions(Path(folder))
        stack: list[str] = []
        for step in steps:
            if step != "back":
                version = publish(versions, int(step))
                stack += [] if stack[-1:] == [version.rules] else [version.rules]
                activate(versions, version)
            elif len(stack) > 1:
                stack.pop()
                rollback(versions)
            else:
                with pytest.raises(NothingBefore):
                    rollback(versions)

            assert (stack[-1] if stack else None) == versions.pointers().current


def test_changes_from_many_writers_at_once_are_all_kept(tmp_path: Path) -> None:
    """Writers take turns: no activation is lost, and each starts where the one before it ended."""
    published = [publish(RuleVersions(tmp_path), number) for number in range(8)]
    threads = [
        threading.Thread(target=activate, args=(RuleVersions(tmp_path), version)) for version in published
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    changes = RuleVersions(tmp_path).pointers().changes
    assert {version.rules for version in published} == {change.version for change in changes}
    assert [None, *(change.version for change in changes[:-1])] == [change.before for change in changes]


def test_publishing_and_activating_change_the_identity_servers_watch(tmp_path: Path) -> None:
    """A server that looks at the identity alone misses neither."""
    versions = RuleVersions(tmp_path)
    seen = [versions.identity()]
    version = publish(versions, 1)
    seen.append(versions.identity())
    activate(versions, version)
    seen.append(versions.identity())

    assert len(seen) == len(set(seen))
    assert seen[-1] == versions.identity()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"current": 7}', b"\xff\xfe"])
def test_a_damaged_pointer_file_is_named_not_guessed_at(tmp_path: Path, content: bytes) -> None:
    """What serves is unknown then, and nobody pretends otherwise."""
    versions = RuleVersions(tmp_path)
    version = publish(versions, 1)
    activate(versions, version)
    (tmp_path / "pointers.json").write_bytes(content)

    with pytest.raises(VersionsUnusable, match=r"pointers\.json"):
        versions.pointers()
    with pytest.raises(VersionsUnusable, match=r"pointers\.json"):
        activate(versions, version)


def test_files_that_are_not_what_their_address_says_are_refused(tmp_path: Path) -> None:
    """A version whose stored files were edited does not serve, and is not published over either."""
    versions = RuleVersions(tmp_path)
    version = publish(versions, 1)
    (stored,) = tmp_path.glob("*-*.json")
    stored.write_text(stored.read_text().replace("number: 1", "number: 7"))

    with pytest.raises(VersionsUnusable, match="intact"):
        versions.sources(version.rules)
    with pytest.raises(VersionsUnusable, match="intact"):
        publish(versions, 1)


def test_what_a_killed_writer_leaves_behind_is_not_a_version(tmp_path: Path) -> None:
    """Half-written files have names that nobody reads."""
    versions = RuleVersions(tmp_path)
    version = publish(versions, 1)
    (tmp_path / "versions" / ".killed.part").write_bytes(b"{")
    (tmp_path / ".killed.part").write_bytes(b"{")

    assert (version,) == versions.published()
    assert version.rules == activate(versions, version)
