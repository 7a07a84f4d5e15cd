"""What tests of the service, the API and the running server share: requests, settings, processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from google.rpc import error_details_pb2
from ruamel.yaml import YAML

from engine._pb.arbiter.v1 import decision_service_pb2, types_pb2
from engine.client import Access, ArbiterClient, CallFailed
from engine.core.rulebook import InputType
from engine.demo.cast import CAST
from engine.domain import ContextScalar
from engine.service.requests import DecisionQuery
from engine.settings import Settings
from feature_store.state import CustomerChange, CustomerRecord
from feature_store.store import OnlineStore
from model_registry import publish

REPOSITORY = Path(__file__).resolve().parents[1]
AT_RISK, LOYAL, OBJECTOR, UNPROFILED, FRENCH = "C0131", "C0133", "C0239", "C0060", "C0334"
START_SECONDS = 60.0


PATIENT_WAIT_MS = 10_000
"""How long calls may wait in tests that are not about refusals: a busy machine must not fail them."""


def settings_for(data_dir: Path, **overrides: object) -> Settings:
    """Settings of a test: any free port, the repository's rules and models."""
    overrides = {"admission_wait_ms": PATIENT_WAIT_MS, **overrides}
    return Settings(data_dir=data_dir, port=0, **overrides)  # type: ignore[arg-type]  # checked by pydantic


class DemoCompany:
    """An open store of the demo company."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    def copy_customer(self, model: str, customer_id: str) -> None:
        """A new customer with the features and consents of another."""
        state = self._store.read(model)
        assert state is not None
        assert state.features is not None
        self._store.put_customers([(customer_id, state.features)])
        self._store.put_consents((customer_id, record) for record in state.consents)


def copy_customers(source: OnlineStore, target: OnlineStore, names: Sequence[str]) -> None:
    """Everything that decisions read of some customers, from one store to another, and their identities."""
    records: dict[str, CustomerRecord] = {}
    source.update(names, lambda name, record: records.__setitem__(name, record))

    def copied(name: str, _: CustomerRecord) -> CustomerChange:
        record = records[name]
        return CustomerChange(
            features=record.features,
            consents=record.consents,
            contacts=record.contacts,
            signals=record.signals,
        )

    target.update(names, copied)
    target.link((identity, name) for name in names for identity in source.identities(name))


def scene(cast_id: str, customer_id: str = "", **fields: object) -> decision_service_pb2.DecideRequest:
    """The request of a cast member's scene, for that member or another customer."""
    met = CAST[cast_id]
    given = {"channel": met.channel, "placement": met.placement, "language": met.language} | fields
    request = decision_service_pb2.DecideRequest(
        customer_id=customer_id or cast_id,
        **given,  # type: ignore[arg-type]  # fields of the message
    )
    for name, value in met.context.items():
        request.context[name].string_value = value
    return request


def query(cast_id: str, customer_id: str = "", **fields: object) -> DecisionQuery:
    """The same scene in the words of the service."""
    met = CAST[cast_id]
    context: dict[str, tuple[InputType, ContextScalar]] = {
        name: (InputType.STRING, value) for name, value in met.context.items()
    }
    return DecisionQuery(
        customer_id=customer_id or cast_id,
        channel=met.channel,
        placement=met.placement,
        context=context,
        **fields,  # type: ignore[arg-type]  # fields of the query
    )


def reasons_of(response: decision_service_pb2.DecideResponse) -> list[types_pb2.Reason]:
    """Every reason anywhere in a reply."""
    told = [reason for action in response.actions for reason in action.reasons]
    told += [reason for action in response.suppressed for reason in action.reasons]
    return [*told, *response.no_action.reasons, *response.churn_risk.reasons]


def connect(target: str, *, timeout_s: float = 5.0, access: Access | None = None) -> ArbiterClient:
    """A client with one connection that says nothing twice: what the server answers is seen as it is."""
    return ArbiterClient(target, timeout_s=timeout_s, channels=1, service_config="{}", access=access)


def failure_of(call: Callable[[], object]) -> CallFailed:
    """How a call that must fail failed."""
    try:
        call()
    except CallFailed as failure:
        return failure
    raise AssertionError("the call succeeded")


def reason_of(failure: CallFailed) -> tuple[str, str]:
    """Reason and domain of the google.rpc.ErrorInfo."""
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in failure.status.details), failure.status
    return info.reason, info.domain


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Runs `work(number)` in as many threads at once and waits for all."""
    together = threading.Barrier(count)

    def run(number: int) -> None:
        together.wait()
        work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def copied_rules(folder: Path) -> Path:
    """A copy of the demo company's rules to spoil."""
    return Path(shutil.copytree(REPOSITORY / "rules", folder / "rules"))


def copied_registry(folder: Path) -> Path:
    """A copy of the published models to spoil."""
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    return Path(shutil.copytree(REPOSITORY / "model_registry", folder / "registry", ignore=ignored))


def published_again(registry: Path, name: str) -> int:
    """Publishes version 1 of a model once more; the new version."""
    folder = registry / name / "1"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {filename: (folder / filename).read_bytes() for filename in manifest.pop("files")}
    del manifest["version"]
    return int(publish(registry, manifest, files).name)


def set_threshold(rules: Path, threshold: float) -> None:
    """Changes the threshold of doing nothing: a small good change."""
    path, yaml = rules / "arbitration.yaml", YAML()
    document = yaml.load(path.read_text(encoding="utf-8"))
    document["threshold"] = threshold
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


class RunningServer:
    """`arbiter serve` in a process group of its own, with its log in memory."""

    def __init__(self, data_dir: Path, options: Sequence[str], environment: Mapping[str, str]) -> None:
        self.port = _free_port()
        self.target = f"127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "engine", "serve", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir), *options],
            env={name: v for name, v in os.environ.items() if not name.startswith("ARBITER_")}
            | {"ARBITER_ADMISSION_WAIT_MS": str(PATIENT_WAIT_MS)}
            | dict(environment),
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._logged = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._logged:
                self._lines.append(line)
                self._logged.notify_all()
        self.process.stderr.close()

    @property
    def log(self) -> str:
        """What the server wrote so far; all of it once it has ended."""
        with self._logged:
            return "".join(self._lines)

    @property
    def mark(self) -> int:
        """Where the log ends now."""
        with self._logged:
            return len(self._lines)

    def wait_for_log(self, event: str, *, times: int = 1, since: int = 0) -> None:
        """Returns once `times` lines of the log after the mark `since` hold `event`."""

        def seen() -> bool:
            return sum(event in line for line in self._lines[since:]) >= times

        with self._logged:
            assert self._logged.wait_for(seen, timeout=START_SECONDS), "".join(self._lines)

    def wait_until_serving(self) -> None:
        """Returns once health checks say so."""
        try:
            with connect(self.target) as remote:
                remote.wait_until_serving(START_SECONDS)
        except CallFailed as failure:
            raise AssertionError(f"not serving: {failure}\n{self.log}") from failure

    def connect(self) -> ArbiterClient:
        """A client with a channel of its own."""
        return connect(self.target, timeout_s=30.0)

    def send(self, number: signal.Signals) -> None:
        """Signals the process that was started, not its workers."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Exit code, once the process has ended and its log is complete."""
        code = self.process.wait(timeout=START_SECONDS)
        self._reader.join(timeout=START_SECONDS)
        return code

    def kill(self) -> None:
        """Ends the whole process group at once, without a chance to tidy up."""
        if self.process.poll() is None:  # else its id may be another's by now
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
