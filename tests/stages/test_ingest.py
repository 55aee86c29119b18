"""Bringing data in: the tables it writes, each text once, every drop counted, and a benchmark kept out."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from distill import artifact, tables
from distill.errors import Refused
from distill.readers import BEIR, JSONL, Reader, TextFolder
from distill.show import show
from distill.stages import ingest as module
from distill.stages.ingest import ingest

WORDS = [f"word{number}" for number in range(3000)]
LONG = "the quick brown fox jumps over the lazy dog and then it sleeps until the next morning comes"


def lines(file: Path, *records: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def retrieval(file: Path, *records: tuple[str, object] | tuple[str, object, object], **settings: object) -> JSONL:
    rows = [dict(zip(("query", "positive", "negatives"), record, strict=False)) for record in records]
    return JSONL(path=lines(file, *rows), kind="retrieval", task="find", **settings)


def labelled(file: Path, *records: tuple[str, str], **settings: object) -> JSONL:
    rows = [{"text": text, "label": label} for text, label in records]
    return JSONL(path=lines(file, *rows), **{"kind": "classification", "task": "tell", **settings})


def rows(folder: Path, table: str) -> list[dict[str, object]]:
    return tables.read(folder, table).to_pylist()


def test_retrieval_rows(tmp_path: Path) -> None:
    """Harm: an example points at another passage than the one its file gave."""
    source = retrieval(tmp_path / "a.jsonl", ("one?", "answer one", ["wrong", "answer two"]), ("two?", "answer two"))
    facts = ingest(sources=(source,), out=tmp_path / "out")
    texts = [row["text"] for row in rows(tmp_path / "out", "passages")]
    assert texts == ["answer one", "wrong", "answer two"]
    assert rows(tmp_path / "out", "queries") == [
        {"task": "find", "query": "one?", "seed": 0},
        {"task": "find", "query": "two?", "seed": 2},
    ]
    first, second = rows(tmp_path / "out", "examples")
    common = {"kind": "retrieval", "task": "find", "scores": [], "in_batch": True, "symmetric": False, "group": -1}
    assert first == common | {"query": "one?", "passages": [0, 1, 2], "origin": 0}
    assert second == common | {"query": "two?", "passages": [2], "origin": 1}
    assert (facts["passages"], facts["queries"], facts["examples"]) == (3, 2, 2)
    assert facts["kinds"] == {"retrieval": 2}


def test_the_positives_of_one_query_are_not_each_others_negatives(tmp_path: Path) -> None:
    """Harm: two right answers to one question are pushed apart in a batch."""
    source = retrieval(tmp_path / "a.jsonl", ("q", ["right", "also"], ["wrong"]), ("r", "other"))
    ingest(sources=(source,), out=tmp_path / "out")
    first, second, third = rows(tmp_path / "out", "examples")
    assert (first["passages"], second["passages"]) == ([0, 2], [1, 2])
    assert first["group"] == second["group"] != -1
    assert third["group"] == -1


def beir(folder: Path, judged: str) -> Path:
    documents = ("d1", "one"), ("d2", "two"), ("d3", "three"), ("d4", "one")
    lines(folder / "corpus.jsonl", *({"_id": key, "title": "", "text": text} for key, text in documents))
    lines(folder / "queries.jsonl", {"_id": "q", "text": "which?"})
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def test_a_benchmark_keeps_every_grade_in_one_row(tmp_path: Path) -> None:
    """Harm: graded answers are evaluated as right or wrong, or a copy of an answer as a wrong one."""
    folder = beir(tmp_path / "in", "q\td3\t1\nq\td1\t2\nq\td2\t0\nq\td4\t0\n")
    ingest(sources=(BEIR(path=folder, task="t"),), out=tmp_path / "out")
    (example,) = rows(tmp_path / "out", "examples")
    assert (example["passages"], example["scores"]) == ([0, 2, 1], [2, 1, 0])
    assert [row["seed"] for row in rows(tmp_path / "out", "queries")] == [0, 2]
    ingest(sources=(BEIR(path=folder, task="t", benchmark=False),), out=tmp_path / "train")
    assert [(row["passages"], row["scores"]) for row in rows(tmp_path / "train", "examples")] == [
        ([0, 1], []),
        ([2, 1], []),
    ]


@pytest.mark.parametrize("at_once", [1, 4096])
def test_a_question_in_several_rows_of_a_benchmark_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Harm: of a question with three answers three queries are made, each of which counts two answers as wrong."""
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    flat = [("q", "one", ["two"]), ("other", "three"), ("q", "two", ["four"]), ("q", "three"), ("q", "one")]
    ingest(sources=(retrieval(tmp_path / "a.jsonl", *flat, benchmark=True),), out=tmp_path / "out")
    texts = [row["text"] for row in rows(tmp_path / "out", "passages")]
    first, second = rows(tmp_path / "out", "examples")
    judged = dict(zip([texts[at] for at in first["passages"]], first["scores"], strict=True))
    assert (first["query"], judged) == ("q", {"one": 1, "two": 1, "three": 1, "four": 0})
    assert texts[first["passages"][-1]] == "four"
    assert (second["query"], [texts[at] for at in second["passages"]], second["scores"]) == ("other", ["three"], [1])
    queries = rows(tmp_path / "out", "queries")
    assert [(row["query"], texts[row["seed"]]) for row in queries] == [
        ("q", "one"),
        ("q", "two"),
        ("q", "three"),
        ("other", "three"),
    ]
    assert (first["origin"], second["origin"]) == (0, 3)


