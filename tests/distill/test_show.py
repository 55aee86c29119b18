"""What `distill show` prints of an artifact, and what it refuses."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill import artifact, tables
from distill.errors import Refused
from distill.show import show


def make(
    folder: Path,
    verb: str,
    settings: Mapping[str, object],
    content: Mapping[str, tuple[pa.Schema, Mapping[str, object]]],
    facts: Mapping[str, object] | None,
) -> Path:
    """An artifact as a stage leaves it; without facts it is not finished."""
    made = {"verb": verb, "version": 1, "settings": settings}
    with artifact.claim(folder, made, {}, {}):
        for name, (schema, columns) in content.items():
            tables.write(folder / name, schema, columns, note={"dropped": {"too short": 2}})
        if facts is not None:
            artifact.finish(folder, facts)
    return folder


def corpus(folder: Path, *texts: str) -> Path:
    columns = {
        "source": ["here"] * len(texts),
        "key": [str(i) for i in range(len(texts))],
        "title": [""] * len(texts),
        "text": list(texts),
    }
    facts = {
        "passages": len(texts),
        "dropped": {"passage repeated": 3},
        "licences": {"web": "CC0-1.0"},
        "seconds": 75.0,
    }
    facts |= {"versions": {"distill": "0.1.0"}, "peak_memory_bytes": 2_000_000}
    source = {"class": "JSONL", "path": {"sha256": "ab" * 32}, "limit": None}
    return make(folder, "ingest", {"sources": [source]}, {"passages": (tables.PASSAGES, columns)}, facts)


def queries(folder: Path, read: Path, *, finished: bool = True) -> Path:
    columns = {"task": ["find"], "query": ["what is a heap"], "seed": [1]}
    model = {"class_path": "teachers.CausalLM", "version": 1, "init_args": {"base": "org/name", "revision": None}}
    settings = {"passages": {"artifact": artifact.fingerprint(read)}, "model": model, "temperature": 0.9}
    facts = {"rows": 1, "refers": {"passages": artifact.fingerprint(read)}} if finished else None
    return make(folder, "generate", settings, {"queries": (tables.QUERIES, columns)}, facts)


def test_says_what_made_it_and_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without this a person has to read four JSON files to know what a folder is."""
    show(corpus(tmp_path / "corpus", "a tree is a graph"))
    said = capsys.readouterr().out
    for expected in (
        "ingest",
        "finished in 75 s",
        "2.0 MB of memory",
        "JSONL(path: file abababababab)",
        "passage repeated",
        "CC0-1.0",
        "distill 0.1.0",
        "text: a tree is a graph",
    ):
        assert expected in said
    assert "None" not in said


def test_joins_the_texts_of_passages_by_fingerprint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A join by the folder's name would show another corpus's text once a step is renamed."""
    read = corpus(tmp_path / "corpus", "a tree is a graph", "a heap is a tree")
    corpus(tmp_path / "passages", "wrong")  # another table of the name that row numbers are called by
    asked = queries(tmp_path / "queries", read)
    read.rename(tmp_path / "renamed")
    show(asked)
    said = capsys.readouterr().out
    assert "passages: renamed" in said
    assert "seed: 1 a heap is a tree" in " ".join(said.split())
    assert "teachers.CausalLM(base: org/name)" in said
    assert "count the passages of renamed" in said


def test_shows_rows_when_the_passages_are_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An artifact that was copied alone must still be readable."""
    read = corpus(tmp_path / "elsewhere" / "corpus", "one", "two")
    show(queries(tmp_path / "queries", read))
    said = capsys.readouterr().out
    assert "seed: 1\n" in said
    assert artifact.fingerprint(read)[:12] in said


def test_an_unfinished_artifact_is_shown_and_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of a table that passes for the whole would be trained on."""
    read = corpus(tmp_path / "corpus", "one", "a heap is a tree")
    half = queries(tmp_path / "queries", read, finished=False)
    show(half)
    said = " ".join(capsys.readouterr().out.split())
    assert "not finished" in said
    assert "seed: 1 a heap is a tree" in said  # the recipe tells which passages
    assert "too short" in said  # the parts' notes tell what was dropped so far
    for asked in ({"verify": True}, {"parquet": tmp_path / "copy"}):
        with pytest.raises(Refused, match="not finished"):
            show(half, **asked)


@pytest.mark.parametrize("finished", [True, False])
def test_drafts_are_shown_until_there_are_records(
    finished: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same rows twice would bury the rest, and half a step's work would not be seen at all."""
    rows = {name: ["short_long", "sts"] for name in tables.RECORDS.names}
    content = {"drafts": (tables.RECORDS, rows)} | ({"records": (tables.RECORDS, rows)} if finished else {})
    show(make(tmp_path / "made_up", "synthesize", {}, content, {"rows": 2} if finished else None))
    said = capsys.readouterr().out
    assert ("records: the first 2 of 2 rows" in said) is finished
    assert ("drafts: the first 2 of 2 rows" in said) is not finished


