from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_registry import open_version, publish
from model_registry.errors import FileRefused, ModelCorrupt, ModelNotFound


def test_a_missing_file_is_told(root, at, offered, files):
    """A listed file that is gone says which file, and what to do."""
    publish(root, offered, files)
    at.remove("churn/1/model.onnx")
    model = open_version(root, "churn", 1)

    with pytest.raises(ModelCorrupt, match=r"model\.onnx: expected a file, found none\. Restore"):
        model.read("model.onnx")


def test_a_changed_file_is_told_with_both_digests(root, at, offered, files):
    """One changed byte is found, with the digest expected and the digest found."""
    folder = publish(root, offered, files)
    at.write("churn/1/model.onnx", b"treez")
    model = open_version(root, "churn", 1)

    with pytest.raises(ModelCorrupt) as caught:
        model.read("model.onnx")

    assert caught.value.path == folder / "model.onnx"
    assert caught.value.expected == model.manifest.files["model.onnx"]
    assert caught.value.found.startswith("sha256:")
    assert caught.value.found != caught.value.expected


@pytest.mark.parametrize("keep", [0, 1, 100, 400])
def test_a_truncated_manifest_is_told(root, at, offered, files, keep):
    """A manifest cut anywhere is corrupt, not half-believed."""
    publish(root, offered, files)
    at.write("churn/1/manifest.json", at.read("churn/1/manifest.json")[:keep])

    with pytest.raises(ModelCorrupt, match="expected a valid manifest"):
        open_version(root, "churn", 1)


def test_an_unknown_manifest_field_is_told(root, at, offered, files):
    """A field this version of Arbiter does not know is an error with its name."""
    publish(root, offered, files)
    manifest = json.loads(at.read("churn/1/manifest.json"))
    at.write("churn/1/manifest.json", json.dumps({**manifest, "surprise": 1}))

    with pytest.raises(ModelCorrupt, match="surprise: Extra inputs"):
        open_version(root, "churn", 1)


def test_a_version_folder_without_manifest_is_told(tmp_path):
    """An integer-named folder alone is not a version."""
    (tmp_path / "churn" / "1").mkdir(parents=True)

    with pytest.raises(ModelCorrupt, match=r"manifest\.json: expected a file, found none"):
        open_version(tmp_path, "churn", 1)


def test_a_manifest_of_another_version_is_told(root, at, offered, files):
    """A copied folder does not pass for the version it is named after."""
    publish(root, offered, files)
    at.move("churn/1", "churn/2")

    with pytest.raises(ModelCorrupt, match="expected that of churn 2, found the manifest of churn 1"):
        open_version(root, "churn", 2)


def test_an_unknown_version_says_what_is_published(root, offered, files):
    """Asking for a version that is not there lists those that are."""
    publish(root, offered, files)

    with pytest.raises(ModelNotFound, match=r"no version 5 .*published are 1"):
        open_version(root, "churn", 5)


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", ".", ""])
def test_a_model_name_cannot_leave_the_registry(root, at, name):
    """A name that is a path finds nothing, whatever lies there."""
    at.write("outside/1/manifest.json", "{}")
    at.write("registry/readme", "")

    with pytest.raises(ModelNotFound):
        open_version(f"{root}/registry", name, 1)


@pytest.mark.parametrize("filename", ["../../secret", "/secret", "manifest.json", "notes.txt", ""])
def test_only_listed_files_are_read(root, at, offered, files, filename):
    """Paths and unlisted names are refused, even where a file is there."""
    publish(root, offered, files)
    at.write("secret", b"x")
    at.write("churn/1/notes.txt", b"x")
    model = open_version(root, "churn", 1)

    with pytest.raises(FileRefused, match="not listed"):
        model.read(filename)


def test_a_link_out_of_the_folder_is_refused_even_with_the_right_content(tmp_path, offered, files):
    """A listed file that became a link to elsewhere is refused."""
    folder = publish(tmp_path, offered, files)
    (tmp_path / "elsewhere").write_bytes(b"trees")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FileRefused, match="outside the version folder"):
        open_version(tmp_path, "churn", 1).read("model.onnx")


def test_a_version_folder_that_is_a_link_out_of_the_registry_is_refused(tmp_path, offered, files):
    """A version is published here or it is not served."""
    folder = publish(tmp_path / "other", offered, files)
    registry = tmp_path / "registry"
    (registry / "churn").mkdir(parents=True)
    (registry / "churn" / "1").symlink_to(folder)

    with pytest.raises(FileRefused, match="leaves the registry"):
        open_version(registry, "churn", 1)


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path, offered, files):
    """A file beyond the limit never reaches memory."""
    folder = publish(tmp_path, offered, files)
    with (folder / "model.onnx").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: takes no disk

    with pytest.raises(FileRefused, match="at most 268435456 are read"):
        open_version(tmp_path, "churn", 1).read("model.onnx")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path, offered, files):
    """Only regular files are read."""
    folder: Path = publish(tmp_path, offered, files)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()

    with pytest.raises(FileRefused, match="not a regular file"):
        open_version(tmp_path, "churn", 1).read("model.onnx")
