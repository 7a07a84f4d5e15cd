"""What can be wrong with the libraries that are measured against."""

from __future__ import annotations


class PartMissing(Exception):
    """A library that is measured against is not installed, or did not do its part."""


class Disagreement(Exception):
    """Two engines gave different answers, so their speeds cannot be compared."""