def test_one_question_of_two_tasks_stays_two(tmp_path: Path) -> None:
    """Harm: what answers a question under one instruction is counted as its answer under another."""
    sources = [
        JSONL(path=lines(tmp_path / f"{task}.jsonl", {"query": "q", "positive": task}), kind="retrieval", task=task,
              benchmark=True)
        for task in ("a", "b")
    ]  # fmt: skip
    ingest(sources=tuple(sources), out=tmp_path / "out")
    found = [(row["task"], row["passages"]) for row in rows(tmp_path / "out", "examples")]
    assert found == [("a", [0]), ("b", [1])]


def test_labelled_texts_share_rows_with_passages(tmp_path: Path) -> None:
    """Harm: a text is stored and embedded twice, and a text is its own negative under another number."""
    passages = JSONL(path=lines(tmp_path / "p.jsonl", {"text": "a cat"}, {"text": "unrelated"}))
    labels = labelled(tmp_path / "l.jsonl", ("a cat", "pet"), ("a dog", "pet"), ("a bus", "car"), ("a van", "car"))
    ingest(sources=(passages, labels), negatives=1, out=tmp_path / "out")
    texts = [row["text"] for row in rows(tmp_path / "out", "passages")]
    assert texts == ["a cat", "unrelated", "a dog", "a bus", "a van"]
    examples = {row["query"]: row for row in rows(tmp_path / "out", "examples")}
    assert set(examples) == {"a cat", "a dog", "a bus", "a van"}
    assert texts[examples["a cat"]["passages"][0]] == "a dog"
    assert texts[examples["a cat"]["passages"][1]] in ("a bus", "a van")
    assert examples["a cat"]["group"] == examples["a dog"]["group"] != examples["a bus"]["group"]
    assert not examples["a cat"]["in_batch"]
    assert not (tmp_path / "out" / "queries").exists()


def test_groups_of_two_tasks_never_meet(tmp_path: Path) -> None:
    """Harm: class 0 of one task and class 0 of another count as one class."""
    texts = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")]
    sources = (
        retrieval(tmp_path / "0.jsonl", ("q", ["right", "also"])),
        labelled(tmp_path / "1.jsonl", *texts),
        labelled(tmp_path / "2.jsonl", *texts, kind="clustering"),
    )
    ingest(sources=sources, negatives=1, out=tmp_path / "out")
    groups: dict[str, set[object]] = {}
    for row in rows(tmp_path / "out", "examples"):
        groups.setdefault(row["kind"], set()).add(row["group"])
    assert [len(groups[kind]) for kind in ("retrieval", "classification", "clustering")] == [1, 2, 2]
    assert len(set.union(*groups.values())) == 5


