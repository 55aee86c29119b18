"""Passages to queries: whose query a row is, what becomes of the unusable ones, and the same rows however they came."""

import functools
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from distill import artifact, files, prompts, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.interfaces import LanguageModel
from distill.models import Writer
from distill.queries import RULES
from distill.stages.generate import generate
from teachers import CausalLM

COUNT = 36


class Author(LanguageModel):
    """Answers from the prompt alone: of six notes in a row one gets a usable query, the others break a rule each.

    The task says what it was asked with.
    """

    calls: ClassVar[list[dict[str, object]]] = []

    def __init__(self, style: str = "plain") -> None:
        self.style = style

    @property
    def name(self) -> str:
        """Its style."""
        return f"author of {self.style} queries"

    def complete(self, prompts: Sequence[str], *, seed: int, **asked: Any) -> list[str]:
        """A completion of each."""
        self.calls.append({"rows": len(prompts), **asked})
        return [self._answer(prompt, seed) for prompt in prompts]

    def _answer(self, prompt: str, seed: int) -> str:
        found = re.fullmatch(r"Passage: (.*)\nKind: (.*)\nTask:", prompt)
        assert found
        words = found[1].split()
        number = int(found[1].split("note ")[1].split()[0])
        query = {
            0: f"which {self.style} note has the number {number}",
            1: "too short",
            2: " ".join(words[1:5]),
            3: "insert item x into a sorted list with bisect insort",
            4: "the same words for every note",
        }.get(number % 6)
        task = f"Asked with seed {seed} and {len(words)} words: {found[2]}."
        return task if query is None else f" {task}\nQuery: {query}\n"

    def log_likelihood(self, prompts: Sequence[str], continuations: Sequence[str], *, shared: str = "") -> np.ndarray:
        """Not needed here."""
        raise NotImplementedError

    def classify(self, prompts: Sequence[str], labels: Sequence[str], *, shared: str = "") -> np.ndarray:
        """Not needed here."""
        raise NotImplementedError


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passages of three to thirteen words, some with a title."""
    folder = tmp_path_factory.mktemp("run") / "notes"
    rows = range(COUNT)
    columns = {
        "source": ["made"] * COUNT,
        "key": [str(row) for row in rows],
        "title": ["Kept" if row % 4 == 0 else "" for row in rows],
        "text": [f"The note {row} " + " ".join(["is", "about", "birds"] * 4)[: 6 * (row % 9)].strip() for row in rows],
    }
    tables.write(folder / "passages", tables.PASSAGES, columns)
    files.write_json(folder / "recipe.json", {"verb": "ingest", "version": 1, "settings": {}})
    artifact.finish(folder, {})
    return folder


def written(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tables.read(folder, "queries").to_pylist()
    return rows


def drawn_rows(folder: Path) -> list[int]:
    """The passages of all drafts."""
    return [row["seed"] for row in tables.opened(folder / "drafts").to_pylist()]


def usable(number: int) -> bool:
    return number % 6 == 0


def test_each_query_names_the_passage_it_was_written_for(notes: Path, tmp_path: Path) -> None:
    """Harm: after the first unusable completion every query has its neighbour's passage as the right answer."""
    facts = generate(passages=notes, model=Author, words=7, part_rows=5, out=tmp_path / "out")
    texts = tables.passage_texts(tables.read(notes, "passages"))
    rows = [row for row in written(tmp_path / "out") if "number" in row["query"]]
    assert sorted(row["seed"] for row in rows) == [number for number in range(COUNT) if usable(number)]
    for row in rows:
        assert row["query"] == f"which plain note has the number {row['seed']}"
        shown = len(texts[row["seed"]].split()[:7])
        assert f"and {shown} words: " in row["task"]
        assert row["task"].endswith(tuple(f": {kind}." for kind in prompts.KINDS))
    assert {len(text.split()) > 7 for text in texts} == {True, False}
    assert facts["rows"] == len(written(tmp_path / "out"))


