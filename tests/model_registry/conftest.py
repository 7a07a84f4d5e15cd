"""A small valid manifest and its files; the registry does not look inside the files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import fsspec
import pytest

from model_registry import Root


@pytest.fixture(params=["folder", "memory"])
def root(request, tmp_path, monkeypatch) -> Iterator[Root]:
    """An empty registry: in a folder, and in fsspec's object store in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "folder":
        (tmp_path / "registry").mkdir()
        yield tmp_path / "registry"
        return
    name = f"/registry-{uuid.uuid4().hex}"
    yield f"memory:/{name}"
    store = fsspec.filesystem("memory")
    if store.exists(name):
        store.rm(name, recursive=True)


class Files:
    """The files of a registry as whoever damages them sees them."""

    def __init__(self, root: Root) -> None:
        self.files, self.path = fsspec.core.url_to_fs(str(root))

    def key(self, place: str) -> str:
        return f"{self.path}/{place}"

    def write(self, place: str, content: bytes | str) -> None:
        self.files.makedirs(self.key(place).rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(self.key(place), content.encode() if isinstance(content, str) else content)

    def read(self, place: str) -> bytes:
        return bytes(self.files.cat_file(self.key(place)))

    def remove(self, place: str) -> None:
        self.files.rm(self.key(place), recursive=True)

    def move(self, place: str, to: str) -> None:
        for name in self.names(place):
            self.write(f"{to}/{name}", self.read(f"{place}/{name}"))
        self.remove(place)

    def names(self, place: str = "") -> list[str]:
        """Names of all files below a place, but for hidden ones."""
        home = self.key(place).rstrip("/")
        found = (str(name).rpartition(home + "/")[2] for name in self.files.find(home))
        return sorted(name for name in found if not name.rpartition("/")[2].startswith("."))


@pytest.fixture
def at(root) -> Files:
    """What lies in the registry."""
    return Files(root)


@pytest.fixture
def offered() -> dict[str, object]:
    """A manifest as a training run offers it."""
    return {
        "name": "churn",
        "kind": "churn",
        "created": "2026-01-15",
        "intended_use": "Ranks customers by the risk that they leave",
        "feature_schema": "telco",
        "inputs": [{"name": "tenure_months", "source": "feature"}],
        "typical": {"tenure_months": 29.0},
        "concepts": [
            {"name": "loyalty", "inputs": ["tenure_months"], "reason_raises": "NEW", "reason_lowers": "LOYAL"}
        ],
        "calibration": {"slope": 1.0, "intercept": 0.0},
        "metrics": {"auc": 0.84},
        "training_data": {"source": "telco", "rows": "7043"},
    }


@pytest.fixture
def files() -> dict[str, bytes]:
    """Two files of a version."""
    return {"model.onnx": b"trees", "golden.npz": b"rows"}
