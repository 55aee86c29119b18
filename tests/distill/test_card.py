"""The card says what a model came from and what that asks of its users."""

from pathlib import Path

import pytest

from distill import artifact, card, recipe

GEMMA = {"class_path": "teachers.CausalLM", "version": 1, "init_args": {"base": "package:gemma-3-270m"}}
MINILM = {"class_path": "students.Encoder", "version": 1, "init_args": {"base": "package:all-MiniLM-L6-v2"}}


def made(folder: Path, verb: str, settings: dict[str, object], facts: dict[str, object] | None = None) -> Path:
    """A finished artifact of any recipe."""
    named = {name: {"artifact": artifact.fingerprint(held)} if isinstance(held, Path) else held
             for name, held in settings.items()}  # fmt: skip
    how = recipe.build(verb, 1, named, {})
    with artifact.claim(folder, how, {}, how):
        artifact.finish(folder, facts or {})
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    corpus = made(tmp_path / "corpus", "ingest", {"sources": [{"files": "x", "licence": "CC-BY-4.0"}]})
    queries = made(tmp_path / "queries", "generate", {"passages": corpus, "model": GEMMA})
    made(tmp_path / "aside", "generate", {"passages": corpus, "model": {**GEMMA, "class_path": "teachers.Served"}})
    made(tmp_path / "student", "train", {"model": MINILM, "passages": corpus, "queries": [queries]})
    return tmp_path


def test_the_lineage_is_what_the_model_came_from_and_no_more(run: Path) -> None:
    """A card that leaves out a source hides its licence; one that names another accuses wrongly."""
    steps = card.lineage(run / "student")
    assert [step.name for step in steps] == ["corpus", "queries", "student"]
    assert [step.verb for step in steps] == ["ingest", "generate", "train"]
    assert steps[1].classes == ("teachers.CausalLM(package:gemma-3-270m)",)
    assert steps[2].fingerprint == artifact.fingerprint(run / "student")


def test_licences_are_collected_from_bases_sources_and_facts(run: Path) -> None:
    """A user could break a licence that the pipeline knew of."""
    other = made(run / "other", "train", {"model": MINILM}, {"licences": {"forum": "CC-BY-SA-4.0"}})
    assert card.licences(card.lineage(run / "student")) == {
        "corpus": "CC-BY-4.0",
        "package:gemma-3-270m": "gemma",
        "package:all-MiniLM-L6-v2": "apache-2.0",
    }
    assert card.licences(card.lineage(other))["forum"] == "CC-BY-SA-4.0"


def test_gemmas_terms_reach_the_student(run: Path) -> None:
    """A student trained on Gemma's outputs is under terms that its own base does not show."""
    (warning,) = card.warnings(card.lineage(run / "student"))
    assert "Gemma Terms of Use" in warning
    alone = made(run / "alone", "train", {"model": MINILM})
    assert card.warnings(card.lineage(alone)) == []


@pytest.mark.parametrize(
    ("licence", "said"), [("cc-by-nc-4.0", "non-commercial"), ("unknown", "licence is not known of: texts")]
)
def test_other_licences_that_bind_are_said(run: Path, licence: str, said: str) -> None:
    """NV-Embed-v2 and its like may not serve a business; nobody would look."""
    folder = made(run / "bound", "train", {"model": MINILM}, {"licences": {"texts": licence}})
    (warning,) = card.warnings(card.lineage(folder))
    assert said in warning
