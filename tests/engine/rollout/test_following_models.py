"""A running server scores with what is promoted: at once, dropping no request, and never with a bad one."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Self

import fsspec
import pytest
from arbiter_at_work import AT_RISK, RunningServer, copied_rules, scene, set_threshold
from rollout_company import MODEL, Noted, decide, follower_of, under_load, versions_of
from rollout_models import publish_broken, publish_shifted, publish_with_reason
from structlog.testing import capture_logs

from engine import publishing
from engine.bootstrap import (
    Application,
    model_servers,
    open_application,
    wall_clock_ms,
    watch_models,
    watch_rules,
)
from engine.client import CallFailed
from engine.lineup import Lineups
from engine.models.shelf import ModelShelf
from engine.rulefiles import model_reasons
from engine.service.following_models import ModelsFollower
from engine.settings import Settings
from engine.snapshots import rule_versions
from model_registry import promote, roll_back
from model_registry.errors import StoreFailed
from model_registry.rollout import RolloutState, Step, read_rollouts, start

WITHIN_S = 1.0


def switched(application: Application, registry: Path) -> tuple[list[float], list[str], bool]:
    """Six promotions and rollbacks under load: seconds each took, what went wrong, all replays the same."""
    took = []
    publish_shifted(registry, MODEL, by=0.4)
    with watch_models(application), under_load(application, ["C0131", "C0133", "C0003"]) as load:
        for turn in range(6):
            began = wall_clock_ms()
            if turn % 2:
                _, target = roll_back(registry, MODEL, reason="a test")
            else:
                promote(registry, MODEL, target := 2, reason="a test")
            took.append(load.seen_s(target, since_ms=began))
    records = [record for _, record in load.records]
    step = max(1, len(records) // 60)
    same = all(application.explanations.replay(record.decision_id).same for record in records[::step])
    return took, load.wrong, same


def test_promotions_and_rollbacks_under_load_drop_nothing(at_work: Application, registry: Path) -> None:
    """Every reply names one version and can be made again; the middle switch of six is within a second.

    Every one of them is, on a machine with nothing else to do: see the test below.
    """
    took, wrong, same = switched(at_work, registry)

    assert wrong == []
    assert same
    assert median(took) < WITHIN_S, took


@pytest.mark.slow
def test_every_promotion_under_load_is_served_within_a_second(at_work: Application, registry: Path) -> None:
    """Run alone, as other tests on the same cores would be what is measured."""
    took, _, _ = switched(at_work, registry)

    assert max(took) < WITHIN_S, took


def _golden_rows_lie(registry: Path) -> str:
    promote(registry, MODEL, publish_broken(registry, MODEL), reason="a test")
    return "does not reproduce"


def _files_gone(registry: Path) -> str:
    promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.1), reason="a test")
    (registry / MODEL / "2" / "model.onnx").unlink()
    return "model.onnx"


def _manifest_changed(registry: Path) -> str:
    promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.1), reason="a test")
    path = registry / MODEL / "2" / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace("cross", "Cross") + "\n", encoding="utf-8")
    return "manifest.json"


def _aliases_damaged(registry: Path) -> str:
    (registry / MODEL / "aliases.json").write_text("{", encoding="utf-8")
    return "aliases.json"


def _rollouts_damaged(registry: Path) -> str:
    (registry / MODEL / "rollout.json").write_text("{", encoding="utf-8")
    return "rollout.json"


BROKEN = (_golden_rows_lie, _files_gone, _manifest_changed, _aliases_damaged, _rollouts_damaged)


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__.strip("_"))
def test_what_cannot_serve_is_refused_and_the_old_version_goes_on(at_work, registry, spoil) -> None:
    """Status, log and metric say so, once; decisions go on, and what is mended serves."""
    watch = Noted()
    follower = follower_of(at_work, watch)
    follower.look()
    aliases = (registry / MODEL / "aliases.json").read_bytes()
    part_of_cause = spoil(registry)

    with capture_logs() as logged:
        looked = [follower.look(), follower.look()]

    (server,) = model_servers(at_work.settings).running()
    told = [entry for entry in logged if entry["event"] == "models.refused"]
    assert looked == [True, False]
    assert versions_of([decide(at_work, "C0131")]) == {1: 1}
    assert any(part_of_cause in cause for cause in server.refused.values()), server.refused
    assert [part_of_cause in entry["cause"] for entry in told] == [True]
    assert watch.refused == [MODEL]
    assert watch.models == {"churn": 1, MODEL: 1}
    (registry / MODEL / "rollout.json").unlink(missing_ok=True)
    (registry / MODEL / "aliases.json").write_bytes(aliases)
    promote(registry, MODEL, good := publish_shifted(registry, MODEL, by=0.2), reason="mended")
    follower.look()
    assert versions_of([decide(at_work, "C0131")]) == {good: 1}
    assert model_servers(at_work.settings).running()[0].refused.keys() <= {f"{MODEL}/2"}


def test_one_bad_model_does_not_keep_the_other_from_switching(at_work: Application, registry: Path) -> None:
    """Each model stands for itself."""
    promote(registry, MODEL, publish_broken(registry, MODEL), reason="a test")
    promote(registry, "churn", publish_shifted(registry, "churn", by=0.1), reason="a test")

    follower_of(at_work).look()

    assert dict(at_work.live.current.versions.models) == {"churn": 2, MODEL: 1}


@pytest.mark.parametrize(("code", "serves"), [("NOT_VALID_NOW_EITHER", 1), ("LOYAL", 2)])
def test_a_version_whose_reasons_have_no_words_is_refused(
    at_work: Application, registry: Path, code: str, serves: int
) -> None:
    """As champion, as challenger and in the shadow; one with other reasons that have words serves."""
    known = {c.code for c in at_work.live.current.rulebook.reasons.values()}
    reason = code if serves == 1 else sorted(known - _reasons_of(registry))[0]
    version = publish_with_reason(registry, MODEL, reason)
    follower = follower_of(at_work)
    start(registry, MODEL, version, steps=[Step(percent=100)], reason="a test", actor="ada")
    follower.look()
    as_challenger = versions_of([decide(at_work, "C0131")])

    promote(registry, MODEL, version, reason="a test")
    follower.look()

    (server,) = model_servers(at_work.settings).running()
    assert as_challenger == {serves: 1}
    assert versions_of([decide(at_work, "C0131")]) == {serves: 1}
    assert (code in server.refused.get(f"{MODEL}/{version}", "")) == (serves == 1)


def _reasons_of(registry: Path) -> frozenset[str]:
    return model_reasons(registry, {"churn": 1, MODEL: 1})


def test_what_a_rollout_began_with_is_what_scores(at_work: Application, registry: Path) -> None:
    """A manifest that somebody edited since is not taken for it."""
    version = publish_shifted(registry, MODEL, by=0.1)
    start(registry, MODEL, version, steps=[Step(percent=100)], reason="a test", actor="ada")
    path = registry / MODEL / str(version) / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")

    follower_of(at_work).look()

    (server,) = model_servers(at_work.settings).running()
    assert "is not what the rollout began with" in server.refused[f"{MODEL}/{version}"]
    assert versions_of([decide(at_work, "C0131")]) == {1: 1}


def test_what_may_be_promoted_next_is_ready_before_it_is(at_work: Application, registry: Path) -> None:
    """A published version is loaded and proven at once; one that cannot serve is told before anybody asks."""
    good, bad = publish_shifted(registry, MODEL, by=0.1), publish_broken(registry, "churn")

    follower_of(at_work).look()

    (server,) = model_servers(at_work.settings).running()
    assert f"{MODEL}/{good}" in server.prepared
    assert "does not reproduce" in server.refused[f"churn/{bad}"]


def test_a_version_that_was_restored_is_no_longer_refused(at_work: Application, registry: Path) -> None:
    """What was wrong with it while nobody needed it must not end its rollout later."""
    version = publish_shifted(registry, MODEL, by=0.1)
    path = registry / MODEL / str(version) / "model.onnx"
    content = path.read_bytes()
    path.unlink()
    follower = follower_of(at_work)
    follower.look()
    (before,) = model_servers(at_work.settings).running()

    path.write_bytes(content)
    start(registry, MODEL, version, steps=[Step(percent=50)], reason="a test", actor="ada")
    follower.look()

    (after,) = model_servers(at_work.settings).running()
    assert f"{MODEL}/{version}" in before.refused
    assert after.refused == {}
    assert after.percents == {f"{MODEL}/{version}": 50.0}


@pytest.fixture
def folder_served(settings: Settings, tmp_path: Path) -> Iterator[tuple[Application, Path]]:
    """An application that serves a rules folder in which somebody works."""
    rules = copied_rules(tmp_path)
    with open_application(settings.model_copy(update={"rules": rules})) as application:
        yield application, rules


def test_a_promotion_does_not_take_up_rules_that_nobody_released(
    folder_served: tuple[Application, Path], registry: Path
) -> None:
    """A half-written rules folder stays where it is until somebody reloads it."""
    application, rules = folder_served
    before = application.live.current.versions.rules
    set_threshold(rules, 1e6)
    promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.1), reason="a test")

    follower_of(application).look()

    assert application.live.current.versions.rules == before
    assert application.live.current.versions.models[MODEL] == 2


def test_rules_switch_although_a_promoted_model_cannot_serve(
    folder_served: tuple[Application, Path], registry: Path
) -> None:
    """With the models that serve; and a reload of models alone fails as before."""
    application, rules = folder_served
    before = application.live.current.versions.rules
    promote(registry, MODEL, publish_broken(registry, MODEL), reason="a test")

    models_alone = application.live.reload()
    set_threshold(rules, 2.0)
    both = application.live.reload()

    after = application.live.current.versions
    assert (models_alone, both) == (False, True)
    assert after.rules != before
    assert after.models[MODEL] == 1


def test_rules_prepared_before_a_promotion_are_prepared_again(
    settings: Settings, registry: Path, tmp_path: Path
) -> None:
    """So that activating them afterwards takes no compiler's time, and mixes nothing."""
    rules = copied_rules(tmp_path)
    old = publishing.publish(settings, author="ada", message="old")[0]
    publishing.activate(settings, old.rules, author="ada", reason="")
    set_threshold(rules, 2.0)
    new, _ = publishing.publish(settings.model_copy(update={"rules": rules}), author="ada", message="new")
    with open_application(settings) as application:
        rules_follower, models_follower = watch_rules(application), follower_of(application)
        rules_follower.look()
        promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.1), reason="a test")
        models_follower.look()
        again = rules_follower.look()
        (server,) = rule_versions(settings).servers.running()
        publishing.activate(settings, new.rules, author="ada", reason="")
        rules_follower.look()

        assert again
        assert new.rules in server.prepared
        versions = application.live.current.versions
        assert (versions.rules, versions.models[MODEL]) == (new.rules, 2)
        rule_versions(settings).servers.forget(server.pid)


