from feature_store.embedded.environment import DEFAULT_MAP_BYTES
from feature_store.embedded.store import EmbeddedStore, open_embedded

__all__ = ["DEFAULT_MAP_BYTES", "EmbeddedStore", "open_embedded"]
