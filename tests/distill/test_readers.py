"""Readers against files written by hand; every fault of a file is one message with its place; PythonDocs' promises."""

import json
import math
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import jsonargparse
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill import recipe
from distill.errors import Refused
from distill.readers import (
    BEIR,
    CSV,
    JSONL,
    Datasets,
    Labelled,
    Pair,
    Parquet,
    Passage,
    PythonDocs,
    Reader,
    Retrieval,
    TextFolder,
    docstrings,
    python_docs,
)
from distill.readers.folders import passages_of


def write(file: Path, text: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def lines(file: Path, *records: object) -> Path:
    return write(file, "".join(json.dumps(record) + "\n" for record in records))


def refused(reader: Reader) -> str:
    with pytest.raises(Refused) as caught:
        list(reader.read())
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ tables


def test_passages_with_and_without_optional_columns(tmp_path: Path) -> None:
    """Harm: titles are lost, or a file without them is refused."""
    file = lines(tmp_path / "a.jsonl", {"text": "one", "title": "T", "key": 7}, {"text": "two", "title": None})
    first, second = JSONL(path=file).read()
    assert first == Passage("a.jsonl", "7", "T", "one", f"{file}, line 1")
    assert second == Passage("a.jsonl", "2", "", "two", f"{file}, line 2")


def test_the_same_rows_from_every_format(tmp_path: Path) -> None:
    """Harm: converting a file changes what is trained on."""
    rows = [{"question": "why?", "answer": 'because, "quoted"\nover lines'}, {"question": "é?", "answer": "ü"}]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet", write_page_checksum=True)
    pa_csv = 'question,answer\nwhy?,"because, ""quoted""\nover lines"\n\né?,ü\n'
    write(tmp_path / "a.csv", b"\xef\xbb\xbf" + pa_csv.encode())
    write(tmp_path / "a.tsv", pa_csv.replace(",", "\t").replace("because\t", "because,").replace('\t ""', ', ""'))
    lines(tmp_path / "a.jsonl", *rows)
    datasets.Dataset(table).save_to_disk(str(tmp_path / "saved"))
    common = {"kind": "retrieval", "task": "t", "columns": {"query": "question", "positive": "answer"}}
    readers = [
        JSONL(path=tmp_path / "a.jsonl", **common),
        CSV(path=tmp_path / "a.csv", **common),
        CSV(path=tmp_path / "a.tsv", delimiter="\t", **common),
        Parquet(path=tmp_path / "a.parquet", **common),
        Datasets(folder=tmp_path / "saved", **common),
    ]
    for reader in readers:
        found = [(row.query, row.positives[0].text, row.negatives, row.grades) for row in reader.read()]
        assert found == [(row["question"], row["answer"], (), ()) for row in rows], reader


def test_retrieval_with_lists_and_grades(tmp_path: Path) -> None:
    """Harm: only the first positive or negative of a list is read, or training rows carry grades as scores."""
    file = lines(tmp_path / "a.jsonl", {"query": "q", "positive": ["p", "r"], "negatives": ["n", "m"]})
    (row,) = JSONL(path=file, kind="retrieval", task="t").read()
    assert [p.text for p in row.positives] == ["p", "r"]
    assert [p.text for p in row.negatives] == ["n", "m"]
    assert row.grades == ()
    (row,) = JSONL(path=file, kind="retrieval", task="t", benchmark=True).read()
    assert row.grades == (1, 1, 0, 0)


def test_labels_and_pairs(tmp_path: Path) -> None:
    """Harm: labels that are numbers in one row and texts in another become two classes; scores keep their scale."""
    labelled = lines(tmp_path / "a.jsonl", {"text": "x", "label": 3}, {"text": "y", "label": "3"})
    rows = list(JSONL(path=labelled, kind="clustering", task="t").read())
    assert all(isinstance(row, Labelled) and row.label == "3" and row.kind == "clustering" for row in rows)
    pairs = write(tmp_path / "b.csv", "sentence1,sentence2,score\na,b,4\n")
    (row,) = CSV(path=pairs, kind="sts", task="t").read()
    assert isinstance(row, Pair)
    assert (row.first.text, row.second.text, row.score, row.benchmark) == ("a", "b", 0.8, False)


def test_limit_takes_the_first_rows(tmp_path: Path) -> None:
    """Harm: a trial run reads the whole corpus."""
    file = lines(tmp_path / "a.jsonl", *({"text": str(number)} for number in range(9)))
    assert [row.text for row in JSONL(path=file, limit=2).read()] == ["0", "1"]


def test_a_wide_parquet_file_is_read_by_the_columns_that_matter(tmp_path: Path) -> None:
    """Harm: vectors stored beside the text are turned into lists of Python floats, for nothing."""
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"], "vector": [[0.5] * 8], "title": ["T"]}), file)
    ((_, record),) = Parquet(path=file).records()
    assert set(record) == {"text", "title"}


FAULTS = [
    ('{"text": "a"}\n{"text": \n', "line 2: not JSON"),
    ('{"text": "a"}\n[1]\n', "line 2: a JSON list"),
    ('{"text": "a"}\n{"text": null}\n', "line 2: nothing in column 'text'"),
    ('{"body": "a", "head": "b"}\n', "line 1: no column 'text'; there are: body, head. Name it with columns"),
    ('{"text": 5}\n', "line 1: 5 in column 'text'. Needed: text"),
    (b'{"text": "a"}\n{"text": "\xff"}\n', "line 2: not UTF-8"),
    ("[" * 200_000 + "\n", "line 1: not JSON"),
]


@pytest.mark.parametrize(("content", "message"), FAULTS)
def test_a_fault_is_named_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    """Harm: a fault in row 3,000,000 is reported as a traceback without the row."""
    file = write(tmp_path / "a.jsonl", content)
    assert f"{file}, {message}" in refused(JSONL(path=file))


RETRIEVAL_FAULTS = [
    ({"query": "q"}, "no column 'positive'; there are: query"),
    ({"query": "q", "positive": []}, "nothing in column 'positive'"),
    ({"query": "q", "positive": ["a", 5]}, "Needed: a text or a list of texts"),
    ({"query": "q", "positive": "a", "negatives": {"x": 1}}, "in column 'negatives'"),
]


@pytest.mark.parametrize(("record", "message"), RETRIEVAL_FAULTS)
def test_a_query_without_its_passage_is_named(tmp_path: Path, record: object, message: str) -> None:
    """Harm: a query is trained on with an empty positive."""
    file = lines(tmp_path / "a.jsonl", record)
    assert message in refused(JSONL(path=file, kind="retrieval", task="t"))


@pytest.mark.parametrize("score", ["nan", "high", "5.5", "-1", ""])
def test_a_score_off_its_scale_is_refused(tmp_path: Path, score: str) -> None:
    """Harm: scores of 0 to 100 all count as alike."""
    file = write(tmp_path / "a.csv", f"sentence1,sentence2,score\na,b,{score}\n")
    assert "line 2: score" in refused(CSV(path=file, kind="sts", task="t"))


def test_faults_of_separated_values(tmp_path: Path) -> None:
    """Harm: an unquoted comma shifts every column of a row, in silence."""
    file = write(tmp_path / "a.csv", "text,title\na,b\nc,d,e\n")
    assert f"{file}, line 3: 3 values for 2 columns" in refused(CSV(path=file))
    file = write(tmp_path / "b.csv", 'text\n"a\nb\n')
    assert f"{file}, line 3: unexpected end of data" in refused(CSV(path=file))


@pytest.mark.parametrize("reader", [JSONL, CSV, Parquet, TextFolder, BEIR])
def test_a_pipe_or_a_device_is_refused(tmp_path: Path, reader: type[Reader]) -> None:
    """Harm: the work waits for ever on a pipe that nobody writes to, or reads zeros without end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(Refused, match=f"{path} is"):
            reader(path=path)


def test_a_pipe_inside_a_benchmark_folder_is_refused(tmp_path: Path) -> None:
    """Harm: as above, one level down."""
    file = beir(tmp_path) / "corpus.jsonl"
    file.unlink()
    os.mkfifo(file)
    assert f"{file} is a pipe or a device" in refused(BEIR(path=tmp_path))


def test_a_file_for_a_folder_and_the_other_way(tmp_path: Path) -> None:
    """Harm: a folder without texts is complained of where a file was named."""
    file = write(tmp_path / "a.txt", "text")
    with pytest.raises(Refused, match=r"a\.txt is not a folder"):
        TextFolder(path=file)
    with pytest.raises(Refused, match=r"is a folder\. Needed: a file"):
        JSONL(path=tmp_path)


def test_a_long_value_between_others_is_read(tmp_path: Path) -> None:
    """Harm: one text of a book's length, which `ingest` would drop and count, stops the whole file."""
    file = write(tmp_path / "a.csv", f"text\nshort\n{'x' * 200_000}\n")
    assert [len(row.text) for row in CSV(path=file).read()] == [5, 200_000]


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n"])
def test_a_delimiter_is_one_character(tmp_path: Path, delimiter: str) -> None:
    """Harm: a traceback out of the csv module, after other sources were read."""
    with pytest.raises(Refused, match=r"^delimiter: .*needed: one character"):
        CSV(path=tmp_path / "a.csv", delimiter=delimiter)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """Harm: the last of the two is trained on, and which one that is depends on the program that wrote the file."""
    file = write(tmp_path / "a.csv", "text,title,text\na,b,c\n")
    assert refused(CSV(path=file)) == f"{file}: two columns are called 'text'. Rename one."
    nameless = write(tmp_path / "b.csv", "text,,\na,,\n")  # what a spreadsheet leaves behind
    assert [row.text for row in CSV(path=nameless).read()] == ["a"]
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), file)
    assert refused(Parquet(path=file)) == f"{file}: two columns are called 'text'. Rename one."


