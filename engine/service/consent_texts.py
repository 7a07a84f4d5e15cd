"""Free texts of consents, which may name anybody: sealed before they reach ledger, store or decision log."""

from __future__ import annotations

from dataclasses import replace

from feature_store.sealing import TextCipher
from feature_store.state import ConsentRecord


def sealed_texts(record: ConsentRecord, cipher: TextCipher) -> ConsentRecord:
    """The record as it is kept: only the key reads who recorded it and on what evidence."""
    return replace(record, actor=cipher.sealed(record.actor), evidence=cipher.sealed(record.evidence))


def shown_texts(record: ConsentRecord, cipher: TextCipher) -> ConsentRecord:
    """The record for a person; a text whose key is not here says which key that is."""
    return replace(record, actor=cipher.shown(record.actor), evidence=cipher.shown(record.evidence))


def resealed_texts(record: ConsentRecord, cipher: TextCipher) -> ConsentRecord:
    """The record with its texts under the present key; what no key opens stays as it is."""
    return replace(record, actor=cipher.resealed(record.actor), evidence=cipher.resealed(record.evidence))
