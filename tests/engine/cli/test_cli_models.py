"""`arbiter models`: promotion through gates, rollback, shadow, comparison, and versions as files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from arbiter_at_work import copied_registry
from typer.testing import Result

from model_registry import open_version, publish, resolve
from model_registry.aliases import read_aliases

Run = Callable[..., Result]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """The demo's models, and a second churn version that is the first one but for a word."""
    root = copied_registry(tmp_path)
    first = open_version(root, "churn", 1)
    manifest = first.manifest.model_dump(mode="json", exclude={"files", "version"})
    files = {name: first.read(name) for name in first.manifest.files}
    publish(root, {**manifest, "intended_use": "the same again"}, files)
    return root


def why(registry: Path) -> list[tuple[object, ...]]:
    """The history of churn: version, who, forced past what."""
    return [(p.version, p.actor, p.gates) for p in read_aliases(registry, "churn").history]


def test_a_version_that_cannot_be_judged_is_refused_with_4(run: Run, registry: Path) -> None:
    """The table says what is not known; the champion stays."""
    result = run("models", "promote", "churn", "2", "--registry", registry)

    assert result.exit_code == 4
    assert "not known" in result.stdout
    assert "--force, --actor and --reason" in result.stderr
    assert resolve(registry, "churn") == 1


def test_a_forced_promotion_is_kept_and_shown(run: Run, registry: Path) -> None:
    """Who overrode which gates is in the history, which `show` prints."""
    result = run(
        "models", "promote", "churn", "2", "--force", "--actor", "risk:17", "--reason", "drill", "--json",
        "--registry", registry,
    )  # fmt: skip
    shown = run("models", "show", "churn", "--registry", registry)
    history = json.loads(run("models", "show", "churn", "--json", "--registry", registry).stdout)["history"]

    document = json.loads(result.stdout)
    assert (result.exit_code, document["promoted"]) == (0, True)
    assert {"auc", "fairness"} <= set(document["refusing"])
    assert why(registry)[-1] == (2, "risk:17", tuple(document["refusing"]))
    assert (history[-1]["reason"], history[-1]["forced"]) == ("drill", True)
    assert "drill (risk:17)" in shown.stdout


@pytest.mark.parametrize("lacking", ["--actor", "--reason"])
def test_forcing_needs_a_name_and_a_reason(run: Run, registry: Path, lacking: str) -> None:
    """Nothing is judged without them."""
    given = {"--actor": "risk:17", "--reason": "drill"}
    del given[lacking]
    words = [word for pair in given.items() for word in pair]

    result = run("models", "promote", "churn", "2", "--force", *words, "--registry", registry)

    assert result.exit_code == 3
    assert "it is kept who overrode the gates" in result.stderr
    assert resolve(registry, "churn") == 1


def test_a_dry_run_promotes_nothing(run: Run, registry: Path) -> None:
    """It ends as the promotion would, and says the same."""
    result = run("models", "promote", "churn", "2", "--dry-run", "--json", "--registry", registry)

    document = json.loads(result.stdout)
    assert (result.exit_code, document["promoted"]) == (4, False)
    assert [g["name"] for g in document["gates"]][:3] == ["loads", "parity", "auc"]
    assert len(why(registry)) == 1


def test_a_broken_version_is_refused_whoever_forces(run: Run, registry: Path) -> None:
    """A changed file ends the command before any alias moves."""
    with (registry / "churn" / "2" / "golden.npz").open("ab") as file:
        file.write(b"x")

    result = run(
        "models", "promote", "churn", "2", "--force", "--actor", "a", "--reason", "b", "--registry", registry
    )

    assert result.exit_code == 4
    assert "golden.npz" in result.stderr
    assert resolve(registry, "churn") == 1


def test_rollback_goes_to_the_champion_before(run: Run, registry: Path) -> None:
    """With a reason, and an error where nothing was before."""
    force = ("--force", "--actor", "risk:17", "--reason", "drill", "--registry", registry)
    run("models", "promote", "churn", "2", *force)

    back = run("models", "rollback", "churn", "--reason", "worse", "--actor", "ops:1", "--registry", registry)
    further = run("models", "rollback", "churn", "--reason", "worse", "--registry", registry)

    assert (back.exit_code, back.stdout) == (0, "churn: champion 2 to 1\n")
    assert why(registry)[-1] == (1, "ops:1", ())
    assert further.exit_code == 3
    assert "no version was champion before" in further.stderr


def test_rollback_needs_a_reason(run: Run, registry: Path) -> None:
    """It is kept for good."""
    assert run("models", "rollback", "churn", "--registry", registry).exit_code == 2
    assert run("models", "rollback", "churn", "--reason", "", "--registry", registry).exit_code == 3


