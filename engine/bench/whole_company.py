"""The company of the benchmark of the whole: as many actions, rules, features and customers as asked.

    python -m engine.bench.whole_company DIR [--store URL] [--customers N] ...

writes everything a server needs below a folder, fills the store and says how to serve it. Everything comes
from a seed, so two companies of one size are the same. Every customer consents to all that the company does,
and has been contacted before: whoever consents to less is less work.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from engine.bench.parts import PartMissing
from engine.bench.whole_customers import customer_id, fill
from engine.bench.whole_documents import write_rules
from engine.bench.whole_features import schema_toml
from engine.bench.whole_models import Learning, publish_models
from engine.bench.whole_shape import Company, Size, described
from engine.bootstrap import wall_clock_ms
from engine.settings import EMBEDDED, Settings
from engine.stores import open_store
from feature_store.schema import load_schema


def write_company(folder: Path, size: Size, *, like: Company | None = None) -> Company:
    """Writes schema, models, rules and catalogue of a company. Raises PartMissing without LightGBM.

    The models are those of the company it is `like`, which has the same features and targets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    company = described(folder, size)
    schema = folder / "schema.toml"
    schema.write_text(schema_toml(company.features), encoding="utf-8")
    write_rules(company)
    if like is not None:
        shutil.copytree(like.folder / "registry", folder / "registry")
        return company
    targets = [offer.target for offer in company.offers[: size.targets]]
    learning = Learning(company.features, targets, load_schema(schema), size.trees)
    publish_models(learning, registry=folder / "registry", boosters=company.boosters)
    return company


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a company and fills its store; 2 where a part is missing."""
    parser = argparse.ArgumentParser(prog="python -m engine.bench.whole_company", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", default=EMBEDDED, help="store to fill; the embedded one by default")
    for part in fields(Size):
        parser.add_argument(f"--{part.name}", type=int, default=part.default)
    asked = parser.parse_args(arguments)
    size = Size(**{part.name: getattr(asked, part.name) for part in fields(Size)})
    try:
        company = write_company(asked.folder, size)
    except PartMissing as error:
        sys.stderr.write(f"{error}\n")
        return 2
    settings = company.settings(store=asked.store)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = open_store(settings, patient=True)
    try:
        fill(store, company, now_ms=wall_clock_ms())
    finally:
        store.close()
    sys.stdout.write(_advice(settings))
    return 0


def _advice(settings: Settings) -> str:
    return (
        f"ARBITER_RULES={settings.rules} ARBITER_REGISTRY={settings.registry} "
        f"ARBITER_FEATURE_SCHEMA={settings.feature_schema} "
        f"python -m engine serve --data-dir {settings.data_dir} --store {settings.store}\n"
        f"python -m engine decide --customer {customer_id(0)} --channel web --placement account_banner "
        "--limit 3\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