def test_pairs_for_training_and_for_evaluation(tmp_path: Path) -> None:
    """Harm: dissimilar pairs are trained on as positives, or a benchmark keeps only the similar ones."""
    records = [("a", "b", 5), ("c", "d", 4), ("e", "f", 1)]
    file = lines(tmp_path / "s.jsonl", *({"sentence1": a, "sentence2": b, "score": s} for a, b, s in records))
    settings = {"path": file, "kind": "sts", "task": "alike"}
    facts = ingest(sources=(JSONL(**settings),), negatives=1, out=tmp_path / "train")
    made = rows(tmp_path / "train", "examples")
    assert {row["query"] for row in made} == {"a", "b", "c", "d"}
    assert all(row["symmetric"] and row["scores"] == [] and len(row["passages"]) == 2 for row in made)
    assert facts["dropped"] == {"pair not alike": 1}
    ingest(sources=(JSONL(**settings, benchmark=True),), out=tmp_path / "test")
    made = rows(tmp_path / "test", "examples")
    assert [(row["query"], row["passages"], row["scores"]) for row in made] == [
        ("a", [1], [1.0]),
        ("c", [3], [pytest.approx(0.8)]),
        ("e", [5], [pytest.approx(0.2)]),
    ]


def test_what_is_dropped_is_counted_by_rule(tmp_path: Path) -> None:
    """Harm: half of the corpus vanishes and nobody is told."""
    texts = ["kept", "", " \n", "kept", "nul \0", "lone \ud800", "x" * 100_001]
    passages = JSONL(path=lines(tmp_path / "p.jsonl", *({"text": text} for text in texts)), licence="CC0")
    records = ("q", "kept"), ("q", "kept"), ("", "kept"), ("r", "nul \0"), ("s", "kept", ["kept", ""])
    facts = ingest(sources=(passages, retrieval(tmp_path / "r.jsonl", *records)), out=tmp_path / "out")
    assert facts["passages"] == 1
    assert facts["dropped"] == {
        "passage empty": 2,
        "passage repeated": 1,
        "passage too long": 1,
        "passage with invalid characters": 2,
        "query empty": 1,
        "query repeated": 1,
        "query without a passage left": 1,
    }
    assert rows(tmp_path / "out", "examples")[-1]["passages"] == [0]
    assert facts["licences"] == {"p.jsonl": "CC0", "r.jsonl": "not stated"}


def test_a_benchmark_is_kept_out(tmp_path: Path) -> None:
    """Harm: the score of record is measured on training text."""
    benchmark = retrieval(tmp_path / "b.jsonl", ("where does the fox sleep?", LONG), benchmark=True)
    ingest(sources=(benchmark,), out=tmp_path / "benchmark")
    records = [
        ("Where does the fox sleep", "an innocent answer"),
        ("a new question", LONG.upper()),
        ("another", LONG[:70] + " followed by other words that are all new"),
        ("kept", "a good answer", [LONG, "a bad answer"]),
    ]
    sources = (
        retrieval(tmp_path / "t.jsonl", *records),
        labelled(tmp_path / "l.jsonl", (LONG, "a"), ("cat", "a"), ("dog", "a"), ("bus", "b"), ("van", "b")),
    )
    facts = ingest(sources=sources, exclude=(tmp_path / "benchmark",), negatives=2, out=tmp_path / "out")
    texts = [row["text"] for row in rows(tmp_path / "out", "passages")]
    assert texts == ["an innocent answer", "a good answer", "a bad answer", "cat", "dog", "bus", "van"]
    asked = [row for row in rows(tmp_path / "out", "examples") if row["kind"] == "retrieval"]
    assert [(row["query"], row["passages"]) for row in asked] == [("kept", [1, 2])]
    assert facts["dropped"] == {
        "passage in a benchmark, in part": 1,
        "passage in a benchmark, word for word": 2,
        "query in a benchmark, word for word": 1,
        "query without a passage left": 2,
    }
    assert facts["contamination"] == {"benchmark": {"word for word": 3, "in part": 1}}
    assert "contaminated" not in tables.describe(tmp_path / "out")


