"""Files of consents from other systems: what is read, and where what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from arbiter_at_work import REPOSITORY

from engine.service.consent_files import FileFormat, FileInvalid, RowsPassedOver, read_mapping, read_rows
from feature_store.state import ConsentState

XDM = REPOSITORY / "docs" / "xdm-consents.toml"


@pytest.mark.parametrize(
    ("name", "text", "form", "line", "what"),
    [
        ("a.jsonl", '{"customer_id": 1}\n{not json}\n', FileFormat.JSONL, 2, "Expecting property name"),
        ("b.json", '[\n{"a": 1},\n{broken}\n]', FileFormat.JSONL, 3, "Expecting property name"),
        ("c.json", "[\n[1]\n]", FileFormat.JSONL, 2, "it is no JSON object"),
        ("d.json", '[{"a": 1}', FileFormat.JSONL, 1, "the array is not closed"),
        ("e.csv", "customer_id,state\nC1\n", FileFormat.CSV, 2, "as many cells as the header"),
        ("f.jsonl", '{"consents": {}}\n', FileFormat.XDM, 1, "there is nothing at identityMap.CRMID.0.id"),
        ("g.jsonl", '"text"\n', FileFormat.XDM, 1, "it is no JSON object"),
        (
            "h.jsonl",
            '{"identityMap": {"CRMID": [{"id": "C0133"}]}, "consents": {"marketing": {"any": {"val": "?"}}}}',
            FileFormat.XDM,
            1,
            "consents.marketing.any: the value '?' is none of y",
        ),
    ],
)
def test_damage_is_told_with_its_line(
    tmp_path: Path, name: str, text: str, form: FileFormat, line: int, what: str
) -> None:
    """Whatever is wrong with a file, the place is named."""
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    mapping = read_mapping(XDM if form is FileFormat.XDM else None, form)

    rows = list(read_rows(file, form, mapping, RowsPassedOver()))

    assert (rows[-1].line, rows[-1].submission) == (line, None)
    assert what in rows[-1].problems[0]


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are an error of the file, not of a row."""
    file = tmp_path / "a.csv"
    file.write_bytes(b"customer_id\n\xff\xfe\n")

    with pytest.raises(FileInvalid, match="cannot be read"):
        list(read_rows(file, FileFormat.CSV, read_mapping(None, FileFormat.CSV), RowsPassedOver()))


def test_plain_rows_name_our_fields(tmp_path: Path) -> None:
    """Times as ISO 8601 or in milliseconds, a channel of its own, an end, and the line as evidence."""
    file = tmp_path / "a.jsonl"
    file.write_text(
        '\n{"customer_id": "C1", "purpose": "marketing", "state": "granted", "recorded_at": 1000, '
        '"valid_until": "2026-01-01T00:00:00+01:00", "channel": "email", "recipients": ["Acme"]}\n',
        encoding="utf-8",
    )

    (row,) = read_rows(file, FileFormat.JSONL, read_mapping(None, FileFormat.JSONL), RowsPassedOver())

    said = row.submission
    assert said is not None
    assert (row.line, said.evidence, said.source) == (2, "a.jsonl:2", "import:a.jsonl")
    assert (said.state, said.channel, said.recorded_at_ms) == (ConsentState.GRANTED, "email", 1000)
    assert said.valid_until_ms == 1_767_222_000_000
    assert said.terms.recipients == ("Acme",)


def test_mapping_without_end_is_refused(tmp_path: Path) -> None:
    """A tower of brackets is an error in words, as other damage is."""
    path = tmp_path / "tower.toml"
    path.write_text("columns = " + "[" * 20_000)

    with pytest.raises(FileInvalid, match="nested too deeply"):
        read_mapping(path, FileFormat.CSV)
