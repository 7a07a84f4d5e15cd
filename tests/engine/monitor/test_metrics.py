"""Metrics: what is counted, what is shown of it, and what processes leave behind."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2
from engine.errors import ConsentNotRecorded, DecisionNotLogged, SetupInvalid
from engine.monitor import exposition
from engine.monitor.exposition import exposed, shared_values
from engine.monitor.metrics import ALERTED, BUCKETS_S, Metrics
from engine.service.live import LiveSnapshot
from engine.settings import Settings, load_settings

DECIDE = "arbiter.v1.DecisionService/Decide"


def read(port: int) -> dict[str, float]:
    """What the endpoint says: name and labels to value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return {
        ",".join((sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items())))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of this process."""
    return Metrics()


@pytest.fixture
def port(metrics: Metrics) -> Iterator[int]:
    """Port of an endpoint over them."""
    with exposed(metrics.registry, host="127.0.0.1", port=0) as port:
        yield port


def test_calls_are_counted_by_method_and_code_and_timed_by_method(metrics: Metrics, port: int) -> None:
    """Each call adds one to its counter and one to the histogram of its method."""
    metrics.called(DECIDE, "OK", 0.0004)
    metrics.called(DECIDE, "OK", 0.0006)
    metrics.called(DECIDE, "NOT_FOUND", 9.0)

    told = read(port)

    assert told[f"arbiter_rpc_calls_total,code=OK,method={DECIDE}"] == 2
    assert told[f"arbiter_rpc_calls_total,code=NOT_FOUND,method={DECIDE}"] == 1
    assert told[f"arbiter_rpc_seconds_bucket,le=0.0005,method={DECIDE}"] == 1
    assert told[f"arbiter_rpc_seconds_bucket,le={BUCKETS_S[-1]},method={DECIDE}"] == 2
    assert told[f"arbiter_rpc_seconds_count,method={DECIDE}"] == 3
    assert told[f"arbiter_rpc_seconds_sum,method={DECIDE}"] == pytest.approx(9.001)


def test_decisions_are_counted_by_channel_and_outcome(metrics: Metrics, port: int) -> None:
    """With an action, or with none."""
    for outcome in ("action", "action", "no_action"):
        metrics.decided("web", outcome)

    told = read(port)

    assert told["arbiter_decisions_total,channel=web,outcome=action"] == 2
    assert told["arbiter_decisions_total,channel=web,outcome=no_action"] == 1


def test_failures_are_there_before_the_first_one(port: int) -> None:
    """An alert on an increase needs a value to increase from."""
    told = read(port)

    assert told["arbiter_rules_reload_failures_total"] == 0
    assert told["arbiter_rules_reloads_total"] == 0
    assert told["arbiter_rules_last_reload_successful"] == 1


def test_what_alerts_at_its_first_time_is_there_before(metrics: Metrics, port: int) -> None:
    """Errors that page somebody, and a model's refusals from when it scores on; by names that exist."""
    metrics.scoring({"churn": 1})

    told = read(port)

    methods = {
        f"{service.full_name}/{method.name}"
        for file in (decision_service_pb2, consent_service_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {method for method, _ in ALERTED} <= methods
    assert {reason for _, reason in ALERTED} == {DecisionNotLogged.reason, ConsentNotRecorded.reason}
    assert all(told[f"arbiter_rpc_errors_total,method={m},reason={reason}"] == 0 for m, reason in ALERTED)
    assert told["arbiter_models_refused_total,model=churn"] == 0
    assert told["arbiter_rollout_changes_total,change=roll_back,model=churn"] == 0


def test_only_the_version_that_serves_is_named(metrics: Metrics, port: int) -> None:
    """The one before is not there any more, also where it comes back later."""
    versions = []
    for rules in ("sha256:a", "sha256:b", "sha256:a"):
        metrics.serving(rules)
        versions.append([name for name in read(port) if name.startswith("arbiter_rules_info")])

    assert versions == [[f"arbiter_rules_info,version=sha256:{name}"] for name in "aba"]


def test_a_reload_that_goes_well_ends_what_a_refused_one_began(metrics: Metrics, port: int) -> None:
    """The gauge says how it stands, the counters what has been."""
    metrics.reloaded(well=False)
    refused = read(port)["arbiter_rules_last_reload_successful"]
    metrics.reloaded(well=True)
    told = read(port)

    assert (refused, told["arbiter_rules_last_reload_successful"]) == (0, 1)
    assert (told["arbiter_rules_reload_failures_total"], told["arbiter_rules_reloads_total"]) == (1, 1)


def test_versions_of_models_that_no_longer_score_are_not_shown(metrics: Metrics, port: int) -> None:
    """Of each model there is one, but for the moment of a switch."""
    metrics.scoring({"churn": 1, "propensity": 4})
    metrics.scoring({"churn": 2, "propensity": 4})

    told = read(port)

    shown = {name: value for name, value in told.items() if name.startswith("arbiter_models_info")}
    assert shown == {
        "arbiter_models_info,model=churn,version=2": 1,
        "arbiter_models_info,model=propensity,version=4": 1,
    }


def test_what_models_and_rollouts_do_is_counted(metrics: Metrics, port: int) -> None:
    """Switches, refusals, decisions in the shadow, and what rollouts did by themselves."""
    metrics.models_switched()
    metrics.model_refused("churn")
    for result in ("scored", "scored", "dropped"):
        metrics.shadow_scored("churn", result)
    metrics.rollout_changed("churn", "roll_back")

    told = read(port)

    assert told["arbiter_models_switches_total"] == 1
    assert told["arbiter_models_refused_total,model=churn"] == 1
    assert told["arbiter_models_shadow_decisions_total,model=churn,result=scored"] == 2
    assert told["arbiter_models_shadow_decisions_total,model=churn,result=dropped"] == 1
    assert told["arbiter_rollout_changes_total,change=roll_back,model=churn"] == 1


def test_calls_that_are_shed_are_counted_by_priority_and_reason(metrics: Metrics, port: int) -> None:
    """So that one sees who was turned away, and by which limit."""
    for priority in ("batch", "batch", "web"):
        metrics.shed(priority, "queue_full")

    told = read(port)

    assert told["arbiter_shed_calls_total,priority=batch,reason=queue_full"] == 2
    assert told["arbiter_shed_calls_total,priority=web,reason=queue_full"] == 1


def test_degraded_decisions_are_counted_by_the_kind_of_what_lacked(metrics: Metrics, port: int) -> None:
    """Names of models and features stay out: a decision names them, and they are many."""
    for by in ("model:churn", "model:propensity", "features:tenure:stale", "consents"):
        metrics.degraded(by)

    told = read(port)

    counted = {name: value for name, value in told.items() if name.startswith("arbiter_degraded")}
    assert counted == {
        "arbiter_degraded_decisions_total,by=consents": 1,
        "arbiter_degraded_decisions_total,by=features": 1,
        "arbiter_degraded_decisions_total,by=model": 2,
    }


@pytest.mark.parametrize(
    "hostile", ["C0131", "+41 79 000 00 00", "anna@example.com", "x" * 41, "", 'a"} 1', "a\nb", "é"]
)
def test_no_text_that_somebody_sent_becomes_a_label(metrics: Metrics, port: int, hostile: str) -> None:
    """Whatever reaches the port by mistake is counted as another."""
    metrics.shed(hostile, hostile)
    metrics.degraded(hostile)

    told = read(port)

    assert told["arbiter_shed_calls_total,priority=other,reason=other"] == 1
    assert told["arbiter_degraded_decisions_total,by=other"] == 1


def test_labels_stay_few_however_many_words_come(metrics: Metrics, port: int) -> None:
    """A series lives as long as its process."""
    for number in range(1000):
        metrics.shed(f"priority{number}", f"reason{number}")
        metrics.degraded(f"kind{number}:of it")

    told = read(port)

    assert len([name for name in told if name.startswith("arbiter_shed_calls")]) == 17
    assert len([name for name in told if name.startswith("arbiter_degraded")]) == 17
    assert sum(value for name, value in told.items() if name.startswith("arbiter_shed_calls")) == 1000


def test_a_live_snapshot_tells_of_what_serves_and_of_what_is_refused(metrics: Metrics, port: int) -> None:
    """From its first version on, whatever goes wrong with the next."""
    loads = iter([_Loaded("sha256:a"), SetupInvalid("no"), ValueError("unforeseen"), _Loaded("sha256:b")])

    def load() -> _Loaded:
        found = next(loads)
        if isinstance(found, Exception):
            raise found
        return found

    live = LiveSnapshot(load, watch=metrics)  # type: ignore[arg-type]  # only its version is looked at
    at_first = read(port)
    done = [live.reload(), live.reload()]
    between = read(port)
    done.append(live.reload())
    at_last = read(port)

    assert done == [False, False, True]
    assert at_first["arbiter_rules_info,version=sha256:a"] == 1
    assert between["arbiter_rules_reload_failures_total"] == 2
    assert between["arbiter_rules_info,version=sha256:a"] == 1
    assert at_last["arbiter_rules_info,version=sha256:b"] == 1
    assert at_last["arbiter_rules_reloads_total"] == 1


class _Loaded:
    """As much of a snapshot as reloading looks at."""

    def __init__(self, rules: str) -> None:
        self.rules = rules

    @property
    def versions(self) -> _Loaded:
        """Its versions, of which there is one."""
        return self


def test_the_endpoint_ends_with_its_block(metrics: Metrics) -> None:
    """The port is free again."""
    with exposed(metrics.registry, host="127.0.0.1", port=0) as port:
        read(port)

    with pytest.raises(OSError, match="refused"):
        read(port)


def test_a_taken_port_is_an_error(metrics: Metrics) -> None:
    """Two servers cannot share an endpoint."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match="in use"), exposed(metrics.registry, host="127.0.0.1", port=port):
            pass


def test_the_folder_of_a_dead_server_is_removed_and_that_of_a_living_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed server cannot tidy up; the next one does, and leaves others alone."""
    monkeypatch.setattr(exposition, "_IN_MEMORY", tmp_path)
    dead = tmp_path / "arbiter-metrics-dead"
    dead.mkdir()
    (dead / "lock").touch()
    with shared_values() as living:
        with shared_values() as other:
            there = sorted(tmp_path.iterdir())
        after = list(tmp_path.iterdir())

    assert there == sorted([living.folder, other.folder])
    assert after == [living.folder]
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_in_memory_the_one_for_temporary_files_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every machine has one; the library's variable is as it was afterwards."""
    monkeypatch.setattr(exposition, "_IN_MEMORY", tmp_path / "nowhere")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "before")

    with shared_values() as values:
        assert values.folder.parent == tmp_path
        assert [metric.name for metric in values.collect()] == ["arbiter_workers_ended"]

    assert exposition.os.environ["PROMETHEUS_MULTIPROC_DIR"] == "before"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("off", None),
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("metrics.internal:80", ("metrics.internal", 80)),
    ],
)
def test_the_setting_is_an_address_or_off(text: str, address: tuple[str, int] | None) -> None:
    """Host and port, an IPv6 address in brackets."""
    assert Settings(metrics=text).metrics_address == address


@pytest.mark.parametrize("text", ["", "9464", ":9464", "localhost:", "localhost:http", "localhost:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """With the name of the setting and an example."""
    with pytest.raises(SetupInvalid, match=r"--metrics: .*write HOST:PORT, e\.g\. 127\.0\.0\.1:9464, or off"):
        load_settings({"metrics": text})
