from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

import model_registry
from model_registry import open_version, publish
from model_registry.errors import ManifestInvalid
from model_registry.manifest import Manifest

PUBLISHED = sorted(Path(model_registry.__file__).parent.glob("*/*/manifest.json"))
DIGEST = "sha256:" + "0" * 64

LINEAGE = {
    "config": DIGEST,
    "code": "arbiter 0.1.0, 549c312",
    "seeds": {"split": 1, "boosting": 7},
    "environment": {"python": "3.11.9", "lightgbm": "4.7.0"},
    "data": {
        "source": "crm.parquet",
        "rows": 900,
        "fingerprint": DIGEST,
        "from": "2025-01-01",
        "until": "2026-01-01",
    },
    "champion": 3,
    "run": "2026-11-22T03-00",
}
FORMAT_2 = {
    "isotonic": {"margins": [-2.0, 0.0, 1.5], "probabilities": [0.05, 0.05, 0.9]},
    "lineage": LINEAGE,
    "segments": {"contract=month-to-month": {"rows": 120, "rate": 0.4, "auc": None, "ece": 0.02}},
    "fairness": {"age_band": {"gap_auc": 0.01, "gap_tpr": 0.02, "gap_selection": 0.03}},
    "baseline": {"name": "training mean", "version": 1},
}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda p: "/".join(p.parts[-3:-1]))
def test_published_manifests_are_written_back_byte_for_byte(path):
    """The demo's versions are format 1 and stay exactly what they are."""
    content = path.read_bytes()

    written = Manifest.model_validate_json(content).model_dump_json(indent=2).encode() + b"\n"

    assert written == content


def test_a_manifest_without_new_fields_is_published_as_format_1(root, at, offered, files):
    """Older servers go on reading what does not need more."""
    publish(root, offered, files)

    told = json.loads(at.read("churn/1/manifest.json"))

    assert told["format"] == 1
    assert not told.keys() & FORMAT_2.keys()


@pytest.mark.parametrize("field", sorted(FORMAT_2))
def test_each_new_field_makes_format_2_and_reads_back(root, at, offered, files, field):
    """What a manifest says in format 2 is what was offered, and it is marked so."""
    plain = {**offered, "calibration": {}} if field == "isotonic" else offered
    publish(root, {**plain, field: FORMAT_2[field]}, files)

    told = json.loads(at.read("churn/1/manifest.json"))

    assert told["format"] == 2
    assert told[field] == FORMAT_2[field]
    assert open_version(root, "churn", 1).manifest.needs_format_2


@pytest.mark.parametrize("kind", ["uplift", "value"])
def test_new_kinds_are_format_2(root, offered, files, kind):
    """A kind older servers cannot score is refused by them as a format, not scored as something else."""
    publish(root, {**offered, "kind": kind}, files)

    manifest = open_version(root, "churn", 1).manifest

    assert (manifest.format, manifest.kind) == (2, kind)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"format": 1, "baseline": FORMAT_2["baseline"]}, "needs `format` 2"),
        ({"format": 3}, "format: "),
        ({"isotonic": FORMAT_2["isotonic"]}, "both given"),
        ({"isotonic": {"margins": [0.0, 0.0], "probabilities": [0.1, 0.2]}}, "`margins` do not ascend"),
        ({"isotonic": {"margins": [0.0, 1.0], "probabilities": [0.3, 0.2]}}, "`probabilities` fall"),
        ({"isotonic": {"margins": [0.0, 1.0], "probabilities": [0.3]}}, "not equally many"),
        ({"isotonic": {"margins": [0.0, 1.0], "probabilities": [0.3, 1.2]}}, r"isotonic\.probabilities\.1"),
        ({"isotonic": {"margins": [0.0], "probabilities": [0.3]}}, r"isotonic\.margins"),
        ({"lineage": {**LINEAGE, "config": "abc"}}, r"lineage\.config"),
        ({"lineage": {**LINEAGE, "surprise": 1}}, r"lineage\.surprise"),
        ({"segments": {"a": {"auc": float("nan")}}}, r"segments\.a\.auc"),
        ({"kind": "oracle"}, "kind: "),
    ],
)
def test_what_format_2_cannot_mean_is_refused(root, at, offered, files, change, cause):
    """Every flaw is named with its place, and nothing is written."""
    with pytest.raises(ManifestInvalid, match=cause):
        publish(root, {**offered, **change}, files)

    assert at.names() == []


def test_a_model_without_any_calibration_is_refused(root, offered, files):
    """Scores that are no probabilities are not published as such."""
    uncalibrated = {name: value for name, value in offered.items() if name != "calibration"}

    with pytest.raises(ManifestInvalid, match="neither `calibration` nor `isotonic`"):
        publish(root, uncalibrated, files)


def test_a_manifest_cannot_be_changed_in_place(offered):
    """Fields of what was read are not set."""
    manifest = Manifest.model_validate({**offered, "version": 1, "files": {}})

    with pytest.raises(ValidationError, match="frozen"):
        manifest.version = 2
