"""The demo's customer file: every feature of every customer, as the feature loader reads it."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

from feature_store.schema import FeatureValue
from training.behaviour import synthesise
from training.telco import Telco


def write_customers(telco: Telco, path: Path) -> bool:
    """Writes `customers.csv.gz`; false where the file already holds the same customers.

    Columns: customer_id, then the schema's features in order, but those that only events tell. Booleans
    are true and false, categories their names, absent values empty. The same customers give the same bytes.
    """
    text = customers_csv(telco).encode()
    if path.exists() and gzip.decompress(path.read_bytes()) == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text, compresslevel=9, mtime=0))
    return True


def customers_csv(telco: Telco) -> str:
    """The customer file's text; real columns from the source, behavioural ones synthetic."""
    rows = [{**real, **synthetic} for real, synthetic in zip(telco.values, synthesise(telco), strict=True)]
    names = [name for name in telco.schema.index if rows and name in rows[0]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["customer_id", *names])
    for customer, known in zip(telco.ids, rows, strict=True):
        telco.schema.pack(known)  # refuses here what a loader would refuse later
        writer.writerow([customer, *(_cell(known[name]) for name in names)])
    return text.getvalue()


def _cell(value: FeatureValue | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def write_labelled(telco: Telco, path: Path) -> None:
    """Writes what is real of every customer with the label `churned` (yes, no), to train on as on any table.

    The synthetic features are left out: they were made from the label.
    """
    names = [name for name in telco.schema.index if name in telco.values[0]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["customer_id", *names, "churned"])
    for customer, known, left in zip(telco.ids, telco.values, telco.churned.tolist(), strict=True):
        writer.writerow([customer, *(_cell(known[name]) for name in names), "yes" if left else "no"])
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content, compresslevel=9, mtime=0) if path.suffix == ".gz" else content)
