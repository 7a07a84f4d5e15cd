"""How calls are balanced and retried, in gRPC's own form, which clients in other languages read as well."""

from __future__ import annotations

from importlib import resources
from typing import Final

SERVICE_CONFIG: Final = (
    resources.files(__package__).joinpath("service_config.json").read_text(encoding="utf-8")
)
"""Retries what may be said twice, on UNAVAILABLE alone and ever less while the server fails.

RecordConsent is not among it: a yes whose reply was lost and that is said again could come after a no.
"""
