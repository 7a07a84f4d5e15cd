"""What can go wrong for good while webhooks are sent."""

from __future__ import annotations


class ReceiverGone(Exception):
    """The receiver says that it will never take a message again; what is not sent stays where it is."""
