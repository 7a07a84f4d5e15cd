"""The feature schemas that the store keeps, so that every version finds its values and those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from engine.core.snapshot import Snapshot
from engine.errors import SetupInvalid, StateUnavailable
from engine.events.applying import EventRules
from engine.events.compile import event_types
from engine.settings import Settings
from engine.signals.compile import signal_patterns
from engine.snapshots import rule_archive
from feature_store.differing import differences, refuse_taken_version, rivals
from feature_store.errors import SchemaVersionTaken, StoreError
from feature_store.store import OnlineStore
from feature_store.versions import SchemaVersions

if TYPE_CHECKING:
    pass

_log = structlog.get_logger("engine.schemas_kept")


def fit_for(store: OnlineStore, settings: Settings, snapshot: Snapshot) -> Snapshot:
    """The snapshot, where its feature schema and those the store keeps do not share a version.

    Where the store cannot be asked now, that is found when it is written to. Raises SetupInvalid.
    """
    try:
        refuse_taken_version(snapshot.schema, store.schemas(), source=str(settings.feature_schema))
    except SchemaVersionTaken as error:
        raise SetupInvalid(str(error)) from error
    except StoreError as error:
        _log.warning("schema.not_compared", schema=snapshot.schema.digest, cause=str(error))
    return snapshot


def keep_schema(settings: Settings, store: OnlineStore, snapshot: Snapshot) -> None:
    """Keeps a snapshot's feature schema in the store, where other versions find it to read its values.

    Raises SchemaVersionTaken and StoreError; then nothing of this schema may be written.
    """
    versions, schema = snapshot.versions, snapshot.schema
    archived = rule_archive(settings).find(rules=versions.rules, feature_schema=versions.feature_schema)
    if archived is None:
        return
    kept = store.schemas()
    refuse_taken_version(schema, kept, source=str(settings.feature_schema))
    if schema.digest not in kept:
        store.put_schema(schema.digest, archived.feature_schema)
    for rival in rivals(schema, kept):
        _log.warning("schema.version_shared", version=schema.version, differences=differences(schema, rival))


def keep_first_schema(settings: Settings, store: OnlineStore, snapshot: Snapshot) -> None:
    """`keep_schema` at the start; a store that is away now is no obstacle, as events keep it before use."""
    try:
        keep_schema(settings, store, snapshot)
    except SchemaVersionTaken as error:
        raise SetupInvalid(str(error)) from error
    except StoreError as error:
        _log.warning("schema.not_kept", schema=snapshot.schema.digest, cause=str(error))


def archived_schemas(settings: Settings) -> SchemaVersions:
    """The schemas that logged features are of: those that decisions were made with."""
    return SchemaVersions(rule_archive(settings).feature_schemas)


def schema_versions(settings: Settings, store: OnlineStore) -> SchemaVersions:
    """The schemas that stored features are of: those the store keeps, and those of decisions."""
    return SchemaVersions(lambda: {**rule_archive(settings).feature_schemas(), **store.schemas()})


def event_rules(settings: Settings, snapshot: Snapshot) -> EventRules:
    """What events are judged and applied by under a snapshot. Raises SetupInvalid where it is not held."""
    rules = snapshot.versions.rules
    sources = rule_archive(settings).sources(rules)
    if sources is None:
        raise SetupInvalid(f"{settings.data_dir / 'rulesets'}: does not hold rule set {rules}")
    return EventRules.of(snapshot.rulebook, event_types(sources), signal_patterns(sources), snapshot.schema)


def kept_event_rules(settings: Settings, store: OnlineStore, snapshot: Snapshot) -> EventRules:
    """The event rules of a snapshot, once the store keeps the schema they write features of.

    Raises StateUnavailable where it cannot: no event is applied in a schema that others could not read.
    """
    try:
        keep_schema(settings, store, snapshot)
    except SchemaVersionTaken as error:
        _log.error("schema.refused", cause=str(error))
        raise StateUnavailable(
            "the feature schema cannot be written now; the server's operator sees why"
        ) from error
    except StoreError as error:
        raise StateUnavailable("events cannot be applied now; send them again") from error
    return event_rules(settings, snapshot)
