from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from model_registry import open_version, publish
from model_registry.archives import export_version, import_version
from model_registry.errors import ArchiveRefused, ModelCorrupt, RegistryError, VersionExists

FILE = Path("churn-1.tar.gz")


@pytest.fixture
def archive(root, offered, files) -> bytes:
    """An exported version."""
    publish(root, offered, files)
    return export_version(root, "churn", 1)


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
        return {member.name: packed.extractfile(member).read() for member in packed}


def packed(contents: dict[str, bytes], **kinds: bytes) -> bytes:
    """An archive of files, some of which are of another kind than plain ones."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.type = kinds.get(name.rpartition("/")[2].replace(".", "_"), tarfile.REGTYPE)
            member.linkname = "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def test_an_exported_version_is_imported_as_it_was(root, archive, tmp_path):
    """Same number, same digest of the manifest, and so the same in all."""
    done = import_version(tmp_path / "other", archive, source=FILE)

    imported = open_version(tmp_path / "other", "churn", 1)
    assert done.is_new
    assert imported.digest == open_version(root, "churn", 1).digest
    assert imported.read("model.onnx") == b"trees"


def test_the_same_version_exports_to_the_same_bytes(root, archive):
    """An archive may be compared by its digest."""
    assert export_version(root, "churn", 1) == archive


def test_importing_twice_changes_nothing(root, archive):
    """The very same version is there already, which is no error."""
    assert not import_version(root, archive, source=FILE).is_new


def test_another_version_of_that_number_stays(tmp_path, root, archive, offered, files):
    """Versions are immutable, also for an import."""
    publish(tmp_path / "other", {**offered, "metrics": {"auc": 0.5}}, files)

    with pytest.raises(VersionExists):
        import_version(tmp_path / "other", archive, source=FILE)

    assert open_version(tmp_path / "other", "churn", 1).manifest.metrics == {"auc": 0.5}


def test_a_damaged_version_is_not_exported(root, at, offered, files):
    """Damage does not travel."""
    publish(root, offered, files)
    at.write("churn/1/model.onnx", b"x")

    with pytest.raises(ModelCorrupt):
        export_version(root, "churn", 1)


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (lambda c: b"", "its bytes end too early"),
        (lambda c: b"no archive", "no whole tar.gz"),
        (lambda c: packed(c)[:-30], "bytes end too early"),
        (lambda c: gzip.compress(b"no tar" * 1000), "no whole tar.gz|holds no manifest"),
        (lambda c: packed({n: b for n, b in c.items() if "manifest" not in n}), "holds no manifest"),
        (lambda c: packed({n: b for n, b in c.items() if "onnx" not in n}), "found no such file"),
        (lambda c: packed({**c, "churn-1/model.onnx": b"x"}), "expected sha256:"),
        (lambda c: packed({**c, "churn-1/manifest.json": b"{"}), "a valid manifest"),
        (lambda c: packed({**c, "churn-1/more": b"x"}), "more: refused: not listed"),
        (lambda c: packed({**c, "../escape": b"x", "a/../b": b""}), "not listed|no plain file"),
        (lambda c: packed({**c, "/etc/cron": b"x"}), "no plain file"),
        (lambda c: packed(c, model_onnx=tarfile.SYMTYPE), "no plain file"),
        (lambda c: packed(c, model_onnx=tarfile.LNKTYPE), "no plain file"),
        (lambda c: packed(c, model_onnx=tarfile.FIFOTYPE), "no plain file"),
        (lambda c: packed({**c, **{f"x/{i}": b"" for i in range(80)}}), "one file too many"),
    ],
)
def test_what_is_no_archive_of_a_version_is_refused(tmp_path, archive, bad, cause):
    """Nothing of it is registered, and the error names the archive."""
    with pytest.raises(RegistryError, match=cause) as caught:
        import_version(tmp_path / "other", bad(members(archive)), source=FILE)

    assert "churn-1.tar.gz" in str(caught.value)
    assert not (tmp_path / "other").exists()


def test_an_archive_that_unpacks_without_end_is_given_up(tmp_path, monkeypatch):
    """A few bytes that stand for gigabytes are not unpacked."""
    monkeypatch.setattr("model_registry.archives.MAX_UNPACKED_BYTES", 1 << 16)

    with pytest.raises(ArchiveRefused, match="unpacks to more than 65536 bytes"):
        import_version(tmp_path, gzip.compress(bytes(1 << 20)), source=FILE)
