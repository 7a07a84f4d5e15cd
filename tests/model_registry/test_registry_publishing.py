from __future__ import annotations

import hashlib
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_registry import list_models, open_version, publish, storage_of
from model_registry.errors import ManifestInvalid, VersionExists


def test_a_published_version_reads_back_as_offered(root, offered, files):
    """What is opened is what was published, with the digests the registry computed."""
    folder = publish(root, offered, files)

    model = open_version(root, "churn", 1)

    assert str(folder) == f"{root}/churn/1"
    assert {name: model.read(name) for name in files} == files
    assert model.manifest.files["model.onnx"] == "sha256:" + hashlib.sha256(b"trees").hexdigest()


def test_versions_count_up_where_none_is_given(root, offered, files):
    """Without a version the next integer after the highest published one is taken."""
    publish(root, {**offered, "version": 7}, files)

    folder = publish(root, offered, files)

    assert folder.name == "8"


def test_a_published_version_is_never_overwritten(root, offered, files):
    """Publishing the same version again is refused and leaves the first one untouched."""
    publish(root, {**offered, "version": 1}, files)

    with pytest.raises(VersionExists, match="publish the next integer"):
        publish(root, {**offered, "version": 1}, {**files, "model.onnx": b"other"})

    assert open_version(root, "churn", 1).read("model.onnx") == b"trees"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"metrics": {"auc": float("nan")}}, "metrics.auc"),
        ({"concepts": []}, "exactly one concept"),
        ({"name": "../escape"}, "name: String should match"),
        ({"version": 0}, "version: "),
        ({"files": {}}, "leave it out"),
    ],
)
def test_a_manifest_that_could_not_be_opened_is_not_published(root, at, offered, files, change, cause):
    """Every flaw is found before anything is written, and named with its place."""
    with pytest.raises(ManifestInvalid, match=cause):
        publish(root, {**offered, **change}, files)

    assert at.names() == []


@pytest.mark.parametrize("name", ["../model.onnx", "a/b", ".hidden", "", "manifest.json"])
def test_files_have_plain_names(root, at, offered, name):
    """A file name that could leave the folder, hide, or replace the manifest is refused."""
    with pytest.raises(ManifestInvalid):
        publish(root, offered, {name: b"x"})

    assert at.names() == []


def test_concurrent_publishers_each_get_a_version_of_their_own(root, offered, files):
    """Eight publishers at once make eight whole versions."""

    def one(i: int) -> Path:
        return publish(root, offered, {**files, "model.onnx": str(i).encode()})

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(one, range(8)))

    assert sorted(int(f.name) for f in folders) == list(range(1, 9))
    contents = {open_version(root, "churn", v).read("model.onnx") for v in range(1, 9)}
    assert contents == {str(i).encode() for i in range(8)}


def test_concurrent_publishers_of_one_version_have_one_winner(root, offered, files):
    """Where all want version 1, one gets it and the others are told."""

    def one(i: int) -> bool:
        try:
            publish(root, {**offered, "version": 1}, files)
        except VersionExists:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(one, range(4)))

    assert won.count(True) == 1


def test_an_error_half_way_leaves_nothing_behind(tmp_path, offered, files, monkeypatch):
    """A full disk in the middle of publishing leaves neither a version nor leftovers."""
    real, calls = os.fsync, []

    def fails_at_the_second_file(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fails_at_the_second_file)

    with pytest.raises(OSError, match="No space"):
        publish(tmp_path, offered, files)

    assert list((tmp_path / "churn").iterdir()) == []


def _publish_and_die(root: Path, offered: dict[str, object], files: dict[str, bytes]) -> None:
    """Runs in a process of its own; dies as kill -9 would, just before the rename."""
    Path.rename = lambda self, target: os._exit(9)  # type: ignore[assignment,method-assign]  # this process ends here
    publish(root, offered, files)


def test_a_crash_half_way_registers_nothing_and_is_cleaned_up(tmp_path, offered, files):
    """A publisher killed before its rename leaves no version; the next publisher clears its remains."""
    process = multiprocessing.get_context("spawn").Process(
        target=_publish_and_die, args=(tmp_path, offered, files)
    )
    process.start()
    process.join()
    half_way = [p.name for p in (tmp_path / "churn").iterdir()]

    versions_after_crash = storage_of(tmp_path).versions("churn")
    models_after_crash = list_models(tmp_path)
    folder = publish(tmp_path, offered, files)

    assert process.exitcode == 9
    assert len(half_way) == 1
    assert versions_after_crash == ()
    assert models_after_crash == ()
    assert [p.name for p in (tmp_path / "churn").iterdir()] == [folder.name] == ["1"]
