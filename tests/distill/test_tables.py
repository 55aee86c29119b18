"""What is written to a table is what is read from it, mapped, or it is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill import artifact, files, tables
from distill.errors import Refused

QUERIES = {"task": ["t", "", "t"], "query": ["a", "b", "ümläut 猫"], "seed": [2, 0, 1]}


def finished(folder: Path) -> Path:
    with artifact.claim(folder, {"verb": "a"}, {}, {}):
        for part in (1, 0, 2):  # in any order
            rows = {"task": ["t"], "query": [f"query {part}"], "seed": [part]}
            tables.write(folder / "queries", tables.QUERIES, rows, part=part, note={"seconds": part})
        vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float16)
        tables.write(folder / "vectors", tables.vectors(8), {"vector": vectors})
        artifact.finish(folder, {})
    return folder


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Harm: a column is swapped, rounded or reordered on the way to the disk."""
    tables.write(tmp_path, tables.QUERIES, QUERIES)
    held = tables.opened(tmp_path)
    assert held.schema == tables.QUERIES
    assert held.to_pydict() == QUERIES


def test_parts_are_read_in_their_order(tmp_path: Path) -> None:
    """Harm: row numbers depend on which worker was quicker."""
    folder = finished(tmp_path / "a")
    assert tables.texts(tables.read(folder, "queries")["query"]) == ["query 0", "query 1", "query 2"]
    assert [note["seconds"] for note in tables.notes(folder / "queries")] == [0, 1, 2]
    assert tables.describe(folder) == {"queries": 3, "vectors": 5}
    assert tables.missing(folder / "queries", 5) == [3, 4]


def test_vectors_are_mapped_and_not_copied(tmp_path: Path) -> None:
    """Harm: opening a table of vectors reads it into memory, and a large corpus no longer fits."""
    rows = np.random.default_rng(0).normal(size=(40_000, 64)).astype(np.float16)
    tables.write(tmp_path, tables.vectors(64), {"vector": rows})
    before = pa.total_allocated_bytes()
    held = tables.matrix(tables.opened(tmp_path)["vector"])
    assert pa.total_allocated_bytes() - before < 100_000
    assert held.dtype == np.float16 and np.array_equal(held, rows)
    with pytest.raises(ValueError, match="read-only"):
        held[0, 0] = 1


