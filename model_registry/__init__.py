"""Published models: immutable versions with digests, and aliases that say which one serves."""

from model_registry.aliases import open_alias, promote, release, resolve, roll_back
from model_registry.inventory import list_models, verify
from model_registry.publishing import publish
from model_registry.storage import Root, registry_root, storage_of
from model_registry.versions import PublishedModel, open_version

__all__ = [
    "PublishedModel",
    "Root",
    "list_models",
    "open_alias",
    "open_version",
    "promote",
    "publish",
    "registry_root",
    "release",
    "resolve",
    "roll_back",
    "storage_of",
    "verify",
]