def test_verify_says_what_was_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A check that does not say what it checked is taken for more than it is."""
    show(corpus(tmp_path / "corpus", "one"), verify=True)
    assert "verified: 4 files" in capsys.readouterr().out  # recipe, inputs, a part and its note


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    """A disk's error in a table changes what a model learns, and nothing else shows it."""
    folder = corpus(tmp_path / "corpus", "one")
    part = folder / "passages" / "part-00000.arrow"
    content = bytearray(part.read_bytes())
    at = content.index(b"one")
    content[at] ^= 1
    part.write_bytes(content)
    with pytest.raises(Refused, match=r"part-00000\.arrow is not as it was written"):
        show(folder, verify=True)


def test_the_parquet_copy_holds_the_same_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other programs read the copy: a lost row there is lost without a word."""
    folder = corpus(tmp_path / "corpus", "one", "two")
    show(folder, rows=0, parquet=tmp_path / "copy")
    said = capsys.readouterr().out
    assert f"wrote {tmp_path / 'copy' / 'passages.parquet'}" in said
    assert "one" not in said.split()  # no row was asked for
    assert pq.read_table(tmp_path / "copy" / "passages.parquet").equals(tables.read(folder, "passages"))


def test_text_neither_steers_the_terminal_nor_breaks_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Foreign text may hold escape codes, or brackets that the terminal library takes for its own."""
    folder = corpus(tmp_path / "corpus", "red \x1b[31m [/bold] [link=x]text\x07\u202e" + "long " * 200)
    show(folder)
    said = capsys.readouterr().out
    assert not any(code in said for code in ("\x1b", "\x07", "\u202e"))
    assert "[/bold] [link=x]text" in said
    assert max(map(len, said.splitlines())) < 200


def test_a_text_can_be_read_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: whether a passage answers its query stands in what was cut off."""
    text = "long " * 100 + "end"
    show(corpus(tmp_path / "corpus", text))
    assert "end" not in capsys.readouterr().out.split()
    show(tmp_path / "corpus", whole=True)
    assert f"text: {text}\n" in capsys.readouterr().out


def test_warnings_are_lines_and_prompts_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: what is wrong is cut short in a narrow cell, below a setting of a whole screen."""
    warning = "Hard negatives that a judge prefers are too many. " * 10
    made = make(tmp_path / "looked_at", "health", {"prompt": "say " * 1000}, {}, {"rows": 1, "warning": warning})
    show(made)
    lines = capsys.readouterr().out.splitlines()
    assert f"warning: {warning.strip()}" in lines
    assert sum("Hard negatives" in line for line in lines) == 1
    assert max(len(line) for line in lines if "prompt" in line) < 450


@pytest.mark.parametrize(("twins", "told"), [([1, 0], ""), ([1, 1], "twins: 0 says nearly the same as 1")])
def test_twins_are_told_where_there_are_any(
    twins: list[int], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: a list of all candidates, each its own twin, reads as if all said the same."""
    columns = {
        "task": ["find"], "query": ["what is a heap"], "seed": [1], "passages": [[1, 0]], "twins": [twins],
        "seed_rank": [0], "seed_similarity": [0.5], "similarities": [[0.5, 0.4]],
    }  # fmt: skip
    schema = tables.candidates(2, {"similarities": {"scale": "cosine", "model": "Words"}})
    show(make(tmp_path / "mined", "mine", {}, {"candidates": (schema, columns)}, {"rows": 1}))
    said = capsys.readouterr().out
    assert told in said and ("nearly the same" in said) is bool(told)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("corpus/recipe.json", "is a file. Give the folder of a step"),
        (".", "is a whole run. Show one of its steps: .*corpus"),
        ("empty", "no recipe"),
        ("nowhere", "does not exist"),
    ],
)
def test_refuses_what_is_no_artifact(tmp_path: Path, place: str, told: str) -> None:
    """A stack trace would leave the user to guess which folder was meant."""
    corpus(tmp_path / "corpus", "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match=told):
        show(tmp_path / place)


def test_refuses_a_negative_number_of_rows(tmp_path: Path) -> None:
    """Arrow takes a negative length for an error of its own."""
    with pytest.raises(Refused, match="rows: -1"):
        show(corpus(tmp_path / "corpus", "one"), rows=-1)


def test_does_not_load_torch(tmp_path: Path) -> None:
    """A look at a table must not take the seconds that torch takes."""
    folder = corpus(tmp_path / "corpus", "one")
    code = (
        "import sys; from pathlib import Path; from distill.show import show;"
        f"show(Path({str(folder)!r}), verify=True);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'lightning')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