IDLE = [
    ({"task": "Find"}, "task: 'Find' means nothing to passages"),
    ({"scale": 1.0}, "scale: 1.0 means nothing to passages"),
    ({"benchmark": True}, "benchmark: True means nothing to passages"),
    ({"kind": "retrieval", "task": "t", "scale": 4.0}, "scale: 4.0 means nothing to retrieval"),
    ({"kind": "nli", "task": "t", "benchmark": True}, "benchmark: True means nothing to nli"),
    (
        {"kind": "clustering", "task": "t", "benchmark": True, "positive": "label"},
        "positive: 'label' is of training, and this is a benchmark",
    ),
]


@pytest.mark.parametrize(("settings", "message"), IDLE)
def test_a_setting_that_does_nothing_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    """Harm: a forgotten `kind` turns a benchmark into passages without a question, and nobody is told."""
    with pytest.raises(Refused, match=f"^{message}"):
        JSONL(path=tmp_path / "a.jsonl", **settings)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_is_a_number_above_zero(tmp_path: Path, scale: float) -> None:
    """Harm: every score is divided to zero, and no pair is alike."""
    with pytest.raises(Refused, match=r"^scale: "):
        JSONL(path=tmp_path / "a.jsonl", kind="sts", task="t", scale=scale)


@pytest.mark.parametrize("text", ["lone \ud800", "nul \0"])
def test_a_setting_that_no_table_can_hold_is_refused(tmp_path: Path, text: str) -> None:
    """Harm: a traceback when the recipe or the table is written, after everything was read."""
    file = tmp_path / "a.jsonl"
    for make in (
        lambda: JSONL(path=file, licence=text),
        lambda: JSONL(path=file, kind="retrieval", task=text),
        lambda: BEIR(path=file, task=text),
        lambda: TextFolder(path=tmp_path, licence=text),
        lambda: PythonDocs(split="test", packages=(), licence=text),
        lambda: JSONL(path=tmp_path / text),
    ):
        with pytest.raises(Refused, match="is no UTF-8, or holds NUL"):
            make()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Harm: a traceback through three libraries for a mistyped path."""
    file = tmp_path / "nothing"
    for reader in (JSONL(path=file), CSV(path=file), Parquet(path=file), BEIR(path=file), TextFolder(path=file)):
        assert str(file) in refused(reader)
    assert f"{file}, train, after row 0: datasets cannot read it" in refused(Datasets(folder=file))


def test_a_flipped_bit_in_a_parquet_file_is_noticed(tmp_path: Path) -> None:
    """Harm: a damaged download is trained on."""
    file = tmp_path / "a.parquet"
    text = "sentinel " * 40
    pq.write_table(
        pa.table({"text": [text]}),
        file,
        compression="none",
        write_page_checksum=True,
        use_dictionary=False,
        write_statistics=False,
    )
    content = bytearray(file.read_bytes())
    content[content.index(b"sentinel sentinel") + 3] ^= 1
    file.write_bytes(content)
    assert "damaged" in refused(Parquet(path=file))
    write(file, "no parquet at all")
    assert "no Parquet file" in refused(Parquet(path=file))


def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    """Harm: a misspelt column or a moving revision is found out after hours, or never."""
    with pytest.raises(Refused, match="'qeury' means nothing to retrieval; it has query, positive, negatives"):
        JSONL(path=tmp_path, kind="retrieval", task="t", columns={"qeury": "q"})
    with pytest.raises(Refused, match="needs the instruction"):
        JSONL(path=tmp_path, kind="sts")
    with pytest.raises(Refused, match="40 hexadecimal digits"):
        Datasets(name="a/b", revision="main")
    with pytest.raises(Refused, match="either name"):
        Datasets()
    with pytest.raises(Refused, match="revision: 'abc' means nothing to a folder"):
        Datasets(folder=tmp_path, revision="abc")
    with pytest.raises(Refused, match="not installed"):
        PythonDocs(split="train", packages=("no-such-package",))


def test_a_folder_of_data_files_is_opened_by_datasets(tmp_path: Path) -> None:
    """Harm: only what `datasets` saved itself can be read."""
    lines(tmp_path / "folder" / "test.jsonl", {"text": "a"}, {"text": "b"})
    rows = list(Datasets(folder=tmp_path / "folder", split="test").read())
    assert [row.text for row in rows] == ["a", "b"]
    assert rows[0].source == "folder"
    assert "folder, validation, after row 0" in refused(Datasets(folder=tmp_path / "folder", split="validation"))
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "saved"))
    assert "saved as one table" in refused(Datasets(folder=tmp_path / "saved", split="test"))


BROKEN = {
    "a.csv": (b"text,title\na,b\nc,d,e\n", "ParserError: "),
    "b.csv": (b"text\ncaf\xe9\n", "UnicodeDecodeError: "),
    "c.zip": (b"no archive", "BadZipFile: "),
    "d.jsonl": (b'{"text": "a"}\n{"text": \n', "ArrowInvalid: "),
    "e.parquet": (b"PAR1 and no more", "ArrowInvalid: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_in_a_folder_of_data_files_is_told(tmp_path: Path, name: str) -> None:
    """Harm: `datasets` finds the fault while rows are read, and the user a traceback through three libraries."""
    content, fault = BROKEN[name]
    write(tmp_path / name, content)
    assert f"{tmp_path}, train, after row 0: datasets cannot read it ({fault}" in refused(Datasets(folder=tmp_path))


def test_a_local_path_is_never_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: what lies here is looked for on the hub, or what lies here is read instead of the commit that was named."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / "README.md", "text")
    with pytest.raises(Refused, match=r"data/README\.md is not a folder"):
        Datasets(folder=Path("data/README.md"))
    for name in ("data", "data/README.md"):
        with pytest.raises(Refused, match=f"name: {name} is a file or a folder here.*`folder`"):
            Datasets(name=name, revision="0" * 40)
    assert str(tmp_path / "nothing") in refused(Datasets(folder=Path("nothing")))


# ------------------------------------------------------------------------------------------------ folders

DOCUMENT = """Before any heading.

