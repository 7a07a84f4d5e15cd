"""A good change is served at once; a bad one changes nothing and says what is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from arbiter_at_work import (
    AT_RISK,
    copied_registry,
    copied_rules,
    in_threads,
    query,
    set_threshold,
    settings_for,
)
from ruamel.yaml import YAML
from structlog.testing import capture_logs

from engine._pb.arbiter.v1.decision_service_pb2 import ExplainRequest
from engine.api.servicers import DecisionServicer
from engine.bootstrap import Application, open_application, wall_clock_ms
from engine.core.snapshot import Snapshot
from engine.domain import Versions
from engine.errors import SetupInvalid
from engine.service.decisions import Answer, Decisions
from engine.service.explanations import Explanations
from engine.service.live import LiveSnapshot
from engine.settings import Settings
from engine.snapshots import load_snapshot
from model_registry import promote, publish


@dataclass(frozen=True)
class _Files:
    """What authors and data scientists edit, to be spoilt."""

    rules: Path
    registry: Path

    def rewrite(self, name: str, old: str, new: str) -> None:
        """Changes the text of a rule file."""
        path = self.rules / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def model(self, name: str, file: str) -> Path:
        """A file of a published model."""
        return self.registry / name / "1" / file


def _flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def _garbage_for_onnx(files: _Files) -> None:
    """A version that was published and promoted whole, but whose model is none."""
    manifest = json.loads(files.model("churn", "manifest.json").read_text(encoding="utf-8"))
    contents = {name: files.model("churn", name).read_bytes() for name in manifest.pop("files")}
    manifest["version"] = 2
    publish(files.registry, manifest, contents | {"model.onnx": b"not a model" * 100})
    promote(files.registry, "churn", 2, reason="a test")


def _wrong_digest(files: _Files) -> None:
    manifest = files.model("propensity", "manifest.json")
    digest = hashlib.sha256(files.model("propensity", "model.onnx").read_bytes()).hexdigest()
    text = manifest.read_text(encoding="utf-8")
    assert digest in text
    manifest.write_text(text.replace(digest, "0" * 64), encoding="utf-8")


def _alias_to_nowhere(files: _Files) -> None:
    path = files.registry / "churn" / "aliases.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(document).replace(": 1", ": 99"), encoding="utf-8")


Spoil = Callable[[_Files], object]

SPOILT: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "broken YAML": (
        lambda f: f.rewrite("business/retention.yaml", "rules:", "rules: [}"),
        ("business/retention.yaml:",),
    ),
    "type error in a condition": (
        lambda f: f.rewrite("business/retention.yaml", "scores.churn >= 0.3", 'scores.churn >= "high"'),
        ("business/retention.yaml:15:", "double and string"),
    ),
    "undefined field in a condition": (
        lambda f: f.rewrite("business/retention.yaml", "features.tenure_months < 3", "features.tenur < 3"),
        ("business/retention.yaml:", "tenur"),
    ),
    "rule file gone": (lambda f: (f.rules / "vocabulary.yaml").unlink(), ("ocabulary",)),
    "bytes that are no text": (
        lambda f: (f.rules / "reasons.yaml").write_bytes(b"\xff\xfe\x00"),
        ("reasons.yaml",),
    ),
    "model file gone": (lambda f: f.model("churn", "model.onnx").unlink(), ("churn", "model.onnx")),
    "trees gone": (lambda f: f.model("churn", "trees.npz").unlink(), ("churn", "trees.npz")),
    "damaged ONNX": (lambda f: _flip_byte(f.model("churn", "model.onnx")), ("churn", "model.onnx")),
    "garbage for ONNX": (_garbage_for_onnx, ("churn",)),
    "wrong digest": (_wrong_digest, ("propensity", "manifest.json")),
    "manifest that is no JSON": (
        lambda f: f.model("churn", "manifest.json").write_text("{", encoding="utf-8"),
        ("churn", "manifest.json"),
    ),
    "alias edited by hand": (_alias_to_nowhere, ("churn", "aliases.json")),
}


@pytest.fixture
def files(tmp_path: Path) -> _Files:
    """Copies of rules and models."""
    return _Files(copied_rules(tmp_path), copied_registry(tmp_path))


@pytest.fixture
def settings(tmp_path: Path, files: _Files) -> Settings:
    """Settings over the copies."""
    return settings_for(tmp_path / "archive", rules=files.rules, registry=files.registry)


@pytest.fixture
def live(application: Application, settings: Settings) -> LiveSnapshot:
    """A snapshot that serves already, and is loaded anew from the copies."""
    serving = [application.live.current]
    return LiveSnapshot(lambda: serving.pop() if serving else load_snapshot(settings))


@pytest.fixture
def decide(application: Application, live: LiveSnapshot) -> Callable[[], Answer]:
    """Decides for the customer at risk with that snapshot."""
    decisions = Decisions(
        live=live,
        store=application.store,
        log=application.log,
        clock=wall_clock_ms,
        request_id_ttl_ms=60_000,
    )
    return lambda: decisions.decide(query(AT_RISK))


def test_good_change_is_served_under_a_new_version(
    live: LiveSnapshot, decide: Callable[[], Answer], files: _Files
) -> None:
    """The next decision follows the new rules and names them."""
    before = decide().record.decision

    set_threshold(files.rules, 1e6)
    reloaded = live.reload()

    after = decide().record.decision
    assert reloaded
    assert before.actions
    assert after.actions == ()
    assert after.versions.rules != before.versions.rules


def test_reload_of_the_same_files_keeps_the_version(live: LiveSnapshot) -> None:
    """Versions are addresses of content, not of time."""
    before = live.current.versions

    assert live.reload()

    assert live.current.versions == before


@pytest.mark.parametrize("case", SPOILT)
def test_bad_change_leaves_the_last_good_snapshot_serving(
    live: LiveSnapshot, decide: Callable[[], Answer], files: _Files, case: str
) -> None:
    """The failure is counted and logged with file and cause; decisions go on as before."""
    spoil, named = SPOILT[case]
    before = live.current
    spoil(files)

    with capture_logs() as logged:
        reloaded = live.reload()

    failures = [entry for entry in logged if entry["event"] == "snapshot.reload.failed"]
    assert not reloaded
    assert live.current is before
    assert live.failed_reloads == 1
    assert len(failures) == 1
    assert all(part in failures[0]["cause"] for part in named), failures[0]["cause"]
    assert decide().record.decision.actions


@pytest.mark.parametrize("case", SPOILT)
def test_bad_files_are_told_at_the_start(settings: Settings, files: _Files, case: str) -> None:
    """SetupInvalid names the file and what is wrong."""
    spoil, named = SPOILT[case]
    spoil(files)

    with pytest.raises(SetupInvalid) as caught:
        load_snapshot(settings)

    assert all(part in str(caught.value) for part in named), str(caught.value)


def test_corrected_files_are_served_again(live: LiveSnapshot, files: _Files) -> None:
    """After a failed reload the next good one is taken."""
    files.rewrite("business/retention.yaml", "rules:", "rules: [}")
    live.reload()
    files.rewrite("business/retention.yaml", "rules: [}", "rules:")
    set_threshold(files.rules, 2.0)

    assert live.reload()


def test_bug_in_loading_does_not_take_the_server_down(application: Application) -> None:
    """Whatever goes wrong while loading, the last good snapshot serves on."""
    attempts = iter([application.live.current])
    live = LiveSnapshot(lambda: next(attempts))  # the second load ends in StopIteration

    with capture_logs() as logged:
        reloaded = live.reload()

    assert not reloaded
    assert live.failed_reloads == 1
    assert live.current is application.live.current
    assert [entry["log_level"] for entry in logged] == ["error"]


def test_decisions_during_reloads_see_one_snapshot_each(
    live: LiveSnapshot, decide: Callable[[], Answer], files: _Files
) -> None:
    """A decision is made with one rule set from start to end, whichever it was."""
    versions: set[str] = set()
    before = live.current.versions.rules
    set_threshold(files.rules, 1.5)

    def work(number: int) -> None:
        if number == 0:
            assert live.reload()
            return
        for _ in range(60):
            answer = decide()
            assert answer.record.decision.versions == answer.snapshot.versions
            versions.add(answer.record.decision.versions.rules)

    in_threads(4, work)

    after = live.current.versions.rules
    assert after != before
    assert versions <= {before, after}


@pytest.mark.parametrize("problem", ["rules folder", "schema file", "data folder is a file"])
def test_missing_places_are_told_at_the_start(settings: Settings, tmp_path: Path, problem: str) -> None:
    """Folders that are not there and a data directory that cannot be made are setup errors."""
    blocked = tmp_path / "a-file"
    blocked.write_text("", encoding="utf-8")
    change = {
        "rules folder": {"rules": tmp_path / "nowhere"},
        "schema file": {"feature_schema": tmp_path / "nowhere.toml"},
        "data folder is a file": {"data_dir": blocked},
    }[problem]

    with (
        pytest.raises(SetupInvalid, match=r"nowhere|a-file"),
        open_application(settings.model_copy(update=change)),
    ):
        pass


def _without_french(node: object) -> None:
    """Removes the French texts of a document."""
    if isinstance(node, dict):
        if "en" in node:
            node.pop("fr", None)
        for child in node.values():
            _without_french(child)
    elif isinstance(node, list):
        if "en" in node and "fr" in node:
            node.remove("fr")
        for child in node:
            _without_french(child)


def test_decision_in_a_language_since_dropped_is_explained_in_another(
    application: Application, live: LiveSnapshot, decide: Callable[[], Answer], files: _Files
) -> None:
    """Where the old texts are gone too, the decision is told in words that there are."""
    french = application.decisions.decide(query(AT_RISK, language="fr")).record
    yaml = YAML()
    for path in files.rules.rglob("*.yaml"):
        document = yaml.load(path.read_text(encoding="utf-8"))
        _without_french(document)
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(document, file)
    assert live.reload()

    explanations = Explanations(live=live, log=application.log, snapshot_of=_archive_is_lost)
    explained = DecisionServicer(application.decisions, explanations).Explain(
        ExplainRequest(decision_id=french.decision_id), None
    )

    assert french.request.language == "fr"
    assert explained.decision.actions[0].treatment.headline
    assert decide().record.decision.actions


def _archive_is_lost(versions: Versions) -> Snapshot:
    raise SetupInvalid(f"{versions.rules} is not held")