def test_vectors_of_several_parts_stand_end_to_end(tmp_path: Path) -> None:
    """Harm: row i of the vectors is no longer the vector of row i; an empty part shifts or breaks them."""
    rows = np.arange(24, dtype=np.float16).reshape(6, 4)
    for part, (start, end) in enumerate([(0, 2), (2, 2), (2, 6)]):
        tables.write(tmp_path, tables.vectors(4), {"vector": rows[start:end]}, part=part)
    held = tables.opened(tmp_path)["vector"]
    assert np.array_equal(tables.matrix(held), rows)
    assert np.array_equal(tables.matrix(held.slice(1, 3)), rows[1:4])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": None}, "no column seed"),
        ({"seed": ["a", "b", "c"]}, "column seed"),
        ({"seed": [1.5, 0.0, 1.0]}, "column seed"),
        ({"seed": [1, 2]}, "length"),
        ({"query": [1, 2, 3]}, "column query"),
        ({"query": ["a", None, "c"]}, "column query: 1 values are missing"),
        ({"query": pa.array([b"a", b"\xff", b"c"])}, "column query"),
    ],
)
def test_a_wrong_column_is_refused(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    """Harm: a column of another type or with holes is found out by the stage after the next."""
    columns = {name: value for name, value in {**QUERIES, **changed}.items() if value is not None}
    with pytest.raises(ValueError, match=said):
        tables.write(tmp_path / "queries", tables.QUERIES, columns)
    assert not list(tmp_path.rglob("part-*"))


def test_a_table_of_another_schema_is_refused(tmp_path: Path) -> None:
    """Harm: a table made elsewhere is written under a schema that it does not have."""
    with pytest.raises(ValueError, match="do not match"):
        tables.write(tmp_path / "queries", tables.QUERIES, pa.table({"query": ["a"]}))


def test_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    """Harm: four numbers of one text and four of the next become one vector of eight."""
    with pytest.raises(ValueError, match=r"column vector: an array of shape \(8, 4\), not \(rows, 8\)"):
        tables.write(tmp_path / "vectors", tables.vectors(8), {"vector": np.zeros((8, 4), np.float16)})


def test_a_note_cannot_say_another_size(tmp_path: Path) -> None:
    """Harm: a stage's own `rows` hides how many rows the part has."""
    note = {"rows": 99, "sha256": "x", "bytes": 0, "dropped": 7}
    tables.write(tmp_path, tables.QUERIES, QUERIES, note=note)
    told = tables.notes(tmp_path)[0]
    file = tmp_path / "part-00000.arrow"
    assert told == {"rows": 3, "sha256": files.digest(file), "bytes": file.stat().st_size, "dropped": 7}


def test_what_scores_mean_is_kept(tmp_path: Path) -> None:
    """Harm: log-probabilities are taken for cosines because their scale was lost on the way."""
    meaning = {"scale": "cosine", "model": "teacher@1"}
    schema = tables.candidates(2, {"similarities": meaning})
    columns = QUERIES | {
        "passages": np.zeros((3, 2), np.int64),
        "twins": np.zeros((3, 2), np.int64),
        "similarities": np.ones((3, 2), np.float32),
        "seed_rank": np.zeros(3, np.int32),
        "seed_similarity": np.zeros(3, np.float32),
    }
    for part in range(2):
        tables.write(tmp_path, schema, columns, part=part)
    held = tables.opened(tmp_path).schema.field("similarities").metadata
    assert {key.decode(): value.decode() for key, value in held.items()} == meaning


def test_a_cut_part_does_not_open(tmp_path: Path) -> None:
    """Harm: a file that was cut off reads as a shorter table."""
    tables.write(tmp_path, tables.QUERIES, QUERIES)
    file = tmp_path / "part-00000.arrow"
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(Refused, match="cannot be read"):
            tables.opened(tmp_path)


def test_no_rows_are_refused(tmp_path: Path) -> None:
    """Harm: a folder without a committed part fails deep inside a library."""
    (tmp_path / "queries").mkdir()
    with pytest.raises(Refused, match="holds no rows"):
        tables.opened(tmp_path / "queries")


def test_the_parquet_copy_is_equal(tmp_path: Path) -> None:
    """Harm: what is given to other programs is not what was trained on."""
    folder = finished(tmp_path / "a")
    copies = tables.to_parquet(folder, tmp_path / "copy")
    assert [file.name for file in copies] == ["queries.parquet", "vectors.parquet"]
    for file in copies:
        assert pq.read_table(file, page_checksum_verification=True).equals(tables.read(folder, file.stem))


def test_a_table_is_a_hugging_face_dataset(tmp_path: Path) -> None:
    """Harm: users of `datasets` would have to copy the rows first, or get others."""
    import datasets

    folder = finished(tmp_path / "a")
    held = tables.dataset(folder, "queries")
    assert isinstance(held, datasets.Dataset)
    assert held.to_list() == tables.read(folder, "queries").to_pylist()
    assert held.map(lambda row: {"length": len(row["query"])})["length"][:] == [7, 7, 7]
    vectors = tables.dataset(folder, "vectors").with_format("numpy")[:]["vector"]
    assert np.array_equal(vectors, tables.matrix(tables.read(folder, "vectors")["vector"]))


def test_titles_stand_above_their_texts(tmp_path: Path) -> None:
    """Harm: a title is lost, or an empty one leaves a blank line that a model reads."""
    columns = {"source": ["s"] * 3, "key": ["1", "2", "3"], "title": ["A", "", "C"], "text": ["a", "b", "c"]}
    tables.write(tmp_path, tables.PASSAGES, columns)
    held = tables.opened(tmp_path)
    assert tables.passage_texts(held) == ["A\na", "b", "C\nc"]
    assert tables.passage_texts(held, [2, 1, 1]) == ["C\nc", "b", "b"]


def test_a_row_outside_its_table_is_named() -> None:
    """Harm: row -1 quietly means the last passage."""
    tables.check_rows("seeds", [0, 4], 5)
    for row in (-1, 5):
        with pytest.raises(Refused, match=f"seeds: row {row} is outside the passages table of 5 rows"):
            tables.check_rows("seeds", np.array([0, row]), 5)


def test_a_score_says_what_it_counts() -> None:
    """Harm: a score's meaning is lost because it was never written, or is bytes that JSON refuses."""
    schema = tables.candidates(1, {"similarities": {"scale": "cosine"}})
    assert tables.scale(schema.empty_table(), "similarities") == {"scale": "cosine"}
    assert tables.scale(schema.empty_table(), "query") == {}
