"""The card says what a model came from, what that asks of its users, and what was kept out."""

from pathlib import Path

import pytest

from distill import artifact, card, recipe
from distill.lineage import Lineage

GEMMA = {"class_path": "teachers.CausalLM", "version": 1, "init_args": {"base": "package:gemma-3-270m"}}
MINILM = {"class_path": "students.Encoder", "version": 1, "init_args": {"base": "package:all-MiniLM-L6-v2"}}
FACTS = {"dim": 8, "length": 16, "parity": {}, "int8": None, "bytes": {}, "texts": 0, "prompts": {}}


def made(folder: Path, verb: str, settings: dict[str, object]) -> Path:
    """A finished artifact of any recipe."""
    named = {name: {"artifact": artifact.fingerprint(held)} if isinstance(held, Path) else held
             for name, held in settings.items()}  # fmt: skip
    how = recipe.build(verb, 1, named, {})
    with artifact.claim(folder, how, {}, how):
        artifact.finish(folder, {})
    return folder


def test_the_steps_are_what_the_model_came_from_and_no_more(tmp_path: Path) -> None:
    """Harm: a card that leaves out a step hides what taught the model; one that names another accuses wrongly."""
    corpus = made(tmp_path / "corpus", "ingest", {"sources": [{"files": "x"}]})
    queries = made(tmp_path / "queries", "generate", {"passages": corpus, "model": GEMMA})
    made(tmp_path / "aside", "generate", {"passages": corpus, "model": {**GEMMA, "class_path": "teachers.Served"}})
    student = made(tmp_path / "student", "train", {"model": MINILM, "passages": corpus, "queries": [queries]})
    steps = card.steps(student)
    assert [step.name for step in steps] == ["corpus", "queries", "student"]
    assert [step.verb for step in steps] == ["ingest", "generate", "train"]
    assert steps[1].classes == ("teachers.CausalLM(package:gemma-3-270m)",)
    assert steps[2].fingerprint == artifact.fingerprint(student)


def test_licences_and_what_they_ask_are_told() -> None:
    """Harm: NV-Embed-v2 and its like may not serve a business; nobody would look."""
    held = {"package:gemma-3-270m": "gemma", "nv-embed": "cc-by-nc-4.0", "texts": "not stated", "web": "MIT"}
    said = card.markdown("a model", [], Lineage(held, {}), FACTS)
    assert all(f"- {source}: {licence}\n" in said for source, licence in held.items())
    assert "Gemma Terms of Use" in said
    assert "**For non-commercial use, or research, only: nv-embed (cc-by-nc-4.0).**" in said
    assert "licence is not known of: texts." in said
    free = card.markdown("a model", [], Lineage({"web": "MIT"}, {}), FACTS)
    assert "only:" not in free and "not known" not in free and "Gemma" not in free
    assert "None was recorded." in card.markdown("a model", [], Lineage({}, {}), FACTS)


def test_benchmarks_that_were_kept_out_are_listed_with_their_counts() -> None:
    """Harm: a score is believed though its benchmark was in one of two corpora, or was marked and left there."""
    screened = {
        "a": {"nq": {"word for word": 1200, "in part": 3}, "fiqa": {"word for word": 0, "in part": 0}},
        "b": {"nq": {"word for word": 34, "in part": 0, "kept": 34}},
        "c": {},
    }
    said = card.markdown("a model", [], Lineage({}, screened), FACTS)
    _, _, section = said.partition("## Benchmarks kept out of its training texts\n")
    assert "| nq | 1,234 | 3 | 34 | 2 of 3 |" in section and "| fiqa | 0 | 0 | 0 | 1 of 3 |" in section


@pytest.mark.parametrize("screened", [{}, {"a": {}, "b": {}}])
def test_that_nothing_was_kept_out_is_said(screened: dict[str, dict[str, dict[str, int]]]) -> None:
    """Harm: silence about benchmarks reads as if their texts were kept out."""
    said = card.markdown("a model", [], Lineage({}, screened), FACTS)
    assert "training texts\n\nNone is recorded: no step compared its texts with a benchmark's." in said
