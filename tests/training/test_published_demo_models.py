import io
import json
from pathlib import Path

import numpy as np
import pytest

from model_registry import PublishedModel, open_alias, verify
from training.calibration import Platt
from training.cli import main
from training.parity import run_onnx
from training.telco import Telco
from training.trees import Trees

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = ROOT / "model_registry"


@pytest.fixture(params=["churn", "propensity"])
def published(request: pytest.FixtureRequest) -> PublishedModel:
    return open_alias(REGISTRY, request.param)


def test_every_published_file_is_intact() -> None:
    """All digests of all versions verify."""
    rows = verify(REGISTRY)

    assert {row.name for row in rows} == {"churn", "propensity"}
    assert [problem for row in rows for problem in row.problems] == []


def test_the_churn_model_is_good_and_not_too_good() -> None:
    """The recorded AUC lies where honest models of this data lie."""
    metrics = open_alias(REGISTRY, "churn").manifest.metrics

    assert 0.83 <= metrics["auc_test"] <= 0.86
    assert 0.83 <= metrics["cv_auc"] <= 0.86


def test_models_are_of_the_data_that_is_there(published: PublishedModel, everyone: Telco) -> None:
    """The fingerprint in the manifest is that of the data as read today."""
    assert published.manifest.training_data["fingerprint"] == everyone.fingerprint


def test_each_target_hides_its_own_column() -> None:
    """What the label was read from is hidden when the target is scored."""
    manifest = open_alias(REGISTRY, "propensity").manifest

    own = {t: (t,) for t in manifest.targets}
    own |= {"one_year_contract": ("contract",), "two_year_contract": ("contract",)}
    own |= {"fiber_internet": ("internet_service",)}
    assert manifest.hidden == own


def test_propensity_reads_no_charges_and_nobody_reads_age(published: PublishedModel) -> None:
    """Charges would give ownership away; demographic and synthetic features are read by no model."""
    names = {model_input.name for model_input in published.manifest.inputs}

    never = {"senior_citizen", "partner", "dependents", "support_calls_30d", "data_usage_gb_30d"}
    if published.manifest.kind == "propensity":
        never |= {"monthly_charges", "total_charges"}
    assert names & never == set()


def test_the_model_file_answers_as_its_trees(published: PublishedModel, everyone: Telco) -> None:
    """On golden rows and on all customers, ONNX margins equal those of trees.npz, and the calibration
    in the graph is the manifest's.
    """
    golden = np.load(io.BytesIO(published.read("golden.npz")))
    trees = Trees.from_npz(published.read("trees.npz"))
    names = [i.name for i in published.manifest.inputs if i.source == "feature"]
    customers = everyone.vectors[:, [everyone.schema.index[name] for name in names]]
    asked = np.zeros((len(customers), len(published.manifest.inputs) - len(names)), dtype=np.float32)
    rows = np.vstack([golden["rows"], np.hstack([customers, asked])])

    margins, probabilities = run_onnx(published.read("model.onnx"), rows)

    platt = Platt(**published.manifest.calibration)
    np.testing.assert_array_equal(margins, trees.margins(rows))
    np.testing.assert_array_equal(margins[:64], golden["margin"])
    np.testing.assert_allclose(probabilities, platt.probability(margins), rtol=0, atol=1e-6)


def test_every_told_concept_has_words(published: PublishedModel) -> None:
    """Each reason code of the manifest stands in rules/reasons.yaml."""
    words = (ROOT / "rules/reasons.yaml").read_text(encoding="utf-8")

    codes = {
        c for concept in published.manifest.concepts for c in (concept.reason_raises, concept.reason_lowers)
    }

    assert {code for code in codes - {""} if f"code: {code}\n" not in words} == set()


def test_published_files_are_small(published: PublishedModel) -> None:
    """A model with all it needs stays far below a megabyte, and its reference data is readable."""
    size = sum(path.stat().st_size for path in published.folder.iterdir())

    assert size < 1_000_000
    assert json.loads(published.read("histograms.json"))["rows"] > 4000


@pytest.mark.slow
def test_training_again_gives_the_published_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole run gives the champions' digests with the libraries that published them, and with others
    much the same AUC.
    """
    options = {
        "--registry": tmp_path / "registry",
        "--customers": tmp_path / "customers.csv.gz",
        "--report": tmp_path / "report",
        "--cards": tmp_path / "cards.md",
    }
    monkeypatch.setattr("sys.argv", ["training", "all", *(str(x) for pair in options.items() for x in pair)])

    with pytest.raises(SystemExit) as ended:
        main()

    assert (ended.value.code, capsys.readouterr().out) == (0, "")
    for name in ("churn", "propensity"):
        again = open_alias(tmp_path / "registry", name).manifest
        champion = open_alias(REGISTRY, name).manifest
        assert again.metrics["auc_test"] == pytest.approx(champion.metrics["auc_test"], abs=0.005)
        if again.training_data == champion.training_data:
            assert again.files == champion.files