def test_each_excluded_benchmark_has_its_own_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a score is trusted since the counts of its benchmark are those of another one."""
    words = random.Random(5)
    told = {name: [" ".join(words.choices(WORDS, k=30)) for _ in range(12)] for name in ("a", "b")}
    told["b"][:4] = told["a"][:4]  # both hold these
    for name, texts in told.items():
        source = JSONL(path=lines(tmp_path / f"{name}.jsonl", *({"text": text} for text in texts)))
        ingest(sources=(source,), out=tmp_path / name)
    given = [text for texts in told.values() for text in texts] * 2  # what is dropped is counted each time it is given
    given += [" ".join([*text.split()[:22], "and", "something", "else"]) for text in told["a"][2:9]]
    given += [" ".join(words.choices(WORDS, k=30)) for _ in range(20)]
    monkeypatch.setattr(module, "AT_ONCE", 7)
    source = JSONL(path=lines(tmp_path / "c.jsonl", *({"text": text} for text in given)))
    facts = ingest(sources=(source,), exclude=(tmp_path / "a", tmp_path / "b"), out=tmp_path / "out")

    def runs(text: str) -> set[tuple[str, ...]]:
        said = text.split()
        return {tuple(said[at : at + 8]) for at in range(len(said) - 7)}

    counted = {name: {"word for word": 0, "in part": 0} for name in told}
    for text in given:
        for name, texts in told.items():
            if text in texts:
                counted[name]["word for word"] += 1
            elif any(len(runs(text) & runs(held)) * 2 >= min(len(runs(text)), len(runs(held))) for held in texts):
                counted[name]["in part"] += 1
    assert facts["contamination"] == counted
    assert counted["a"]["in part"] == 7 and counted["b"]["in part"] == 2
    assert facts["passages"] == 20


def test_what_is_found_of_a_benchmark_can_be_kept_and_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: who keeps such rows cannot tell them from the others, or is shown counts of other rows than are marked."""
    benchmark = retrieval(tmp_path / "b.jsonl", ("where does the fox sleep?", LONG), benchmark=True)
    ingest(sources=(benchmark,), out=tmp_path / "benchmark")
    asked = retrieval(
        tmp_path / "t.jsonl",
        ("Where does the fox sleep", ["an innocent answer", "another one"]),
        ("a new question", LONG.upper()),
        ("graded", "fine"),
    )
    half = LONG[:70] + " followed by words that are all new"
    plain = {"text": LONG}, {"text": LONG}, {"title": LONG, "text": "below"}, {"text": half}
    sources = (
        JSONL(path=lines(tmp_path / "p.jsonl", *plain)),
        asked,
        retrieval(tmp_path / "g.jsonl", ("WHERE does the fox sleep?", "graded answer"), benchmark=True),
        labelled(tmp_path / "l.jsonl", (LONG, "a"), ("cat", "a"), ("bus", "b"), ("van", "b")),
    )
    out = tmp_path / "out"
    facts = ingest(sources=sources, exclude=(tmp_path / "benchmark",), contamination="tag", negatives=2, out=out)
    assert facts["dropped"] == {"passage repeated": 1}
    examples, passages, marked = (rows(out, table) for table in ("examples", "passages", "contaminated"))
    rules = {"where does the fox sleep": "word for word", LONG: "word for word", half: "in part"}
    assert {(row["passage"], row["benchmark"], row["rule"]) for row in marked if row["passage"] >= 0} == {
        (number, "benchmark", rules[said])
        for number, row in enumerate(passages)
        for said in (row["title"], row["text"].lower())
        if said in rules
    }
    asks = {number: row["query"].lower().strip("?") for number, row in enumerate(examples)}
    assert {(row["example"], row["rule"]) for row in marked if row["example"] >= 0} == {
        (number, rules[query]) for number, query in asks.items() if query in rules
    }
    assert all((row["passage"] < 0) != (row["example"] < 0) for row in marked)
    assert {row["query"] for row in examples if row["query"].lower().strip("?") in rules} == {
        "Where does the fox sleep", "WHERE does the fox sleep?", LONG,
    }  # fmt: skip
    by_rule = Counter(row["rule"] for row in marked)
    assert facts["contamination"] == {"benchmark": {**by_rule, "kept": len(marked)}}
    show(out, rows=100)
    said = capsys.readouterr().out
    assert f"passage: 0  {LONG}" in said and "Where does the fox sleep\n" in said.partition("contaminated: ")[2]


