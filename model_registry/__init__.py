"""Published models on disk: immutable versions, digests, and aliases that say which one serves."""

from model_registry.aliases import open_alias, promote, resolve
from model_registry.inventory import list_models, verify
from model_registry.publishing import publish
from model_registry.versions import PublishedModel, open_version

__all__ = [
    "PublishedModel",
    "list_models",
    "open_alias",
    "open_version",
    "promote",
    "publish",
    "resolve",
    "verify",
]