def test_every_passage_drawn_is_a_row_or_counted_under_its_rule(notes: Path, tmp_path: Path) -> None:
    """Harm: half of what was paid for vanishes, and nobody can tell which rule took it."""
    facts = generate(passages=notes, model=Author, out=tmp_path / "out")
    each = COUNT // 6
    assert facts["dropped"] == {
        "unparsable": each, "wrong length": each, "copied": each, "leaked": each, "repeats its task": 0,
        "another language": 0, "in a benchmark": 0, "duplicate": each - 1, "near-duplicate": 0,
    }  # fmt: skip
    assert (facts["asked"], facts["rows"]) == (COUNT, each + 1)


@pytest.mark.parametrize("part_rows", [1, 7, 18])
def test_counts_of_parts_add_up(part_rows: int, notes: Path, tmp_path: Path) -> None:
    """Harm: a part that keeps no row stops the step, or the counts are those of the last part."""
    facts = generate(passages=notes, model=Author, limit=30, part_rows=part_rows, out=tmp_path / "out")
    sizes, total = [], Counter(dict.fromkeys(RULES, 0))
    for note in tables.notes(tmp_path / "out" / "drafts"):
        assert isinstance(note["dropped"], dict) and isinstance(note["rows"], int)
        sizes.append(note["rows"] + sum(note["dropped"].values()))
        total.update(note["dropped"])
    assert sizes == [min(part_rows, 30 - at) for at in range(0, 30, part_rows)]
    dropped, rows = facts["dropped"], facts["rows"]
    assert isinstance(dropped, dict) and isinstance(rows, int)
    assert {rule: dropped[rule] for rule in total} == dict(total)
    assert rows + sum(dropped.values()) == facts["asked"] == 30
    assert dropped["duplicate"] == sum(number % 6 == 4 for number in drawn_rows(tmp_path / "out")) - 1
    assert len(written(tmp_path / "out")) == rows


@pytest.mark.parametrize(("limit", "asked"), [(10, 10), (COUNT, COUNT), (1000, COUNT)])
def test_no_passage_is_drawn_twice(limit: int, asked: int, notes: Path, tmp_path: Path) -> None:
    """Harm: of two queries of one passage each is a negative's query to the other; or a small corpus is refused."""
    facts = generate(passages=notes, model=Author, limit=limit, part_rows=1, out=tmp_path / "out")
    assert facts["asked"] == asked
    seeds = drawn_rows(tmp_path / "out")
    assert len(set(seeds)) == len(seeds)
    assert seeds != sorted(seeds)  # at random, and not the first of the corpus


def test_the_model_is_asked_as_the_recipe_says(notes: Path, tmp_path: Path) -> None:
    """Harm: the sampling in the recipe is not the one that the rows were written with."""
    Author.calls.clear()
    model = functools.partial(Author, style="dry")
    facts = generate(
        passages=notes, model=model, limit=20, part_rows=15, temperature=0.3, top_p=0.8, tokens=21,
        out=tmp_path / "out",
    )  # fmt: skip
    common = {"shared": prompts.Writing().prompt.shared, "stop": "\n\n", "temperature": 0.3, "top_p": 0.8, "tokens": 21}
    assert Author.calls == [{"rows": 15, **common}, {"rows": 5, **common}]
    assert facts["model"] == "author of dry queries"
    assert facts["prompt"] == prompts.Writing().prompt.digest
    assert facts["refers"] == {"passages": artifact.fingerprint(notes)}


def test_no_two_parts_and_no_two_seeds_draw_the_same(notes: Path, tmp_path: Path) -> None:
    """Harm: each part is sampled with the same random numbers; or three runs with three seeds are one run."""
    drawn, seeds = [], []
    for seed in (0, 1, 2):
        out = tmp_path / str(seed)
        generate(passages=notes, model=Author, seed=seed, limit=30, part_rows=10, out=out)
        drawn.append(tuple(row["seed"] for row in written(out)))
        seeds += sorted({row["task"].split(" and ")[0] for row in written(out)})
    generate(passages=notes, model=Author, seed=2, limit=30, part_rows=10, out=tmp_path / "again")
    assert written(tmp_path / "again") == written(tmp_path / "2")  # kinds, too
    assert len(set(drawn)) == 3
    assert len(seeds) == len(set(seeds)) == 9