def test_marking_without_a_benchmark_is_refused(tmp_path: Path) -> None:
    """Harm: one believes that rows are marked, and nothing was compared."""
    source = JSONL(path=lines(tmp_path / "p.jsonl", {"text": "text"}))
    with pytest.raises(Refused, match="tag marks rows that occur in `exclude`, and nothing is excluded"):
        ingest(sources=(source,), contamination="tag", out=tmp_path / "out")


def test_a_benchmark_in_a_title_is_kept_out(tmp_path: Path) -> None:
    """Harm: a model reads the title before the text, and so the benchmark's answer or question with it."""
    benchmark = JSONL(path=lines(tmp_path / "b.jsonl", {"title": "On foxes", "text": "They sleep."}))
    asked = retrieval(tmp_path / "q.jsonl", ("where does the fox sleep?", LONG), benchmark=True)
    ingest(sources=(benchmark, asked), out=tmp_path / "benchmark")
    corpus = [
        {"title": LONG, "text": "A passage under a title that is the benchmark's answer."},
        {"title": "Where does the fox sleep?", "text": "A passage under a question of the benchmark."},
        {"title": "", "text": "On foxes: they sleep."},
        {"title": LONG[: len(LONG) // 2], "text": LONG[len(LONG) // 2 :]},
        {"title": LONG, "text": ""},
        {"title": "On foxes", "text": "They hunt."},
        {"title": " ", "text": "Nothing of it."},
    ]
    source = JSONL(path=lines(tmp_path / "c.jsonl", *corpus))
    facts = ingest(sources=(source,), exclude=(tmp_path / "benchmark",), out=tmp_path / "out")
    assert [row["text"] for row in rows(tmp_path / "out", "passages")] == ["They hunt.", "Nothing of it."]
    assert facts["dropped"] == {
        "passage in a benchmark, in part": 1,
        "passage in a benchmark, word for word": 4,
    }


def test_an_id_that_no_table_can_hold_is_named(tmp_path: Path) -> None:
    """Harm: a traceback when the part is written, 50,000 rows after the faulty one."""
    file = lines(tmp_path / "p.jsonl", {"key": "a", "text": "one"}, {"key": "lone \ud800", "text": "two"})
    assert f"{file}, line 2: id 'lone \\ud800' is no UTF-8" in refusal(tmp_path, JSONL(path=file))


@pytest.mark.parametrize("out", ["docs/runs/corpus", "docs"])
def test_an_output_inside_the_folder_that_is_read_is_refused(tmp_path: Path, out: str) -> None:
    """Harm: the first run goes well, and every one after it is refused for a folder that nobody touched."""
    (tmp_path / "docs").mkdir()
    source = TextFolder(path=tmp_path / "docs")
    with pytest.raises(Refused, match=rf"docs, which TextFolder reads, holds the output .*{out}"):
        ingest(sources=(source,), out=tmp_path / out)
    (tmp_path / "docs").mkdir(exist_ok=True)
    (tmp_path / "docs" / "a.md").write_text("text")
    ingest(sources=(source,), out=tmp_path / "docs-out")


def test_rows_of_another_artifact_are_refused(tmp_path: Path) -> None:
    """Harm: a benchmark's examples are joined with the corpus's passages, and every join is silently wrong."""
    for name in ("one", "two"):
        ingest(sources=(retrieval(tmp_path / f"{name}.jsonl", (name, "answer")),), out=tmp_path / name)
    artifact.check_refers(tmp_path / "one", "passages", tmp_path / "one")
    with pytest.raises(Refused, match="another table of passages"):
        artifact.check_refers(tmp_path / "one", "passages", tmp_path / "two")


def test_many_rows_go_into_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: the rows of the second part are numbered as those of the first."""
    monkeypatch.setattr(module, "PART", 10)
    monkeypatch.setattr(module, "AT_ONCE", 7)
    source = retrieval(tmp_path / "a.jsonl", *((f"q{number}", f"answer {number}") for number in range(35)))
    classes = labelled(tmp_path / "l.jsonl", *((f"text {number}", str(number % 3)) for number in range(25)))
    ingest(sources=(source, classes), negatives=2, out=tmp_path / "out")
    passages = [row["text"] for row in rows(tmp_path / "out", "passages")]
    assert len(passages) == 60
    assert len(list((tmp_path / "out" / "passages").glob("*.arrow"))) == 6
    for row in rows(tmp_path / "out", "examples"):
        if row["kind"] == "retrieval":
            assert passages[row["passages"][0]] == f"answer {row['query'][1:]}"
            assert rows(tmp_path / "out", "queries")[row["origin"]]["query"] == row["query"]
        else:
            own, *others = (int(passages[at].split()[1]) % 3 for at in row["passages"])
            assert own == int(row["query"].split()[1]) % 3
            assert own not in others


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    """Harm: a corpus made again makes everything after it stale."""
    source = labelled(tmp_path / "l.jsonl", *((f"text {number}", str(number % 3)) for number in range(25)))
    for name in ("one", "two"):
        ingest(sources=(source,), out=tmp_path / name)
    found = [(tmp_path / name / "examples" / "part-00000.arrow").read_bytes() for name in ("one", "two")]
    assert found[0] == found[1]
    assert artifact.fingerprint(tmp_path / "one") == artifact.fingerprint(tmp_path / "two")
    lines(source.path, {"text": "other", "label": "1"})
    with pytest.raises(Refused, match="another recipe"):
        ingest(sources=(source,), out=tmp_path / "one")


def test_parts_of_a_killed_run_are_made_anew(tmp_path: Path) -> None:
    """Harm: rows of a run that died are read as rows of this one."""
    source = retrieval(tmp_path / "a.jsonl", ("q", "answer"))
    ingest(sources=(source,), out=tmp_path / "out")
    leftover = (tmp_path / "out" / "passages" / "part-00000").with_suffix
    for ending in (".arrow", ".json"):
        leftover(ending).rename(leftover(ending).with_name("part-00001" + ending))
    (tmp_path / "out" / "done.json").unlink()
    ingest(sources=(source,), out=tmp_path / "out")
    assert [row["text"] for row in rows(tmp_path / "out", "passages")] == ["answer"]


def test_a_source_refused_late_can_be_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: parts written before the faulty line make the mended source look like another recipe's work."""
    monkeypatch.setattr(module, "PART", 1)
    file = tmp_path / "a.jsonl"
    lines(file, {"text": "first"}, {"text": "second"}, {"text": 3})
    refusal(tmp_path, JSONL(path=file))
    lines(file, {"text": "first"}, {"text": "second"}, {"text": "third"})
    ingest(sources=(JSONL(path=file),), out=tmp_path / "out")
    assert len(rows(tmp_path / "out", "passages")) == 3


def refusal(tmp_path: Path, *sources: Reader, **settings: object) -> str:
    with pytest.raises(Refused) as caught:
        ingest(sources=sources, out=tmp_path / "out", **settings)
    assert not artifact.is_done(tmp_path / "out")
    return str(caught.value)


def test_a_judgement_of_an_unknown_document_is_named(tmp_path: Path) -> None:
    """Harm: an answer that is not in the corpus is passed over, and the benchmark gets easier."""
    folder = beir(tmp_path / "in", "q\td1\t1\nq\td9\t1\n")
    message = refusal(tmp_path, BEIR(path=folder))
    assert "qrels/test.tsv, line 2: no passage 'd9' in the corpus" in message


def test_an_id_with_two_texts_is_named(tmp_path: Path) -> None:
    """Harm: the judgements of one document count for another."""
    file = lines(tmp_path / "p.jsonl", {"key": "a", "text": "one"}, {"key": "a", "text": "two"})
    assert f"{file}, line 2: id 'a' came before with another text" in refusal(tmp_path, JSONL(path=file))


def test_ids_count_within_their_source(tmp_path: Path) -> None:
    """Harm: two corpora that both number their passages from 1 cannot be read together."""
    files = [lines(tmp_path / f"{name}.jsonl", {"key": "1", "text": name}) for name in ("a", "b")]
    assert ingest(sources=tuple(JSONL(path=file) for file in files), out=tmp_path / "out")["passages"] == 2


def test_sources_without_rows_are_refused(tmp_path: Path) -> None:
    """Harm: an empty file trains a model on whatever else there is."""
    file = lines(tmp_path / "p.jsonl")
    assert f"JSONL {file}: no rows" in refusal(tmp_path, JSONL(path=file))
    file = lines(tmp_path / "q.jsonl", {"text": " "})
    assert "no passage is left; dropped: {'passage empty': 1}" in refusal(tmp_path / "b", JSONL(path=file))


def test_a_task_without_two_classes_is_named(tmp_path: Path) -> None:
    """Harm: of ten tasks one cannot be used, and the message does not say which."""
    source = labelled(tmp_path / "l.jsonl", ("a", "x"), ("b", "x"))
    assert "classification 'tell': texts of fewer than two classes" in refusal(tmp_path, source)


def test_numbers_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    """Harm: labelled texts without a negative, whose loss is zero, or a limit that reads nothing."""
    source = retrieval(tmp_path / "a.jsonl", ("q", "answer"))
    assert "negatives: 0" in refusal(tmp_path, source, negatives=0)
    other = retrieval(tmp_path / "a.jsonl", ("q", "answer"), limit=0)
    assert "limit: 0 of JSONL" in refusal(tmp_path / "b", other)


def test_labels_as_texts_and_as_examples(tmp_path: Path) -> None:
    """Harm: texts of one class are read with a task on one side alone; or a label is read as a query."""
    rows = [{"text": f"text {n} of it", "label": ("good", "bad")[n % 2]} for n in range(8)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {}
    for positive in ("example", "label"):
        source = JSONL(path=tmp_path / "a.jsonl", kind="classification", task="Judge", positive=positive)  # type: ignore[arg-type]
        ingest(sources=(source,), negatives=1, out=tmp_path / positive)
        texts = tables.passage_texts(tables.read(tmp_path / positive, "passages"))
        held = tables.read(tmp_path / positive, "examples").to_pylist()
        made[positive] = [(row["query"], [texts[at] for at in row["passages"]], row["symmetric"]) for row in held]
    assert sorted(made["label"]) == [
        (row["text"], ["good", "bad"] if row["label"] == "good" else ["bad", "good"], False) for row in rows
    ]
    kinds = {row["text"]: row["label"] for row in rows}
    for query, (right, wrong), symmetric in made["example"]:
        assert symmetric and right != query and kinds[right] == kinds[query] != kinds[wrong]


def test_labelled_texts_of_a_benchmark_stand_alone(tmp_path: Path) -> None:
    """Harm: texts that are to be told apart lie among the passages that are searched, or are trained on."""
    texts = [("a one", "A"), ("b one", "B"), ("a two", "A"), ("a one", "B"), (" ", "A"), ("b one", "B")]
    sources = (
        labelled(tmp_path / "a.jsonl", *texts, benchmark=True),
        labelled(tmp_path / "b.jsonl", ("a one", "A"), kind="clustering", benchmark=True),
    )
    facts = ingest(sources=sources, out=tmp_path / "out")
    found = [(row["kind"], row["query"], row["passages"], row["group"]) for row in rows(tmp_path / "out", "examples")]
    assert found == [
        ("classification", "b one", [], 1),
        ("classification", "a two", [], 0),
        ("clustering", "a one", [], 2),
    ]
    assert facts["dropped"] == {"text empty": 1, "text of two labels": 1, "text repeated": 1}
    assert rows(tmp_path / "out", "passages") == []
    corpus = labelled(tmp_path / "c.jsonl", ("b one", "x"), ("c", "x"), ("d", "x"), ("e", "y"), ("f", "y"))
    kept = ingest(sources=(corpus,), exclude=(tmp_path / "out",), out=tmp_path / "corpus")
    assert [row["text"] for row in rows(tmp_path / "corpus", "passages")] == ["c", "d", "e", "f"]
    assert kept["dropped"] == {"passage in a benchmark, word for word": 1}
