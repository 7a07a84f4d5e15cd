"""Versions whose digests are right and whose content is not: each ends in one sentence, and nothing serves.

The sentences are in `bad_models.txt`. After a change of wording: UPDATE_GOLDEN=1 pytest of this file; then
read the difference, each is what an operator will get.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ensembles import arrays_of, train
from model_files import calibrate_nodes, ensemble_node, golden_of, manifest_of, npz, onnx_model, version_files
from onnx import TensorProto, helper, numpy_helper

from engine.models import onnx_format
from engine.models.errors import ModelRefused
from engine.models.loading import load_model
from engine.models.ranges import number_ranges
from model_registry import open_version, publish

GOLDEN = Path(__file__).with_name("bad_models.txt")

Bad = Callable[[Any], dict[str, bytes]]


@pytest.fixture(scope="module")
def booster():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 6)).astype(np.float32)
    return train(rows, (rows[:, 0] + rows[:, 1] > 0).astype(np.int64), rounds=3, num_leaves=5)


@pytest.fixture(scope="module")
def golden_rows():
    return np.random.default_rng(2).normal(size=(8, 6)).astype(np.float32)


def whole(booster, **changes: Any) -> onnx.ModelProto:
    """A good model, or one with a contract that is not ours."""
    return onnx_model([ensemble_node(arrays_of(booster)), *calibrate_nodes()], input_count=6, **changes)


def graph(change: Callable[[onnx.ModelProto], object], **changes: Any) -> Bad:
    """A model whose graph was tampered with."""

    def made(booster) -> dict[str, bytes]:
        model = whole(booster, **changes)
        change(model)
        return {"model.onnx": model.SerializeToString()}

    return made


def same(_model: onnx.ModelProto) -> None:
    """Nothing: the contract itself is wrong."""


def external(model: onnx.ModelProto, location: str) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def external_in_a_node(model: onnx.ModelProto) -> None:
    hidden = TensorProto(name="t", data_location=TensorProto.EXTERNAL)
    model.graph.node[1].attribute.append(helper.make_attribute("value", hidden))


def node(operator: str, **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    def add(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node(operator, ["margin"], ["odd"], **attributes))

    return add


def constant(shape: tuple[int, ...]) -> Callable[[onnx.ModelProto], None]:
    def add(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), "large"))

    return add


def probability_is(operator: str, **constants: float) -> Callable[[onnx.ModelProto], None]:
    """The last step of the graph, replaced."""

    def replace(model: onnx.ModelProto) -> None:
        for name, value in constants.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        del model.graph.node[-1]
        model.graph.node.append(helper.make_node(operator, ["log_odds", *constants], ["probability"]))

    return replace


def ensemble_attribute(name: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    """One attribute of the trees, replaced."""

    def replace(model: onnx.ModelProto) -> None:
        ensemble = model.graph.node[0]
        kept = [each for each in ensemble.attribute if each.name != name]
        old = next(each for each in ensemble.attribute if each.name == name)
        held = helper.get_attribute_value(old)
        del ensemble.attribute[:]
        new = value(list(held)) if callable(value) else value
        ensemble.attribute.extend([*kept, helper.make_attribute(name, new)])

    return replace


def first(place: int) -> Callable[[list[int]], list[int]]:
    """The list with another first value."""
    return lambda held: [place, *held[1:]]


def deep_type(booster) -> dict[str, bytes]:
    """A type within a type within a type, ten thousand times: as bytes, since protobuf would not write it."""
    nested = b""
    for _ in range(10_000):
        nested = b"\x0a" + _size(nested) + nested
        nested = b"\x22" + _size(nested) + nested
    value = b"\x0a\x01v\x12" + _size(nested) + nested
    model = whole(booster)
    graph_bytes = model.graph.SerializeToString() + b"\x6a" + _size(value) + value
    model.ClearField("graph")
    return {"model.onnx": model.SerializeToString() + b"\x3a" + _size(graph_bytes) + graph_bytes}


def _size(content: bytes) -> bytes:
    size, written = len(content), bytearray()
    while size >= 0x80:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*written, size])


def trees(**changes: Any) -> Bad:
    """trees.npz with arrays replaced, by value or by a function of the old one."""

    def made(booster) -> dict[str, bytes]:
        arrays = arrays_of(booster)
        for name, value in changes.items():
            arrays[name] = value(arrays[name]) if callable(value) else value
        return {"trees.npz": npz(arrays)}

    return made


def packed_zeros(*, held: int, said: int) -> Bad:
    """An array file that unpacks to `held` bytes and says that it does to `said`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("feature.npy", bytes(held))
    content = packed.getvalue().replace(held.to_bytes(4, "little"), said.to_bytes(4, "little"))
    return lambda _: {"trees.npz": content}


