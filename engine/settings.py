"""The one frozen set of settings. Sources, strongest first: command line, ARBITER_* environment, default."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.errors import SetupInvalid
from model_registry import Root, registry_root

_HOME = Path(__file__).resolve().parent.parent

_LAST_PORT = 65535
OFF = "off"
"""What a setting says that can be switched off."""
_DAY_MINUTES = 1440
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?")

Port = Annotated[int, Field(ge=0, le=_LAST_PORT)]
KeptDays = Annotated[int, Field(ge=1, le=36_500)]


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon) and port.isdecimal() and int(port) <= _LAST_PORT


def _address_or_off(text: str) -> str:
    if text == OFF or _is_address(text):
        return text
    raise ValueError("write HOST:PORT, e.g. 127.0.0.1:9464, or off")


def _collector_or_off(text: str) -> str:
    scheme, found, place = text.partition("://")
    if text == OFF or (found and scheme in ("http", "https") and _is_address(place)):
        return text
    raise ValueError("write http://HOST:PORT or https://HOST:PORT, e.g. http://127.0.0.1:4317, or off")


def _parted(given: object) -> object:
    """Values parted by commas, as one writes them into an environment variable."""
    if not isinstance(given, str):
        return given
    return tuple(part.strip() for part in given.split(",") if part.strip())


def _origin(text: str) -> str:
    if _ORIGIN.fullmatch(text):
        return text
    raise ValueError("write origins such as https://desk.example.com, parted by commas and without a path")


Origin = Annotated[str, AfterValidator(_origin)]


def _receiver(url: SecretStr) -> SecretStr:
    """Raises ValueError without quoting it, for an address that may not be sent to."""
    parts = urlsplit(url.get_secret_value())
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("write no user, password or fragment into it; receivers know us by the signature")
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise ValueError("write the address of a receiver, such as https://crm.example.com/arbiter")
    if parts.scheme == "http" and not is_this_machine(parts.hostname):
        raise ValueError("write https://; http is for receivers on this machine only")
    return url


def is_this_machine(host: str) -> bool:
    """Whether a host is this one, by its name or address; nothing is looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _part_of_a_day(minutes: int) -> int:
    if minutes >= 1 and _DAY_MINUTES % minutes == 0:
        return minutes
    raise ValueError("write minutes of which a day has a whole number, e.g. 15, 60 or 1440")


Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""What tokens may be signed with: pairs of keys only, and none of them broken."""

EMBEDDED = "embedded"
"""The store that needs no server: files in the data directory."""


class Settings(BaseSettings):
    """Effective settings of one process. Unknown ARBITER_* names are errors (`load_settings`)."""

    model_config = SettingsConfigDict(env_prefix="ARBITER_", frozen=True, extra="forbid")

    data_dir: Path = Field(
        default=Path("data/demo"),
        description="Where state, decision log and consent ledger live. Default: the demo's, below the "
        "current folder, so that trying Arbiter out touches nothing else.",
    )
    store: Annotated[str, Field(min_length=1)] = Field(
        default=EMBEDDED,
        description="Where customer state is: embedded (in the data directory), or the URL of a Redis or "
        "Valkey that all machines share, such as redis://host:6379/0. Embedded, as it needs nothing else.",
    )
    store_prefix: str = Field(
        default="arbiter",
        description="Begins the name of every key in Redis, so that several can share one; ACLs go by it.",
    )
    store_timeout_ms: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=30,
        description="Longest wait for Redis to connect or answer, in ms. Nothing is retried; a decision "
        "without an answer is made without consents. Far above what a healthy server needs.",
    )
    store_user: str | None = Field(
        default=None, description="Redis user, where the URL names none. Redis has one called default."
    )
    store_password: SecretStr | None = Field(
        default=None, description="Password of the Redis user, where the URL has none. Never shown."
    )
    store_password_file: Path | None = Field(
        default=None,
        description="File that holds the password instead; read for each connection, so it may change.",
    )
    store_ca: Path | None = Field(
        default=None,
        description="File of the authorities that certify the server of a rediss:// URL; else the system's.",
    )
    store_certificate: Path | None = Field(
        default=None, description="Our own certificate, for a Redis that asks for one."
    )
    store_key: Path | None = Field(default=None, description="Key of that certificate.")
    rules: Path = Field(
        default=_HOME / "rules", description="Folder of the rule set. Default: the demo company's."
    )
    registry: Annotated[Root, BeforeValidator(registry_root)] = Field(
        default=_HOME / "model_registry",
        description="Folder of published models, or the URL of an object store, such as s3://bucket/models. "
        "Default: the demo company's.",
    )
    feature_schema: Path = Field(
        default=_HOME / "feature_store" / "demo" / "telco.toml",
        description="Feature schema file. Default: the demo company's.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Default: this machine only, as callers need not prove who they "
        "are unless certificates or tokens are asked for.",
    )
    port: Port = Field(default=50051, description="Port to listen on; 50051 is gRPC's customary one.")
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Server processes; one for each core is best, as Python runs on one core."
    )
    threads: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2,
        description="Threads for each worker. Few: they share one core and only overlap waiting for disk "
        "and Redis, and each more makes whoever is refused wait longer for the interpreter.",
    )
    admission_wait_ms: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=25,
        description="How long a call may wait for a thread, in ms; what would wait longer is refused at "
        "once, less urgent ones first. Half of the 50 ms within which 99 of 100 should be answered.",
    )
    default_deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = Field(
        default=5_000,
        description="Deadline of calls that give none, in ms: as long as our own client waits.",
    )
    max_connection_age_s: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=300,
        description="How long a connection lasts until its client makes a new one, in s, a tenth more or "
        "less: so connections spread over new workers in minutes. Its calls may finish.",
    )
    max_request_bytes: Annotated[int, Field(ge=1024, le=64 << 20)] = Field(
        default=1 << 20, description="Largest request in bytes; 100 batch items with context fit in 1 MiB."
    )
    request_id_ttl_s: Annotated[int, Field(ge=1, le=7 * 86400)] = Field(
        default=900,
        description="How long a request id is remembered, in s; retries come within seconds, and each id "
        "kept costs about 150 bytes of disk.",
    )
    fsync_interval_ms: Annotated[int, Field(ge=0, le=10_000)] | Literal["never"] = Field(
        default=100,
        description="Decision log: longest time between a reply and its record on the platter, in ms. "
        "0 syncs each one, never leaves it to checkpoints and the system. Consent always syncs. A killed "
        "process loses nothing either way.",
    )
    segment_mb: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=64,
        description="Size at which decisions and outcomes go on in a new file, in MiB: small enough to copy "
        "and to compress in a second, large enough to keep files few.",
    )
    segment_hours: Annotated[int, Field(ge=1, le=8784)] | Literal["never"] = Field(
        default=24,
        description="Age at which they do, in hours, with the next decision or outcome: a day, so that a "
        "quiet server's files can be compressed and copied too; or never.",
    )
    compress_after_minutes: Annotated[int, Field(ge=1, le=527_040)] | Literal["never"] = Field(
        default=60,
        description="How long after its end a file of decisions or outcomes is compressed, in minutes, by a "
        "process at the lowest priority, or never. An hour: recent decisions are what is explained most.",
    )
    log_masking: Path | None = Field(
        default=None,
        description="Masking policy: what of decisions leaves the log in exports, queries and streams. "
        "By default no value of a customer does but scores, and ids as pseudonyms.",
    )
    checkpoint_dir: Path | None = Field(
        default=None,
        description="Folder for checkpoints of the logs, best on another disk or machine: who may change "
        "both can cut a log's end unseen. Default: checkpoints in the data directory.",
    )
    checkpoint_interval_s: Annotated[float, Field(ge=0.1, le=3600)] = Field(
        default=10.0,
        description="Time between checkpoints, in s: what was logged since the last one is chained, but a "
        "cut end would not show. One writes about 200 bytes, and only where something was logged.",
    )
    checkpoint_key: SecretStr | None = Field(
        default=None,
        description="Key that seals checkpoints, so that nobody without it can make them anew; none by "
        "default.",
    )
    checkpoint_key_file: Path | None = Field(
        default=None, description="File that holds the key instead; its trailing line end is not part of it."
    )
    identity_key: SecretStr | None = Field(
        default=None,
        description="Key that encrypts phone numbers and other identities in the store, free texts of "
        "consents and dead letters; a long random text. None by default: `arbiter store check` says that "
        "they lie there in the clear.",
    )
    identity_key_file: Path | None = Field(
        default=None, description="File that holds the key instead; its trailing line end is not part of it."
    )
    former_identity_key_files: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_parted)] = Field(
        default=(),
        description="Files with keys used before, parted by commas: what they sealed is still found and "
        "read. None by default. `arbiter customer seal` makes the store need them no more.",
    )
    phone_region: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = Field(
        default=None,
        description="Country of phone numbers that are written without one, such as CH; by default such "
        "numbers are kept and looked up as they are written.",
    )
    keep_decisions_days: KeptDays | None = Field(
        default=None,
        description="How long `arbiter retention run` keeps decisions and a shadow's answers, in days; for "
        "good by default. An older decision can neither be explained nor get outcomes.",
    )
    keep_outcomes_days: KeptDays | None = Field(
        default=None,
        description="How long it keeps outcomes, in days; for good by default, as they prove what each "
        "contact rested on.",
    )
    keep_superseded_consents_days: KeptDays | None = Field(
        default=None,
        description="How long it keeps consents after another took their place, as after a withdrawal, in "
        "days; for good by default. What is in force always stays.",
    )
    keep_dead_letters_days: KeptDays | None = Field(
        default=None,
        description="How long it keeps events that could not be applied, in days; until they are dropped by "
        "default.",
    )
    keep_contacts_days: KeptDays | None = Field(
        default=None,
        description="How long it keeps contacts in the store, in days; by default 400, as stores do. No "
        "shorter than the longest window of the contact policies.",
    )
    drift: bool = Field(
        default=True,
        description="Count inputs, scores and actions for drift. On: it costs a decision about 2 us, and "
        "what was not counted cannot be compared later.",
    )
    drift_window_minutes: Annotated[int, AfterValidator(_part_of_a_day)] = Field(
        default=60,
        description="Length of a window that is judged for drift, in minutes, a part of a day; days are "
        "judged too. An hour has enough decisions to judge and is soon enough to act.",
    )
    keep_drift_days: KeptDays = Field(
        default=30,
        description="How long servers keep the counts for drift, in days: about 20 kB an hour and process. "
        "Nothing in them is of one person.",
    )
    drain_seconds: Annotated[float, Field(ge=0, le=300)] = Field(
        default=10.0, description="How long calls in flight may finish after SIGTERM."
    )
    reflection: bool = Field(
        default=False, description="Serve gRPC reflection; off, as it tells strangers the contract."
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="Certificate to serve with, in PEM, the server's own first. None by default: calls go "
        "in the clear. Read anew when it changes; a pair that does not fit leaves the last good one.",
    )
    tls_key: Path | None = Field(default=None, description="Key of that certificate, without a passphrase.")
    tls_client_ca: Path | None = Field(
        default=None,
        description="Authorities whose certificates every client must show; none by default. What the names "
        "in them may do is said by the roles file.",
    )
    token_keys: Path | None = Field(
        default=None,
        description="JSON Web Key Set with the issuer's public keys: bearer tokens are taken, and checked "
        "with these. None by default. Read anew when it changes.",
    )
    token_issuer: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Claim iss of every token. Needed with keys: theirs may sign for many."
    )
    token_audience: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Claim aud that every token must have. Needed with keys, so that no token for another "
        "service is good here.",
    )
    token_algorithms: Annotated[tuple[Algorithm, ...], NoDecode, BeforeValidator(_parted)] = Field(
        default=("RS256", "ES256", "EdDSA"),
        description="Algorithms a token may be signed with, parted by commas. Default: those that issuers "
        "use. Never none, and never one whose key is a shared secret.",
    )
    token_leeway_s: Annotated[int, Field(ge=0, le=300)] = Field(
        default=30, description="How far clocks may differ, in s: half a minute is far for synchronised ones."
    )
    roles_file: Path | None = Field(
        default=None,
        description="TOML file that says which tokens and certificates may do what; with it, whoever is not "
        "named may do nothing. None by default: callers may do everything. Read anew when it changes.",
    )
    insecure_tokens: bool = Field(
        default=False,
        description="Take tokens in the clear from other machines. Off, as who listens could use them: only "
        "for where a proxy on the way does TLS.",
    )
    metrics: Annotated[str, AfterValidator(_address_or_off)] = Field(
        default="off",
        description="Where to serve metrics for Prometheus over HTTP, as HOST:PORT. Off, as there is no "
        "authentication: choose an address that only your Prometheus reaches.",
    )
    timed_every: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=32,
        description="With metrics, the steps of one in so many decisions are timed; 0 times none. At 32 any "
        "graph is smooth, and the mean decision pays about 1 us.",
    )
    traces: Annotated[str, AfterValidator(_collector_or_off)] = Field(
        default="off",
        description="Collector of OpenTelemetry that gets traces by OTLP over gRPC, as http://HOST:PORT or "
        "https://HOST:PORT. Off, as few have one.",
    )
    traced_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01,
        description="Share of calls that are traced where the caller does not say. One in a hundred shows "
        "what is usual, and the rest pays nothing.",
    )
    web: Annotated[str, AfterValidator(_address_or_off)] = Field(
        default="off",
        description="Where to serve pages and the JSON gateway over HTTP, as HOST:PORT. Off, as few need it. "
        "Callers need the same tokens as over gRPC; without tokens choose an address that only those reach "
        "who may decide and record.",
    )
    web_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_parted)] = Field(
        default=(),
        description="Origins whose pages may call the JSON gateway from a browser (CORS), parted by commas. "
        "None by default: back ends need none, and a stranger's page could decide with its visitor's access.",
    )
    web_frame_ancestors: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_parted)] = Field(
        default=(),
        description="Origins that may show our pages in a frame, such as the desktop of a call centre, "
        "parted by commas. None by default, so that nobody lures a click out of an agent.",
    )
    webhook_url: Annotated[SecretStr, AfterValidator(_receiver)] | None = Field(
        default=None,
        description="Address that `arbiter webhooks send` sends outcomes to: https, or http on this machine. "
        "None by default, as few have a receiver. Never shown whole: some have a secret in their path.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Secrets that webhooks are signed with, whsec_ and base64 each, parted by blanks: "
        "several while one takes the place of another. Needed with an address. Never shown.",
    )
    webhook_secret_file: Path | None = Field(
        default=None,
        description="File that holds the secrets instead, one a line; read anew when it changes.",
    )
    webhook_masking: Path | None = Field(
        default=None,
        description="Masking policy for webhooks, of the same form as that of the log and not taken from it: "
        "who reads our exports may see more than another company. By default customers have pseudonyms.",
    )
    webhook_timeout_s: Annotated[float, Field(ge=0.1, le=120)] = Field(
        default=10.0,
        description="Longest time for one attempt to send a webhook, all of it, in s. Receivers are to take "
        "a message at once and work on it later; nothing of ours waits meanwhile.",
    )
    webhook_give_up_hours: Annotated[float, Field(gt=0, le=8784)] = Field(
        default=72.0,
        description="How long a webhook is tried until it is a dead letter, in hours. Three days: a receiver "
        "that fails on a Friday evening is mended on Monday.",
    )
    webhook_connections: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4,
        description="Webhooks sent at once, each of another customer. Few, as receivers often are small; at "
        "50 ms a message it is 80 in a second.",
    )
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = Field(
        default="info", description="Least severe event to log on stderr."
    )

    @property
    def fsync_ms(self) -> int | None:
        """Time between fsyncs of the decision log; 0 for each record, None for none of its own."""
        return None if self.fsync_interval_ms == "never" else self.fsync_interval_ms

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port to serve metrics at; None where they are off."""
        return _address(self.metrics)

    @property
    def web_address(self) -> tuple[str, int] | None:
        """Host and port to serve HTTP at; None where it is off."""
        return _address(self.web)