@pytest.fixture
def two_workers(settings: Settings, registry: Path) -> Iterator[RunningServer]:
    """`arbiter serve` with two processes."""
    server = RunningServer(
        settings.data_dir,
        ["--workers", "2"],
        {"ARBITER_REGISTRY": str(registry), "ARBITER_LOG_LEVEL": "info"},
    )
    try:
        server.wait_until_serving()
        yield server
    finally:
        server.kill()


def versions_replied(server: RunningServer, connections: int = 10) -> set[int]:
    """Versions named in replies; each connection may reach another process."""
    seen = set()
    for _ in range(connections):
        with server.connect() as arbiter:
            seen.add(arbiter.decide(scene(AT_RISK)).versions.models[MODEL])
    return seen


def until(server: RunningServer, expected: set[int]) -> set[int]:
    """What is replied once it is what is expected, or after a time that no load excuses."""
    for _ in range(40):
        found = versions_replied(server)
        if found == expected:
            break
    return found


@pytest.fixture
def stored(settings: Settings, registry: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The same models in an object store, with a second version of one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(settings.data_dir / "cache"))
    publish_shifted(registry, MODEL, by=0.3)
    store, place = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    for name in ("churn", MODEL):
        store.put(f"{registry}/{name}", f"{place}/{name}", recursive=True)
    yield settings.model_copy(update={"registry": f"memory:/{place}"})
    store.rm(place, recursive=True)


