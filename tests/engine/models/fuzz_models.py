"""Changes bytes of every file of a version, and opens it: it is refused by name, or loads as it was."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ensembles import train
from model_files import manifest_of, npz, version_files

from engine.models.errors import ModelRefused
from engine.models.loading import load_model
from engine.promotion.errors import PromotionError
from engine.promotion.evidence import read_holdout
from model_registry import open_version, publish
from model_registry.errors import RegistryError
from model_registry.publishing import sha256_of

FILES = ("model.onnx", "trees.npz", "golden.npz", "holdout.npz", "manifest.json")
REFUSALS = (ModelRefused, RegistryError, PromotionError)


def run(*, seed: int, mutations: int) -> None:
    """Prints how many changes of each file were refused; ends with an exception where one was not told."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = _version(root)
        for name in FILES:
            damage = _damaged_inside if name.endswith(".npz") else _damaged
            refused = sum(_refused(root, files, name, damage(rng, files[name])) for _ in range(mutations))
            print(f"{name}: {mutations} changes, {refused} refused")


def _version(root: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 6)).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(np.int64)
    booster = train(rows, labels, rounds=2, num_leaves=4)
    holdout = {"holdout.npz": npz({"rows": rows, "labels": labels.astype(np.float64)})}
    files = {**version_files(booster, rows[:6]), **holdout}
    folder = publish(root, manifest_of("churn"), files)
    return {**files, "manifest.json": (folder / "manifest.json").read_bytes()}


def _damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """A few bytes set, a piece cut, doubled or moved; or any of it in a row."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        start, length = int(rng.integers(0, len(changed))), int(rng.integers(1, 40))
        piece = bytes(changed[start : start + length])
        kinds: tuple[Callable[[], bytes], ...] = (
            lambda piece=piece: bytes(rng.integers(0, 256, len(piece), dtype=np.uint8)),
            lambda piece=piece: bytes(b ^ (1 << int(rng.integers(0, 8))) for b in piece[:1]) + piece[1:],
            lambda: b"",
            lambda piece=piece: piece * int(rng.integers(2, 30)),
            lambda piece=piece: piece[::-1],
            lambda piece=piece: b"\xff" * len(piece),
        )
        changed[start : start + length] = kinds[int(rng.integers(0, len(kinds)))]()
        changed = changed or bytearray(b"\x00")
    return bytes(changed)


def _damaged_inside(rng: np.random.Generator, content: bytes) -> bytes:
    """One array of a zip damaged and packed anew, so that checksums are right; at times the zip itself."""
    if rng.random() < 0.2:
        return _damaged(rng, content)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        chosen = str(rng.choice(old.namelist()))
        for name in old.namelist():
            new.writestr(name, _damaged(rng, old.read(name)) if name == chosen else old.read(name))
    return packed.getvalue()


def _refused(root: Path, files: dict[str, bytes], name: str, damaged: bytes) -> bool:
    """Whether the version with the damaged file is refused; its digest is made to fit."""
    folder = root / "churn" / "1"
    (folder / name).write_bytes(damaged)
    if name != "manifest.json":
        manifest = json.loads(files["manifest.json"])
        manifest["files"][name] = sha256_of(damaged)
        (folder / "manifest.json").write_text(json.dumps(manifest))
    try:
        published = open_version(root, "churn", 1)
        load_model(published)
        read_holdout(published)
    except REFUSALS as error:
        if "\n" in str(error):
            raise AssertionError(f"more than one line: {error}") from error
        return True
    finally:
        for each in (name, "manifest.json"):
            (folder / each).write_bytes(files[each])
    return False