def test_a_shadow_is_set_and_taken_away(run: Run, registry: Path) -> None:
    """It needs to load and to be one model; figures do not keep it."""
    put = run("models", "shadow", "churn", "2", "--registry", registry)
    held = resolve(registry, "churn", "shadow")
    taken = run("models", "shadow", "churn", "--none", "--json", "--registry", registry)
    again = run("models", "shadow", "churn", "--none", "--registry", registry)
    both = run("models", "shadow", "churn", "2", "--none", "--registry", registry)

    assert (put.exit_code, held) == (0, 2)
    assert json.loads(taken.stdout) == {"model": "churn", "alias": "shadow", "version": None}
    assert (again.exit_code, both.exit_code) == (3, 3)


def test_aliases_that_promotion_does_not_set_are_refused(run: Run, registry: Path) -> None:
    """A mistyped alias does not come to be."""
    result = run("models", "promote", "churn", "2", "--alias", "chmapion", "--registry", registry)

    assert result.exit_code == 3
    assert "give champion or challenger" in result.stderr


def test_two_versions_are_compared(run: Run, registry: Path) -> None:
    """Figures side by side, sizes, and why nothing could be measured."""
    told = run("models", "compare", "churn/1", "churn/2", "--registry", registry)
    document = run("models", "compare", "churn/champion", "churn/2", "--registry", registry, "--json")

    found = json.loads(document.stdout)
    assert (told.exit_code, document.exit_code) == (0, 0)
    assert "auc_test" in told.stdout
    assert found["measured"] == "churn/2 has no holdout.npz"
    assert found["metrics"]["auc_test"]["first"] == found["metrics"]["auc_test"]["second"]
    assert (found["inputs_added"], found["inputs_removed"], found["differences"]) == ([], [], {})


def test_a_version_is_shown(run: Run, registry: Path) -> None:
    """By number, by alias, or the champion; as a document with its whole manifest."""
    whole = run("models", "show", "churn/2", "--json", "--registry", registry)
    champion = run("models", "show", "churn/champion", "--json", "--registry", registry)
    unknown = run("models", "show", "churn/nobody", "--registry", registry)

    assert json.loads(whole.stdout)["manifest"]["intended_use"] == "the same again"
    assert json.loads(champion.stdout)["aliases"] == ["champion"]
    assert (unknown.exit_code, "has no alias 'nobody'" in unknown.stderr) == (3, True)


def test_a_version_travels_as_a_file(run: Run, registry: Path, tmp_path: Path) -> None:
    """Exported here, imported there, the same; a damaged file is refused."""
    file = tmp_path / "churn-2.tar.gz"
    other = tmp_path / "other"

    out = run("models", "export", "churn", "2", "--out", file, "--registry", registry)
    into = run("models", "import", file, "--registry", other, "--json")
    again = run("models", "import", file, "--registry", other)
    file.write_bytes(file.read_bytes()[:-50])
    cut = run("models", "import", file, "--registry", other)

    assert (out.exit_code, into.exit_code, again.exit_code) == (0, 0, 0)
    assert json.loads(into.stdout)["new"]
    assert "was there already" in again.stdout
    assert open_version(other, "churn", 2).digest == open_version(registry, "churn", 2).digest
    assert (cut.exit_code, "bytes end too early" in cut.stderr) == (3, True)


def test_files_that_are_not_there_end_with_3(run: Run, registry: Path, tmp_path: Path) -> None:
    """The path is named."""
    missing = run("models", "import", tmp_path / "none.tar.gz", "--registry", registry)
    unwritable = run("models", "export", "churn", "1", "--out", tmp_path / "no" / "f", "--registry", registry)

    assert (missing.exit_code, "none.tar.gz: cannot be read" in missing.stderr) == (3, True)
    assert (unwritable.exit_code, "cannot be written" in unwritable.stderr) == (3, True)


def test_a_registry_may_be_an_object_store(
    run: Run, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command takes a URL where it takes a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "churn-1.tar.gz"
    store = f"memory://cli-{tmp_path.name}"
    run("models", "export", "churn", "1", "--out", file, "--registry", registry)

    into = run("models", "import", file, "--registry", store)
    first = run("models", "promote", "churn", "1", "--registry", store)
    listed = run("models", "list", "--registry", store, "--json")
    setting = run("settings", "--registry", "ftp://me:secret@host/models", "--json")

    assert (into.exit_code, first.exit_code) == (0, 0)
    assert json.loads(listed.stdout)[0]["aliases"] == {"champion": 1}
    shown = {row["name"]: row["value"] for row in json.loads(setting.stdout)}
    assert shown["ARBITER_REGISTRY"] == "ftp://host/models"


def test_limits_that_cannot_be_read_stop_a_promotion(run: Run, registry: Path) -> None:
    """With the file and the place in it."""
    (registry / "churn" / "gates.toml").write_text("surprise = 1")

    result = run("models", "promote", "churn", "2", "--registry", registry)

    assert (result.exit_code, "gates.toml: surprise" in result.stderr) == (3, True)