def test_models_of_an_object_store_are_followed_alike(stored: Settings) -> None:
    """Promotions, and shares of a rollout."""
    registry = str(stored.registry)
    with open_application(stored) as application:
        follower = follower_of(application)
        looked = [follower.look(), follower.look()]
        promote(registry, MODEL, 2, reason="a test")
        follower.look()
        promoted = dict(application.live.current.versions.models)
        start(registry, MODEL, 1, steps=[Step(percent=100)], reason="a test", actor="ada")
        follower.look()
        record = decide(application, "C0131")

    assert looked == [True, False]
    assert promoted == {"churn": 1, MODEL: 2}
    assert dict(record.decision.versions.models) == {"churn": 1, MODEL: 1}


class Unreachable(Lineups):
    """A registry whose store does not answer."""

    def identity(self) -> tuple[object, ...]:
        raise StoreFailed(Path("/models"), cause="it does not answer")


def test_a_registry_that_cannot_be_reached_changes_nothing(at_work: Application, registry: Path) -> None:
    """It is told once, not at every look; what was loaded goes on scoring."""
    follower = ModelsFollower(
        lineups=Unreachable(registry, compiled=lambda *_: at_work.live.current, shelf=ModelShelf()),
        live=at_work.live,
        shadow=at_work.model_shadow,
        arms=at_work.arms,
        servers=model_servers(at_work.settings),
        watch=Noted(),
    )

    with capture_logs() as logged:
        looked = [follower.look() for _ in range(3)]

    assert looked == [False, False, False]
    assert [entry["event"] for entry in logged] == ["models.registry_unreachable"]
    assert versions_of([decide(at_work, "C0131")]) == {1: 1}