def boastful(_booster) -> dict[str, bytes]:
    """A header that promises a terabyte."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (134217728000,), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("feature.npy", content)
    return {"trees.npz": packed.getvalue()}


def pickled(booster) -> dict[str, bytes]:
    """An array of objects runs code when NumPy reads it the careless way."""
    packed = io.BytesIO()
    np.savez(packed, **{**arrays_of(booster), "feature": np.array([print], dtype=object)})
    return {"trees.npz": packed.getvalue()}


def golden(**changes: Any) -> Bad:
    def made(booster) -> dict[str, bytes]:
        rows = np.random.default_rng(2).normal(size=(8, 6)).astype(np.float32)
        arrays = golden_of(booster, rows)
        return {"golden.npz": npz({**arrays, **{n: change(arrays[n]) for n, change in changes.items()}})}

    return made


CASES: dict[str, Bad] = {
    "model is empty": lambda _: {"model.onnx": b""},
    "model is text": lambda _: {"model.onnx": b"not a model"},
    "model is cut": lambda b: {"model.onnx": whole(b).SerializeToString()[:-200]},
    "model has two graphs": lambda b: {"model.onnx": whole(b).SerializeToString() * 2},
    "model is too large": lambda b: {"model.onnx": whole(b).SerializeToString() + bytes(64 << 20)},
    "external data above the folder": graph(lambda m: external(m, "../../etc/passwd")),
    "external data anywhere": graph(lambda m: external(m, "/etc/passwd")),
    "external data in the folder": graph(lambda m: external(m, "trees.npz")),
    "external data in a node": graph(external_in_a_node),
    "custom domain": graph(same, opsets={"": 17, "ai.onnx.ml": 3, "evil.ops": 1}),
    "custom domain of a node": graph(lambda m: setattr(m.graph.node[1], "domain", "evil.ops")),
    "operator set too new": graph(same, opsets={"": 17, "ai.onnx.ml": 99}),
    "operator set too old": graph(same, opsets={"": 7, "ai.onnx.ml": 3}),
    "function": graph(lambda m: m.functions.add(name="f", domain="f")),
    "subgraph": graph(
        lambda m: m.graph.node[1].attribute.append(helper.make_attribute("body", onnx.GraphProto(name="x")))
    ),
    "loop": graph(node("Loop")),
    "operator that grows": graph(node("Tile")),
    "operator that draws": graph(node("RandomNormalLike")),
    "operator that reads files": graph(node("StringNormalizer")),
    "sparse constant": graph(lambda m: m.graph.sparse_initializer.add()),
    "constant table": graph(constant((20, 20))),
    "constant too long": graph(constant((20_000,))),
    "too many nodes": graph(lambda m: [node("Abs")(m) for _ in range(300)]),
    "other input name": graph(same, input_name="x"),
    "other input type": graph(same, input_type=TensorProto.DOUBLE),
    "other input width": graph(same, input_shape=[None, 7]),
    "fixed batch": graph(same, input_shape=[1, 6]),
    "no probability": graph(same, outputs=("margin",)),
    "probability is not a number": graph(probability_is("Mul", nothing=np.nan)),
    "probability is constant": graph(probability_is("Min", low=0.25), slope=0.0),
    "probability is another": graph(probability_is("Mul", half=0.5)),
    "ensemble of many targets": graph(ensemble_attribute("n_targets", 10**9)),
    "array file is empty": lambda _: {"trees.npz": b""},
    "array file is cut": lambda b: {"trees.npz": npz(arrays_of(b))[:-100]},
    "array file lacks arrays": lambda _: {"trees.npz": npz({"feature": np.zeros(1)})},
    "array file unpacks to much": packed_zeros(held=1_000_003, said=300 << 20),
    "array file unpacks to more than it says": packed_zeros(held=1_000_003, said=1_000),
    "array header promises much": boastful,
    "array is pickled": pickled,
    "array is text": trees(feature=np.array(["a"])),
    "trees with fractions for places": trees(left=lambda a: a.astype(np.float64)),
    "trees that go round": trees(left=lambda a: np.where(a > 0, 0, a)),
    "trees that read another input": trees(feature=lambda a: a + 6),
    "trees without end": trees(value=lambda a: np.full_like(a, np.inf)),
    "golden rows of another width": golden(rows=lambda a: a[:, :5]),
    "golden rows without rows": golden(rows=lambda a: a[:0], margin=lambda a: a[:0]),
    "golden answers that are no numbers": golden(probability=lambda a: a * np.nan),
    "golden answers of another model": golden(probability=lambda a: a + 0.01),
}  # fmt: skip


def refusal(root: Path, booster, rows, bad: Bad) -> str:
    """What loading a published version of the files says."""
    files = {**version_files(booster, rows), **bad(booster)}
    published = publish(root, manifest_of("churn"), files)
    with pytest.raises(ModelRefused) as caught:
        load_model(open_version(root, "churn", int(published.name)))
    return str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_version_is_refused_in_one_sentence_of_ours(tmp_path, booster, golden_rows, case):
    """What is wrong, in which file, and what to do."""
    told = refusal(tmp_path, booster, golden_rows, CASES[case])

    if os.environ.get("UPDATE_GOLDEN"):
        known = _known() | {case: told}
        GOLDEN.write_text("".join(f"{name}\n  {known[name]}\n" for name in CASES if name in known))
    assert told == _known()[case]
    assert "\n" not in told


def _known() -> dict[str, str]:
    if not GOLDEN.exists():
        return {}
    lines = GOLDEN.read_text().splitlines()
    return {name: text.strip() for name, text in zip(lines[::2], lines[1::2], strict=True)}


def test_the_golden_file_holds_these_cases_only():
    """A case that was taken out leaves no text behind."""
    assert list(_known()) == list(CASES)


@pytest.mark.parametrize(
    "bad",
    [
        graph(ensemble_attribute("nodes_truenodeids", first(10**6))),
        graph(ensemble_attribute("nodes_truenodeids", first(0))),
        graph(ensemble_attribute("nodes_featureids", first(10**6))),
        graph(ensemble_attribute("nodes_featureids", first(-1))),
        graph(ensemble_attribute("target_ids", first(10**6))),
        graph(ensemble_attribute("target_treeids", first(10**6))),
        graph(ensemble_attribute("nodes_modes", lambda held: [b"WHATEVER", *held[1:]])),
        graph(node("Gather")),
        deep_type,
    ],
)
def test_what_only_the_runtime_understands_is_refused_in_its_words(tmp_path, booster, golden_rows, bad):
    """Its words differ by version; they are one line of our sentence, and nothing is printed."""
    told = refusal(tmp_path, booster, golden_rows, bad)

    assert told.startswith("model churn")
    assert "\n" not in told
    assert len(told) < 500


def test_a_model_of_very_many_fields_is_given_up(monkeypatch, booster):
    """Reading a hostile file takes seconds at most, not minutes."""
    monkeypatch.setattr(onnx_format, "MAX_FIELDS", 100)

    with pytest.raises(onnx_format.FormatRefused, match="more than 100 fields"):
        onnx_format.check_model(whole(booster).SerializeToString())


def test_golden_rows_beyond_the_limit_are_refused(tmp_path, monkeypatch, booster, golden_rows):
    """A server does not start slowly because of proof it does not need."""
    monkeypatch.setattr("engine.models.loading.MAX_GOLDEN_ROWS", 4)

    told = refusal(tmp_path, booster, golden_rows, lambda _: {})

    assert "golden.npz: 8 rows; at most 4 are checked" in told


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"inputs": []}', b'{"inputs": {"a": 1}}', b'{"inputs": {"a": {"edges": 3}}}',
     b'{"inputs": {"a": {"edges": [1, 2, 3, 4], "counts": "x"}}}', b"[" * 100_000],
)  # fmt: skip
def test_histograms_that_are_none_say_whose_they_are(tmp_path, booster, golden_rows, content):
    """What-if goes on without them; the server does not fall over them."""
    publish(tmp_path, manifest_of("churn"), {"histograms.json": content})

    with pytest.raises(ValueError, match=r"churn/1/histograms\.json: holds no histograms"):
        number_ranges(tmp_path, {"churn": 1})


def test_what_training_exports_is_allowed(booster, golden_rows):
    """The list of operators holds all that our own graphs use."""
    used = {each.op_type for each in whole(booster).graph.node}

    assert used - {"TreeEnsembleRegressor"} <= onnx_format.ALLOWED_OPERATORS[""]


_FUZZ = """
import sys
sys.path[:0] = [{here!r}]
import fuzz_models
fuzz_models.run(seed={seed}, mutations={mutations})
"""


def fuzz(seed: int, mutations: int) -> subprocess.CompletedProcess[str]:
    """Runs in a process of its own: a runtime that crashes ends it, and not the tests."""
    program = _FUZZ.format(here=str(Path(__file__).parent), seed=seed, mutations=mutations)
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=1_200, check=False)


def test_damaged_files_are_refused_or_harmless():
    """Bytes changed at random, with right digests: no crash, no hang, and no error but those of the tree."""
    done = fuzz(seed=1, mutations=12)

    assert (done.returncode, done.stderr) == (0, "")
    assert "manifest.json: 12" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_damaged_files_are_refused_or_harmless(seed):
    """The same, longer."""
    done = fuzz(seed=seed, mutations=300)

    assert (done.returncode, done.stderr) == (0, "")
