from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from model_registry import open_alias, open_version, promote, publish, registry_root, storage_of, verify
from model_registry.errors import FileRefused, ModelCorrupt, StoreFailed, VersionExists
from model_registry.places import RemotePlace


@pytest.fixture
def url(tmp_path, monkeypatch):
    """An empty object store, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"/store-{uuid.uuid4().hex}"
    yield f"memory:/{name}"
    store = fsspec.filesystem("memory")
    if store.exists(name):
        store.rm(name, recursive=True)


@pytest.fixture
def store(url):
    """The objects behind the URL, by name."""
    files, path = fsspec.core.url_to_fs(url)

    class Objects:
        def read(self, name):
            return files.cat_file(f"{path}/{name}")

        def write(self, name, content):
            files.pipe_file(f"{path}/{name}", content)

        def names(self):
            return sorted(str(found).removeprefix(f"{path}/") for found in files.find(path))

    return Objects()


def cached(tmp_path) -> list[Path]:
    return sorted((tmp_path / "cache" / "arbiter" / "models").glob("*"))


def test_roots_are_folders_or_urls():
    """Text with a scheme is a URL, but for file://; all else is a folder."""
    assert registry_root("models") == Path("models")
    assert registry_root("file:///srv/models") == Path("/srv/models")
    assert registry_root("s3://bucket/models") == "s3://bucket/models"
    assert registry_root(Path("models")) == Path("models")


def test_the_manifest_is_written_last(url, store, offered, files, monkeypatch):
    """Readers see a version when all of its files are there, and not before."""
    written = []
    real = MemoryFileSystem.pipe_file

    def noted(self, path, value, mode="overwrite", **kwargs):
        written.append(path.rpartition("/")[2])
        return real(self, path, value, mode=mode, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", noted)
    publish(url, offered, files)

    assert written == [".claim", "model.onnx", "golden.npz", "manifest.json"]


def test_a_store_that_fails_half_way_registers_nothing(url, store, offered, files, monkeypatch):
    """What was written is taken back, and the error says what to check."""
    real = MemoryFileSystem.pipe_file

    def full(self, path, value, mode="overwrite", **kwargs):
        if path.endswith("golden.npz"):
            raise OSError(28, "No space left")
        return real(self, path, value, mode=mode, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", full)

    with pytest.raises(StoreFailed, match=r"No space left.*Check the registry's URL"):
        publish(url, offered, files)

    assert store.names() == []


def test_a_publisher_that_died_leaves_a_number_and_no_version(url, store, offered, files):
    """Its number is not given again, and what it left is no version."""
    store.write("churn/1/.claim", b"claimed")
    store.write("churn/1/model.onnx", b"half")

    place = publish(url, offered, files)

    assert place.name == "2"
    assert storage_of(url).versions("churn") == (2,)
    assert [(row.version, row.problems) for row in verify(url)] == [(2, ())]
    with pytest.raises(VersionExists):
        publish(url, {**offered, "version": 1}, files)


def test_files_are_fetched_once_and_checked_each_time(tmp_path, url, store, offered, files, monkeypatch):
    """A copy in the cache answers, until it is damaged: then the store does, and the copy is whole again."""
    publish(url, offered, files)
    model = open_version(url, "churn", 1)
    assert model.read("model.onnx") == b"trees"
    (copy,) = cached(tmp_path)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *_, **__: pytest.fail("fetched again"))
    assert model.read("model.onnx") == b"trees"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy.write_bytes(b"forged")

    assert model.read("model.onnx") == b"trees"
    assert copy.read_bytes() == b"trees"


def test_a_damaged_object_is_told_and_not_kept(tmp_path, url, store, offered, files):
    """What the store answers is checked like a file of a folder."""
    publish(url, offered, files)
    store.write("churn/1/model.onnx", b"treez")

    with pytest.raises(ModelCorrupt, match="found sha256:"):
        open_version(url, "churn", 1).read("model.onnx")

    assert cached(tmp_path) == []


def test_verification_and_promotion_look_past_the_cache(url, store, offered, files):
    """A copy nearby does not hide that the store is damaged."""
    publish(url, offered, files)
    for name in files:
        open_version(url, "churn", 1).read(name)
    store.write("churn/1/model.onnx", b"treez")

    (row,) = verify(url)

    assert "model.onnx" in row.problems[0]
    with pytest.raises(ModelCorrupt):
        promote(url, "churn", 1, reason="first")


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, url, offered, files):
    """A server whose home is read-only serves all the same."""
    (tmp_path / "cache").write_text("a file where a folder should be")
    publish(url, offered, files)

    assert open_version(url, "churn", 1).read("model.onnx") == b"trees"


def test_an_oversized_object_is_not_read_whole(url, store, offered, files, monkeypatch):
    """One byte more than allowed is asked for, whatever the object holds."""
    publish(url, offered, files)
    monkeypatch.setattr("model_registry.versions.MAX_FILE_BYTES", 3)

    with pytest.raises(FileRefused, match="more than 3 bytes; at most 3 are read"):
        open_version(url, "churn", 1).read("model.onnx")


def test_aliases_replaced_by_another_writer_are_told(url, store, offered, files, monkeypatch):
    """A promotion that another machine's promotion overwrote does not pass for done."""
    publish(url, offered, files)
    real = MemoryFileSystem.pipe_file

    def overtaken(self, path, value, mode="overwrite", **kwargs):
        real(self, path, value, mode=mode, **kwargs)
        if path.endswith("aliases.json"):
            real(self, path, b'{"format": 1}')

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", overtaken)

    with pytest.raises(StoreFailed, match="another writer replaced it at the same moment"):
        promote(url, "churn", 1, reason="first")


@pytest.mark.parametrize("broken", ["nosuchscheme://bucket/models", "s3://bucket/models"])
def test_a_url_nobody_opens_says_what_to_install(broken, monkeypatch):
    """A scheme without its package, or no scheme at all, is an error of the registry."""
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)

    with pytest.raises(StoreFailed, match="s3fs for s3://"):
        open_alias(broken, "churn")


def test_places_do_not_show_passwords():
    """Errors and settings name a URL without user and password."""
    place = RemotePlace("ftp://me:secret@host/models") / "churn"

    assert str(place) == "ftp://host/models/churn"
    assert (place.name, str(place.parent)) == ("churn", "ftp://host/models")