def _address(text: str) -> tuple[str, int] | None:
    if text == OFF:
        return None
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def load_settings(overrides: Mapping[str, object]) -> Settings:
    """Settings with command-line `overrides` on top. Raises SetupInvalid naming each wrong one."""
    known = {f"ARBITER_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(n for n in os.environ if n.startswith("ARBITER_") and n not in known)
    if unknown:
        raise SetupInvalid(
            f"unknown environment variable {', '.join(unknown)}; `arbiter settings` lists the known ones"
        )
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # validated by pydantic
    except ValidationError as error:
        lines = [_wrong(str(e["loc"][0]), given, e["msg"] + _found(e)) for e in error.errors()]
        raise SetupInvalid("; ".join(lines)) from None  # the error itself would quote what was given


_MAY_HOLD_SECRETS = frozenset(
    {"store", "registry", "webhook_url", "webhook_secret"}
    | {n for n in Settings.model_fields if n.endswith(("_key", "_password"))}
)
"""Settings whose value is not repeated where it is wrong: keys, and addresses, which may hold a password."""


def _found(error: ErrorDetails) -> str:
    return "" if error["loc"][0] in _MAY_HOLD_SECRETS else f", found {error['input']!r}"


def _wrong(name: str, given: Mapping[str, object], what: str) -> str:
    """Which setting is wrong, by the name its author used."""
    used = f"--{name.replace('_', '-')}" if name in given else f"ARBITER_{name.upper()}"
    return f"{used}: {what}"