# First *one*

Paragraph one.
Still paragraph one.

```
# no heading
```

## Second ##

Paragraph two.
"""


def test_text_is_split_at_headings_and_paragraphs(tmp_path: Path) -> None:
    """Harm: passages straddle two subjects, or a comment in code becomes a title."""
    write(tmp_path / "b" / "notes.md", DOCUMENT.replace("\n", "\r\n"))
    write(tmp_path / "a.txt", "Plain.")
    write(tmp_path / "c.rst", "not read")
    rows = list(TextFolder(path=tmp_path).read())
    assert [(row.key, row.title, row.text) for row in rows] == [
        ("a.txt#0", "a", "Plain."),
        ("b/notes.md#0", "notes", "Before any heading."),
        ("b/notes.md#1", "First *one*", "Paragraph one.\nStill paragraph one.\n\n```\n# no heading\n```"),
        ("b/notes.md#2", "First *one* > Second", "Paragraph two."),
    ]


def test_endings_in_capitals_are_read(tmp_path: Path) -> None:
    """Harm: half of a folder, written on another system, is left out without a word."""
    for name in ("A.TXT", "b.Md", "c.txt", "d.rst"):
        write(tmp_path / name, "Plain.")
    assert [row.key for row in TextFolder(path=tmp_path).read()] == ["A.TXT#0", "b.Md#0", "c.txt#0"]


def test_a_title_says_what_the_heading_belongs_to() -> None:
    """Harm: a hundred files have a section "Details", and their passages cannot be told apart."""
    text = "# Backups\none\n### Deep\ntwo\n## Details\nthree\n# Printers\nfour\n## Details\nfive"
    titles = [title for title, _ in passages_of(text, "file", 500)]
    assert titles == ["Backups", "Backups > Deep", "Backups > Details", "Printers", "Printers > Details"]


def test_no_passage_is_too_long_and_no_word_is_lost() -> None:
    """Harm: the end of long paragraphs is never read, or a passage is longer than what was asked for."""
    words = random.Random(0).choices(["word", "longer", "w" * 150, "end.", "is!"], k=400)
    text = "\n\n".join(" ".join(words[at : at + 57]) for at in range(0, 400, 57))
    pieces = [piece for _, piece in passages_of(text, "t", 120)]
    assert max(map(len, pieces)) <= 120
    assert "".join("".join(pieces).split()) == "".join(words)


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """Harm: mojibake in the corpus."""
    file = write(tmp_path / "a.txt", b"fine\ncaf\xe9\n")
    assert f"{file}, line 2: not UTF-8" in refused(TextFolder(path=tmp_path))


def test_a_file_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """Harm: a traceback when the passages' ids are written."""
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    try:
        file.write_text("text")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert refused(TextFolder(path=tmp_path)) == (
        f"{tmp_path}: the file name 'caf\\udce9.txt' is not UTF-8. Rename the file."
    )


