"""What can go wrong when signals are evaluated.

SignalError
└── SignalsUnavailable     the worker did not answer in time or died twice; a new one takes the next question
"""

from __future__ import annotations


class SignalError(Exception):
    """Base of everything this package raises on purpose."""


class SignalsUnavailable(SignalError):
    """The signals of a customer are not known now; those stored stay until they run out."""
