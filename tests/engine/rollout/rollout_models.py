"""Challengers made of a published model: the same trees with another calibration, and what proves them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from model_registry import publish


def publish_shifted(registry: Path, name: str, *, by: float) -> int:
    """Publishes version 1 again with every score moved by so much in log-odds; the new version."""
    folder = registry / name / "1"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {filename: (folder / filename).read_bytes() for filename in manifest.pop("files")}
    del manifest["version"]
    manifest["calibration"]["intercept"] += by
    line = manifest["calibration"]
    files["model.onnx"] = _with_intercept(files["model.onnx"], line["intercept"])
    files["golden.npz"] = _recalibrated(files["golden.npz"], line["slope"], line["intercept"])
    return int(publish(registry, manifest, files).name)


def publish_broken(registry: Path, name: str) -> int:
    """Publishes a version whose files are whole and whose golden rows do not reproduce; the new version."""
    folder = registry / name / "1"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {filename: (folder / filename).read_bytes() for filename in manifest.pop("files")}
    del manifest["version"]
    files["model.onnx"] = _with_intercept(files["model.onnx"], 1.5)  # the golden rows say otherwise
    return int(publish(registry, manifest, files).name)


def publish_with_reason(registry: Path, name: str, code: str) -> int:
    """Publishes version 1 again with another reason for what raises its first concept; the new version."""
    folder = registry / name / "1"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {filename: (folder / filename).read_bytes() for filename in manifest.pop("files")}
    del manifest["version"]
    manifest["concepts"][0]["reason_raises"] = code
    return int(publish(registry, manifest, files).name)


def _with_intercept(content: bytes, intercept: float) -> bytes:
    model = onnx.load_from_string(content)
    (found,) = [i for i in model.graph.initializer if i.name == "intercept"]
    found.CopyFrom(numpy_helper.from_array(np.array(intercept, dtype=np.float32), name="intercept"))
    return model.SerializeToString()


def _recalibrated(content: bytes, slope: float, intercept: float) -> bytes:
    with np.load(io.BytesIO(content)) as golden:
        arrays = {name: golden[name] for name in golden.files}
    arrays["probability"] = 1.0 / (1.0 + np.exp(-(slope * arrays["margin"] + intercept)))
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()