def beir(folder: Path, judged: str = "q1\td2\t1\nq1\td1\t2\nq1\td3\t0\n") -> Path:
    lines(
        folder / "corpus.jsonl",
        {"_id": "d1", "title": "T", "text": "one"},
        {"_id": "d2", "text": "two"},
        {"_id": "d3", "title": "", "text": "three"},
    )
    lines(folder / "queries.jsonl", {"_id": "q1", "text": "which?"}, {"_id": "q2", "text": "unjudged"})
    write(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\n" + judged)
    return folder


def test_a_benchmark_folder(tmp_path: Path) -> None:
    """Harm: grades land on other passages than they were given to."""
    *passages, query = BEIR(path=beir(tmp_path), task="t").read()
    assert [(p.key, p.title, p.text) for p in passages] == [("d1", "T", "one"), ("d2", "", "two"), ("d3", "", "three")]
    at = f"{tmp_path / 'qrels' / 'test.tsv'}, line 2"
    assert query == Retrieval("t", "which?", ("d1", "d2"), ("d3",), (2.0, 1.0, 0.0), at)
    *_, query = BEIR(path=tmp_path, task="t", benchmark=False).read()
    assert query.grades == ()


@pytest.mark.parametrize("label", ["", "  ", ["x"], {"x": 1}, 1.5, math.nan, None])
def test_a_label_is_text_or_a_whole_number(tmp_path: Path, label: object) -> None:
    """Harm: a gap in a column is a class of its own, which models are trained to tell from the others."""
    lines(tmp_path / "a.jsonl", {"text": "a", "label": 1.0}, {"text": "b", "label": 1}, {"text": "c", "label": label})
    reader = JSONL(path=tmp_path / "a.jsonl", kind="classification", task="t")
    rows = reader.read()
    assert [next(rows).label for _ in range(2)] == ["1", "1"]
    with pytest.raises(Refused, match="line 3"):
        next(rows)


def test_a_limit_of_a_benchmark_is_spread(tmp_path: Path) -> None:
    """Harm: the first thousand questions of a large set are all about two articles."""
    judged = "".join(f"q{number}\td1\t1\n" for number in range(10))
    beir(tmp_path, judged)
    lines(tmp_path / "queries.jsonl", *({"_id": f"q{number}", "text": f"{number}?"} for number in range(10)))
    for limit, wanted in ((3, ["0?", "3?", "6?"]), (10, [f"{number}?" for number in range(10)]), (99, None)):
        asked = [row.query for row in BEIR(path=tmp_path, limit=limit).read() if isinstance(row, Retrieval)]
        assert asked == wanted if wanted else len(asked) == 10


def test_a_part_of_a_large_set_is_its_questions_and_their_passages(tmp_path: Path) -> None:
    """Harm: training on five thousand questions reads eight million passages; or a passage of theirs is missing."""
    beir(tmp_path, "q0\td1\t1\nq0\td3\t0\nq1\td2\t1\n")
    lines(tmp_path / "queries.jsonl", *({"_id": f"q{number}", "text": f"{number}?"} for number in range(2)))
    for limit, passages in ((1, ["d1", "d3"]), (2, ["d1", "d2", "d3"])):
        rows = BEIR(path=tmp_path, limit=limit, benchmark=False, only_judged=True).read()
        assert [row.key for row in rows if isinstance(row, Passage)] == passages
    with pytest.raises(Refused, match="only_judged: true: a benchmark is searched whole"):
        BEIR(path=tmp_path, only_judged=True)


def test_a_benchmark_folder_in_parquet_is_the_same(tmp_path: Path) -> None:
    """Harm: the two layouts of one benchmark give two scores."""
    expected = list(BEIR(path=beir(tmp_path / "lines")).read())
    folder = tmp_path / "parquet"
    folder.mkdir()
    corpus = {"id": ["d1", "d2", "d3"], "title": ["T", None, ""], "text": ["one", "two", "three"]}
    pq.write_table(pa.table(corpus), folder / "corpus.parquet")
    pq.write_table(pa.table({"id": ["q1", "q2"], "text": ["which?", "unjudged"]}), folder / "queries.parquet")
    judged = {"query_id": ["q1"] * 4, "corpus_id": ["d2", "d1", "d3", "d1"], "score": [1, 2, 0, 1]}
    pq.write_table(pa.table(judged | {"split": ["test"] * 3 + ["train"]}), folder / "qrels.parquet")
    found = list(BEIR(path=folder).read())
    assert [(p.key, p.title, p.text) for p in found[:-1]] == [(p.key, p.title, p.text) for p in expected[:-1]]
    assert found[-1].positives == expected[-1].positives
    assert found[-1].grades == expected[-1].grades


BEIR_FAULTS = [
    ("q1\td1\t1\nq9\td1\t1\n", "line 3: no query 'q9' in the queries"),
    ("q1\td1\n", "line 2: 2 values for 3 columns"),
    ("q1\td1\thigh\n", "line 2: score 'high'"),
    ("q1\td1\t1\nq1\td2\tnan\n", "line 3: score 'nan'"),
    ("q1\td1\tinf\n", "line 2: score 'inf'"),
    ("q1\td1\t1e300\n", "line 2: score '1e300'. Needed: a number, 1,000,000 at most"),
    ("", "no judgement of split 'test'"),
]


@pytest.mark.parametrize(("judged", "message"), BEIR_FAULTS)
def test_a_faulty_judgement_is_named(tmp_path: Path, judged: str, message: str) -> None:
    """Harm: queries vanish from a benchmark, and its score goes up."""
    assert message in refused(BEIR(path=beir(tmp_path, judged)))


def test_a_benchmark_document_without_text_is_named(tmp_path: Path) -> None:
    """Harm: a field called otherwise is read as an empty corpus."""
    file = lines(beir(tmp_path) / "corpus.jsonl", {"_id": "d1", "body": "one"})
    assert f"{file}, line 1: no 'text'; there are: _id, body" in refused(BEIR(path=tmp_path))


@pytest.mark.parametrize("name", ["corpus", "queries"])
def test_a_benchmark_text_that_is_no_text_is_named(tmp_path: Path, name: str) -> None:
    """Harm: the model is measured on "['a', 'list']", spelt out."""
    file = lines(beir(tmp_path) / f"{name}.jsonl", {"_id": "d1", "text": ["a", "list"]})
    assert f"{file}, line 1: ['a', 'list'] in 'text'. Needed: text." in refused(BEIR(path=tmp_path))
    lines(file, {"_id": "d1", "text": "a", "title": 3})
    if name == "corpus":
        assert f"{file}, line 1: 3 in 'title'. Needed: text." in refused(BEIR(path=tmp_path))


def test_two_benchmark_queries_of_one_id_are_told_apart(tmp_path: Path) -> None:
    """Harm: of two questions with one id the second vanishes, and its judgements count for the first."""
    file = lines(beir(tmp_path) / "queries.jsonl", *({"_id": "q1", "text": text} for text in ("one?", "one?", "two?")))
    assert refused(BEIR(path=tmp_path)).startswith(f"{file}, line 3: id 'q1' came before with another text.")
    lines(file, {"_id": "q1", "text": "one?"}, {"_id": "q1", "text": "one?"})
    assert [row.query for row in BEIR(path=tmp_path).read() if isinstance(row, Retrieval)] == ["one?"]


# ------------------------------------------------------------------------------------------------ PythonDocs


def taken(split: str, **settings: object) -> tuple[list[Passage], list[Retrieval], list[Labelled]]:
    rows = list(PythonDocs(split=split, **{"packages": ("numpy",), **settings}).read())
    return tuple([row for row in rows if isinstance(row, shape)] for shape in (Passage, Retrieval, Labelled))


@pytest.mark.slow
def test_there_is_enough_documentation() -> None:
    """Harm: the quickstart trains on a handful of rows, or its benchmark cannot tell models apart."""
    (passages, queries, labelled), (test_passages, test_queries, _) = (
        taken(split, packages=PythonDocs(split="test").packages) for split in ("train", "test")
    )
    assert len(queries) >= 2500
    assert len(test_queries) >= 500
    assert 0.1 < len(test_passages) / len(passages + test_passages) < 0.3
    assert len({row.label for row in labelled}) >= 50
    assert min(Counter(row.label for row in labelled).values()) >= 8


def test_train_and_test_share_no_area_and_no_text() -> None:
    """Harm: the benchmark is in the training text."""
    train, test = taken("train"), taken("test")
    assert not {row.label for row in train[2]} & {row.label for row in test[2]}
    for name in ("text", "key"):
        assert not {getattr(row, name) for row in train[0]} & {getattr(row, name) for row in test[0]}
    assert not {row.query.lower() for row in train[1]} & {row.query.lower() for row in test[1]}


def test_documentation_is_worth_reading() -> None:
    """Harm: the student learns from doctests, signatures and queries that nobody would type."""
    passages, queries, _ = taken("train")
    assert all(12 <= len(row.text.split()) <= 80 for row in passages)
    assert not any(">>>" in row.text or "\n" in row.text for row in passages)
    assert all(4 <= len(row.query.split()) <= 25 for row in queries)
    assert len({row.query.lower() for row in queries}) == len(queries)
    assert len({row.text for row in passages}) == len(passages) == len({row.key for row in passages})
    assert all(row.query not in row.positives[0].text[: len(row.query)] for row in queries)
    dumps = next(row for row in taken("test")[1] if row.positives[0].title == "json.dumps")
    assert dumps.query == "Serialize obj to a JSON formatted str"
    assert "skipkeys" in dumps.positives[0].text


def test_a_sample_is_seeded_and_in_order() -> None:
    """Harm: two machines train on two corpora under one recipe."""
    whole = [row.key for row in taken("train")[0]]
    one, again, other = ([row.key for row in taken("train", limit=300, seed=seed)[0]] for seed in (1, 1, 2))
    assert one == again != other
    assert len(one) == len(other) == 300
    assert one == [key for key in whole if key in set(one)]


def test_versions_are_in_the_recipe() -> None:
    """Harm: after an upgrade the corpus is another, and the recipe says it is the same."""
    described = recipe.describe(PythonDocs(split="test", packages=("numpy",)), {})
    assert described["class"] == "PythonDocs"
    assert [entry.split()[0] for entry in described["versions"]] == ["python", "numpy"]


def test_nothing_is_imported_to_read_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Harm: a package's source runs while its documentation is read."""
    write(tmp_path / "evil" / "__init__.py", 'raise SystemExit("run")\n')
    body = "This function takes a number of things and gives back a great many others, all in order."
    write(
        tmp_path / "evil" / "tools.py",
        f'raise SystemExit\ndef tool():\n    """Do what is asked of it.\n\n    {body}"""\n',
    )
    write(tmp_path / "evil" / "tests" / "test_a.py", f'"""Test what is asked of it.\n\n{body}"""\n')
    write(tmp_path / "evil" / "broken.py", "def (:\n")
    found = [
        (module, name)
        for file, module in python_docs._modules(tmp_path / "evil", "evil")
        for name, docstring in python_docs._parsed(file, module)
        if docstring
    ]
    assert found == [("evil.tools", "evil.tools.tool")]


NUMPY_STYLE = """
    Return the *sum* of ``values``, as :func:`~numpy.sum` [1]_ does.  More of the first paragraph.

    .. versionadded:: 1.2
       Not prose.

    The extended summary::

        code = "not prose"

    goes on.

    Parameters
    ----------
    values : array_like
        What is summed

    See Also
    --------
    other : not prose

    Notes
    -----
    A note.

    Examples
    --------
    >>> 1 + 1
    2
    """


def test_a_docstring_as_summary_and_prose() -> None:
    """Harm: markup, code and other functions' names make up the passages."""
    summary, body = docstrings.split(NUMPY_STYLE)
    assert summary == "Return the sum of values, as numpy.sum does."
    assert body == (
        "More of the first paragraph. The extended summary: goes on. values: array_like. What is summed. A note."
    )


def test_a_google_docstring_with_a_signature() -> None:
    """Harm: a signature becomes the query."""
    summary, body = docstrings.split(
        "f(a, b) -> int\n\nAdds two numbers.\n\nArgs:\n    a: The one.\n\nExample:\n    f(1, 2)\n"
    )
    assert (summary, body) == ("Adds two numbers.", "a: The one.")
    assert docstrings.split("") == ("", "")


def test_text_is_cut_at_the_end_of_a_sentence() -> None:
    """Harm: passages end in the middle of a thought though a sentence ends close by."""
    text = "One two three, e.g. Four five. Six seven eight nine. Ten eleven twelve."
    assert docstrings.cut(text, 11) == "One two three, e.g. Four five. Six seven eight nine."
    assert docstrings.cut(text, 5) == "One two three, e.g. Four"
    assert docstrings.cut(text, 50) == text


# ------------------------------------------------------------------------------------------------ in an experiment


def ingest(*, sources: tuple[Reader, ...]) -> None:
    """A verb's signature.

    Args:
        sources: Readers.
    """


def test_readers_are_named_by_class_path(tmp_path: Path) -> None:
    """Harm: an experiment file cannot name a reader, or a misspelt setting is passed over."""
    parser = jsonargparse.auto_parser(ingest, as_positional=False, exit_on_error=False)
    file = tmp_path / "a.jsonl"
    jsonl = {"class_path": "distill.readers.JSONL", "init_args": {"path": str(file), "columns": {"text": "body"}}}
    docs = {"class_path": "distill.readers.PythonDocs", "init_args": {"split": "test", "packages": ["numpy"]}}
    parsed = parser.instantiate(parser.parse_object({"sources": [jsonl, docs]}))
    assert parsed.sources[0] == JSONL(path=file, columns={"text": "body"})
    assert parsed.sources[1] == PythonDocs(split="test", packages=("numpy",))
    jsonl["init_args"]["colums"] = {"text": "body"}
    with pytest.raises(jsonargparse.ArgumentError, match="colums"):
        parser.parse_object({"sources": [jsonl]})


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_only_the_rows_that_are_asked_for(tmp_path: Path, form: str) -> None:
    """Harm: the test rows of a file are trained on, since it holds all splits in one column."""
    rows = [{"text": f"text {n}", "label": n % 2, "split": "test" if n % 3 else "train", "more": 1} for n in range(9)]
    if form == "jsonl":
        lines(tmp_path / "a.jsonl", *rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    reader = JSONL if form == "jsonl" else Parquet
    common = {"path": tmp_path / f"a.{form}", "kind": "classification", "task": "t"}
    found = list(reader(**common, where={"split": "train"}).read())
    assert [row.passage.text for row in found] == ["text 0", "text 3", "text 6"]
    assert len(list(reader(**common, where={"split": "test", "label": "1"}, limit=2).read())) == 2
    if form == "jsonl":
        kept = [{"text": "kept", "label": 1, "split": True}, {"text": "not", "label": 1, "split": None}]
        lines(tmp_path / "a.jsonl", *kept)
        for value, text in (("true", "kept"), ("", "not")):
            assert [row.passage.text for row in reader(**common, where={"split": value}).read()] == [text]
    assert "where: no column 'spilt'; there are: text" in refused(reader(**common, where={"spilt": "train"}))


def test_premises_with_what_they_entail_and_what_contradicts_them(tmp_path: Path) -> None:
    """Harm: a contradiction is a positive, or a premise stands alone in four rows and is its own false negative."""
    given: list[tuple[str, str, str | int]] = [("a", "b", "entailment"), ("x", "y", 2), ("a", "c", "contradiction")]
    given += [("a", "d", 1), ("a", "e", 0), ("x", "z", "not_entailment")]
    lines(tmp_path / "a.jsonl", *({"premise": p, "hypothesis": h, "label": n} for p, h, n in given))
    rows = list(JSONL(path=tmp_path / "a.jsonl", kind="nli", task="t").read())
    found = [(row.query, [p.text for p in row.positives], [p.text for p in row.negatives], row.grades) for row in rows]
    assert found == [("a", ["b", "e"], ["c"], ())]
    lines(tmp_path / "a.jsonl", *({"premise": p, "hypothesis": "h", "label": n} for p, n in (("a", 0), ("b", 1))))
    said = refused(JSONL(path=tmp_path / "a.jsonl", kind="nli", task="t"))
    assert "only the labels 0 and 1. Write entailment and not_entailment, or neutral." in said
    lines(tmp_path / "a.jsonl", {"premise": "a", "hypothesis": "b", "label": "yes"})
    assert "label 'yes'. Needed: entailment, neutral or contradiction" in refused(
        JSONL(path=tmp_path / "a.jsonl", kind="nli", task="t")
    )