class Callers:
    """Clients of a server, each with a channel of its own, that ask without pause."""

    def __init__(self, server: RunningServer, count: int = 2) -> None:
        self._server = server
        self.replies: list[tuple[str, int]] = []
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with self._server.connect() as arbiter:
            while not self._stop.is_set():
                try:
                    reply = arbiter.decide(scene(AT_RISK))
                except CallFailed as failure:
                    self.wrong.append(repr(failure))
                else:
                    self.replies.append((reply.decision_id, reply.versions.models[MODEL]))


def test_every_worker_follows_promotion_refusal_and_rollback_under_load(
    two_workers: RunningServer, settings: Settings, registry: Path
) -> None:
    """Two processes on one port: none is left behind, none takes a broken version, and no call fails.

    Each reply names one version, which its record names too, and can be made again to the byte.
    """
    server = two_workers
    with Callers(server) as callers:
        before = versions_replied(server)
        promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.3), reason="a test")
        promoted = until(server, {2})
        promote(registry, MODEL, publish_broken(registry, MODEL), reason="a test")
        server.wait_for_log("models.refused", times=2)
        after_broken = versions_replied(server)
        states = model_servers(settings).running()
        promote(registry, MODEL, 1, reason="back")
        back = until(server, {1})
    server.kill()

    assert (before, promoted, after_broken, back) == ({1}, {2}, {2}, {1})
    assert callers.wrong == []
    assert len(states) == 2
    assert [dict(state.models)[MODEL] for state in states] == [2, 2]
    assert all("does not reproduce" in state.refused[f"{MODEL}/3"] for state in states)
    with open_application(settings) as application:
        some = callers.replies[:: max(1, len(callers.replies) // 40)]
        made_again = [application.explanations.replay(decision_id) for decision_id, _ in some]
    assert all(each.same for each in made_again)
    assert [each.record.decision.versions.models[MODEL] for each in made_again] == [v for _, v in some]
    assert {version for _, version in some} == {1, 2}


def test_when_the_leading_worker_is_killed_another_one_leads(
    two_workers: RunningServer, settings: Settings, registry: Path
) -> None:
    """A rollout is never alone: the other process ends it for the reason that comes up next."""
    server = two_workers
    steps = [Step(percent=50, decisions=10**6), Step(percent=100)]
    start(registry, MODEL, publish_shifted(registry, MODEL, by=0.1), steps=steps, reason="a", actor="ada")
    server.wait_for_log("rollout.leading")
    leading = leader_pid(settings)

    os.kill(leading, signal.SIGKILL)
    server.wait_for_log("rollout.leading", times=2)
    heir = leader_pid(settings)
    promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.2), reason="meanwhile")
    server.wait_for_log("rollout.changed")

    present = read_rollouts(registry, MODEL).present
    assert heir != leading
    assert present is not None
    assert present.state is RolloutState.ROLLED_BACK
    assert until(server, {3}) == {3}


def leader_pid(settings: Settings) -> int:
    """The process that keeps the lock of leaders open."""
    lock = str((settings.data_dir / "rollouts" / "leader.lock").resolve())
    found = [
        state.pid
        for state in model_servers(settings).running()
        if lock in {os.path.realpath(fd) for fd in Path(f"/proc/{state.pid}/fd").iterdir()}
    ]
    assert len(found) == 1
    return found[0]