@pytest.fixture(scope="module")
def babbler(bare_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> functools.partial[CausalLM]:
    """A language model of random weights and so few words that it often says `Query:` by chance."""
    folder = tmp_path_factory.mktemp("babbler")
    shutil.copytree(bare_decoder, folder, dirs_exist_ok=True)
    tokenizer = artifact.read_json(folder / "tokenizer.json")
    config = artifact.read_json(folder / "config.json")
    model = tokenizer["model"]
    assert isinstance(model, dict)
    model["vocab"] = {word: number for word, number in model["vocab"].items() if number < 26}
    files.write_json(folder / "tokenizer.json", tokenizer)
    files.write_json(folder / "config.json", config | {"vocab_size": 26})
    return functools.partial(CausalLM, str(folder))


def babble(passages: Path, model: Writer, out: Path, tokens: int = 30, seed: int = 0) -> Facts:
    """Three parts; a model of random weights repeats itself at a lower temperature."""
    return generate(
        passages=passages, model=model, limit=48, temperature=20.0, top_p=1.0, tokens=tokens, seed=seed, part_rows=16,
        out=out,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sampled(corpus: Path, babbler: Writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it wrote."""
    out = tmp_path_factory.mktemp("sampled") / "queries"
    babble(corpus, babbler, out)
    return out


@pytest.mark.parametrize("lost", [(1,), (0, 2), (0, 1, 2)])
def test_parts_made_again_have_the_same_bytes(
    lost: tuple[int, ...], sampled: Path, corpus: Path, babbler: Writer, tmp_path: Path
) -> None:
    """Harm: where a run was killed decides what the model wrote, and nobody can have its rows again."""
    out = tmp_path / "queries"
    shutil.copytree(sampled, out)
    facts = artifact.facts(out)
    kept = {file: file.stat().st_ino for file in (out / "drafts").iterdir() if int(file.stem[-1]) not in lost}
    assert len(kept) == 2 * (3 - len(lost))
    for file in (out / "done.json", out / "manifest.json", *(out / "drafts").iterdir()):
        if file not in kept:
            file.unlink()
    again = babble(corpus, babbler, out)
    assert {file: file.stat().st_ino for file in kept} == kept
    assert (out / "manifest.json").read_bytes() == (sampled / "manifest.json").read_bytes()
    assert len(written(out)) == again["rows"] != 0
    assert all(again[name] == facts[name] for name in ("rows", "asked", "dropped", "model", "prompt", "refers"))


def test_another_seed_gives_other_queries(sampled: Path, corpus: Path, babbler: Writer, tmp_path: Path) -> None:
    """Harm: the seed decides which passages are drawn, and the model writes the same of each."""
    babble(corpus, babbler, tmp_path / "other", seed=1)
    one, other = ({row["query"] for row in written(folder)} for folder in (sampled, tmp_path / "other"))
    assert one and other and one.isdisjoint(other)


def test_nothing_usable_is_refused_and_the_folder_is_free(corpus: Path, babbler: Writer, tmp_path: Path) -> None:
    """Harm: a table without rows passes for finished; or its recipe stands in the way of a stronger model."""
    refusal = r"^generate: none of 48 queries is usable \(\{'unparsable': \d+, .*\}\)\. Use a stronger `model`"
    with pytest.raises(Refused, match=refusal):
        babble(corpus, babbler, tmp_path / "out", tokens=3)
    assert not (tmp_path / "out").exists()
    facts = babble(corpus, babbler, tmp_path / "out")
    assert facts["rows"] == len(written(tmp_path / "out")) > 0


def test_another_recipe_does_not_go_on_with_what_is_there(notes: Path, tmp_path: Path) -> None:
    """Harm: half of the queries are written at one temperature and half at another."""
    call = functools.partial(generate, passages=notes, model=Author, part_rows=20, out=tmp_path / "out")
    call()
    for lost in (tmp_path / "out" / "done.json", tmp_path / "out" / "drafts" / "part-00001.json"):
        lost.unlink()
    with pytest.raises(Refused, match=r"another recipe.*\n  settings\.temperature: 0\.9 -> 0\.5$"):
        call(temperature=0.5)
    assert not artifact.is_done(tmp_path / "out")


class Chorus(Author):
    """Writes nearly the same for all passages, but for the words that are its number's."""

    def _answer(self, prompt: str, seed: int) -> str:
        number = int(prompt.split("note ")[1].split(maxsplit=1)[0])
        long = "what must a reader of these notes know about the birds that live near the water and in the woods"
        query = {
            0: f"{long} today number {number}",
            1: f"{long} where the herons nest",
            2: f"{long} where the HERONS nest?",
            3: f"which note speaks of {number} and why is {number} there",
        }[number % 4]
        return f" Find the note.\nQuery: {query}\n"


def test_queries_that_nearly_repeat_one_another_are_kept_once(notes: Path, tmp_path: Path) -> None:
    """Harm: a thousand passages get one query with a word changed, and the batch is full of false negatives."""
    facts = generate(passages=notes, model=Chorus, part_rows=5, out=tmp_path / "out")
    rows = written(tmp_path / "out")
    nearly = [row["query"] for row in rows if "birds" in row["query"]]
    assert len(nearly) == 2 and sum("herons" in query.lower() for query in nearly) == 1
    assert sorted(row["seed"] for row in rows if "which" in row["query"]) == list(range(3, COUNT, 4))
    assert facts["dropped"] == dict.fromkeys(RULES, 0) | {
        "in a benchmark": 0, "duplicate": COUNT // 2 - 1, "near-duplicate": COUNT // 4 - 1,
    }  # fmt: skip
    whole = generate(passages=notes, model=Chorus, out=tmp_path / "whole")
    assert whole["rows"] == facts["rows"]


def test_queries_of_a_benchmark_are_dropped(notes: Path, tmp_path: Path) -> None:
    """Harm: the model writes a question that it remembers from a benchmark, and the student is measured on it."""
    folder = tmp_path / "benchmark"
    texts = ["Which plain note has the number 6?", "which plain note has the number 12 and so on and on for ever"]
    columns = {"source": ["b"] * 2, "key": ["0", "1"], "title": ["", ""], "text": texts}
    tables.write(folder / "passages", tables.PASSAGES, columns)
    files.write_json(folder / "recipe.json", {"verb": "ingest", "version": 1, "settings": {"name": "b"}})
    artifact.finish(folder, {})
    facts = generate(passages=notes, model=Author, exclude=(folder,), out=tmp_path / "out")
    assert sorted(row["seed"] for row in written(tmp_path / "out") if "number" in row["query"]) == [0, 12, 18, 24, 30]
    dropped = facts["dropped"]
    assert isinstance(dropped, dict) and dropped["in a benchmark"] == 1
    assert facts["contamination"] == {"benchmark": {"word for word": 1, "in part": 0}}


def test_the_prompt_is_the_config_s(notes: Path, tmp_path: Path) -> None:
    """Harm: a user's kinds and examples are read, and the model is shown others."""
    Author.calls.clear()
    shown = (prompts.Written("The note 5 is about owls", "title", "Given a title, find it.", "owls by night"),)
    prompt = prompts.Writing(about="Notes.", examples=shown, kinds=("title", "claim"))
    facts = generate(passages=notes, model=Author, prompt=prompt, out=tmp_path / "out")
    assert {call["shared"] for call in Author.calls} == {prompt.prompt.shared}
    assert facts["prompt"] == prompt.prompt.digest
    assert {row["task"].rpartition(": ")[2] for row in written(tmp_path / "out")} == {"title.", "claim."}
    for wrong, said in (({"kinds": ()}, "prompt.kinds"), ({"examples": ()}, "prompt.examples")):
        with pytest.raises(Refused, match=said):
            generate(passages=notes, model=Author, prompt=prompts.Writing(**wrong), out=tmp_path / "wrong")
