"""The report on training data: figures against loops over the rows, artifacts that belong together, the page."""

import itertools
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from distill import artifact, files, legend, tables
from distill.errors import Refused
from distill.stages.health import health
from distill.stages.label import label

NAN = math.nan
EVIL = "<script>alert('x')</script> & | ](javascript:x)"
PASSAGES, DEPTH, QUERIES = 40, 6, 90
JUDGES = ("rerankings", "likelihoods", "relevances")
OPINIONS = ("similarities", "similarities_2", "lexical", *JUDGES)

Rows = list[dict[str, Any]]


def texts_in(folder: Path) -> Path:
    """Passages of 2 to 41 words, in three parts."""
    with artifact.claim(folder, {"verb": "ingest", "version": 1, "settings": {}}, {}, {}):
        for part, rows in enumerate(np.array_split(np.arange(PASSAGES), 3)):
            held = {
                "source": ["s"] * len(rows), "key": [str(row) for row in rows],
                "title": ["" if row % 2 else f"T{row}" for row in rows],
                "text": [f"{EVIL if row == 7 else row} " + "word " * int(row + 1) for row in rows],
            }  # fmt: skip
            tables.write(folder / "passages", tables.PASSAGES, held, part=part)
        artifact.finish(folder, {})
    return folder


def found() -> Rows:
    """Queries of chance with all that may be said of their candidates; some was not asked."""
    generator = np.random.default_rng(3)
    rows = []
    for number in range(QUERIES):
        passages = generator.permutation(PASSAGES)[:DEPTH].tolist()
        seed = passages[int(generator.integers(DEPTH))] if number % 5 else 39
        said = {name: np.round(generator.normal(-1, 1, DEPTH), 1).astype(np.float32) for name in OPINIONS}
        said["similarities"] = np.sort(generator.random(DEPTH).astype(np.float32))[::-1]
        for name in JUDGES:
            said[name][int(generator.integers(1, DEPTH + 1)) :] = NAN
        rank = passages.index(seed) if seed in passages else -1
        rows.append(
            {
                "task": f"task {number // 2 % 3} {EVIL if number == 5 else ''}", "query": f"query {number // 2} {EVIL}",
                "seed": seed, "passages": passages, "seed_rank": rank,
                "seed_similarity": float(said["similarities"][rank]) if rank >= 0 else 0.5,
                "twins": [passages[0] if place == 3 else passage for place, passage in enumerate(passages)],
                **{name: values.tolist() for name, values in said.items()},
            }
        )  # fmt: skip
    return rows


def written(folder: Path, of: Path, rows: Rows, names: Sequence[str] = OPINIONS, parts: int = 3) -> Path:
    """An artifact of candidates with these opinions."""
    schema = tables.candidates(DEPTH, {name: {} for name in names})
    with artifact.claim(folder, {"verb": "judge", "version": 1, "settings": {"name": folder.name}}, {}, {}):
        for part, chosen in enumerate(np.array_split(np.arange(len(rows)), parts)):
            held = {name: [rows[row][name] for row in chosen] for name in schema.names}
            tables.write(folder / "judgements", schema, held, part=part)
        artifact.finish(folder, {"refers": {"passages": artifact.fingerprint(of)}})
    return folder


def chosen(rows: Rows) -> Rows:
    """Examples of most queries, in another order; some have scores, some list no candidate, two come twice."""
    generator = np.random.default_rng(4)
    made = []
    for origin in generator.permutation(len(rows))[: 2 * len(rows) // 3].tolist():
        row = rows[origin]
        positive = row["passages"][int(generator.integers(2))] if origin % 2 else row["seed"]
        others = [passage for passage in row["passages"] if passage != positive]
        listed = [positive, *generator.permutation(others)[: int(generator.integers(4))].tolist()]
        if origin % 7 == 0:
            listed.append(int(generator.integers(PASSAGES)))
        scores = generator.random(len(listed)).round(1).tolist() if origin % 4 else []
        group = -1 if origin // 2 % 3 else 1
        kind = "retrieval" if origin % 6 else "clustering"
        made.append(
            {
                "kind": kind, "task": row["task"], "query": row["query"], "passages": listed, "scores": scores,
                "in_batch": bool(origin % 2), "symmetric": False, "group": group, "origin": origin,
            }
        )  # fmt: skip
    return [*made, dict(made[10]), dict(made[11])]


def examples(folder: Path, of: Path, rows: Rows, candidates: Path | None = None) -> Path:
    """An artifact of examples in two parts, as `label` makes it of candidates."""
    inputs = {"candidates": candidates} if candidates else {}
    settings = {name: {"artifact": artifact.fingerprint(held)} for name, held in inputs.items()}
    with artifact.claim(folder, {"verb": "label", "version": 1, "settings": settings}, inputs, {}):
        for part, chosen in enumerate((rows[: len(rows) // 3], rows[len(rows) // 3 :])):
            held = {name: [row[name] for row in chosen] for name in tables.EXAMPLES.names}
            tables.write(folder / "examples", tables.EXAMPLES, held, part=part)
        artifact.finish(folder, {"refers": {"passages": artifact.fingerprint(of)}})
    return folder


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Path]:
    """What a report is made of."""
    of = texts_in(tmp_path / "corpus")
    candidates = written(tmp_path / "judged", of, found())
    return {
        "passages": of,
        "candidates": candidates,
        "examples": examples(tmp_path / "examples", of, chosen(found()), candidates),
    }


def figures(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "health.json").read_text())
    return read


def test_a_judge_that_label_left_out_is_left_out_here(tmp_path: Path) -> None:
    """Harm: rows that were labelled without a judge of chance are still measured by it, and no page is ever good."""
    of = texts_in(tmp_path / "corpus")
    candidates = written(tmp_path / "judged", of, found())
    label(candidates=candidates, judges=("likelihoods",), out=tmp_path / "labelled")
    health(passages=of, examples=tmp_path / "labelled", candidates=candidates, out=tmp_path / "out")
    named = {name for pair in figures(tmp_path / "out")["agreement"] for name in (pair["one"], pair["other"])}
    assert named == {"similarities", "similarities_2", "lexical", "likelihoods"}
    page = (tmp_path / "out" / "health.html").read_text(encoding="utf-8")
    assert "labelled from judged without rerankings and relevances." in page
    label(candidates=candidates, out=tmp_path / "all")
    health(passages=of, examples=tmp_path / "all", candidates=candidates, out=tmp_path / "whole")
    whole = figures(tmp_path / "whole")["agreement"]
    assert {name for pair in whole for name in (pair["one"], pair["other"])} == set(OPINIONS)


def mean(values: Sequence[float | bool]) -> float:
    return float(np.mean([float(value) for value in values]))


def test_figures_of_what_was_said_equal_a_loop(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: columns of two queries are mixed up, and judges, seeds or negatives are blamed for another row's."""
    health(**made, out=tmp_path / "out")
    told, asked = figures(tmp_path / "out"), found()
    rows = [(row, asked[row["origin"]]) for row in chosen(asked)]
    moved = [row["passages"][0] != query["seed"] for row, query in rows]
    assert told["positives"]["relabelled"] == pytest.approx(mean(moved), abs=1e-6)
    assert told["positives"]["rows_relabelled"] == sum(moved)
    lost = mean([query["seed_rank"] < 0 for _, query in rows])
    assert told["positives"]["seed_rank"]["not found"] == pytest.approx(lost, abs=1e-6)
    first = mean([row["passages"][0] == query["passages"][0] for row, query in rows])
    assert told["positives"]["positive_rank"]["1"] == pytest.approx(first, abs=1e-6)
    pairs = {(pair["one"], pair["other"]): pair for pair in told["agreement"]}
    assert set(pairs) == set(itertools.combinations(OPINIONS, 2))
    for (one, other), pair in pairs.items():
        alike, left_out = [], 0
        for _, query in rows:
            both = [(a, b) for a, b in zip(query[one], query[other], strict=True) if not math.isnan(a + b)]
            if len(both) < 2 or any(len(set(column)) < 2 for column in zip(*both, strict=True)):
                left_out += 1
            else:
                alike.append(float(scipy.stats.spearmanr(*zip(*both, strict=True)).statistic))
        assert (pair["queries"], pair["left_out"]) == (len(alike), left_out)
        assert pair["correlation"] == pytest.approx(np.mean(alike), abs=1e-6)
    for name in OPINIONS:
        above, left_out = [], 0
        for row, query in rows:
            said = dict(zip(query["passages"], query[name], strict=True))
            if name == "similarities":
                said.setdefault(query["seed"], query["seed_similarity"] if row["passages"][0] == query["seed"] else NAN)
            top = said.get(row["passages"][0], NAN)
            for negative in row["passages"][1:]:
                value = said.get(negative, NAN)
                left_out += math.isnan(value + top)
                above += [] if math.isnan(value + top) else [np.float32(value) > np.float32(top)]
        share = {"share": pytest.approx(mean(above), abs=1e-6), "of": len(above), "left_out": left_out}
        assert told["false_negatives"][f"above {name}"] == share
    twins = [
        dict(zip(query["passages"], query["twins"], strict=True)).get(negative, negative)
        == dict(zip(query["passages"], query["twins"], strict=True)).get(row["passages"][0], row["passages"][0])
        for row, query in rows
        for negative in row["passages"][1:]
    ]
    assert told["false_negatives"]["twin"]["share"] == pytest.approx(mean(twins), abs=1e-6)
    assert 0 < sum(twins) < len(twins)


def test_figures_of_the_rows_equal_a_loop(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: what is in the data is told wrongly: lengths of other passages, repetitions that are none."""
    health(**made, temperature=0.2, out=tmp_path / "out")
    told, rows = figures(tmp_path / "out"), chosen(found())
    texts = [f"{title}\n{text}" for title, text in _texts(made["passages"])]
    assert told["rows"] == len(rows)
    assert told["passages"] == len({passage for row in rows for passage in row["passages"]})
    assert {held["kind"]: held["rows"] for held in told["kinds"]} == Counter(row["kind"] for row in rows)
    assert {held["task"]: held["rows"] for held in told["tasks"]["frequent"]} == Counter(row["task"] for row in rows)
    lengths = {
        "queries": [len(row["query"].split()) for row in rows],
        "positives": [len(texts[row["passages"][0]].split()) for row in rows],
        "hard negatives": [len(texts[passage].split()) for row in rows for passage in row["passages"][1:]],
    }
    for name, counted in lengths.items():
        held = told["words"][name]
        assert (held["count"], held["mean"]) == (len(counted), pytest.approx(np.mean(counted), rel=1e-5))
        assert held["percentiles"]["95"] == pytest.approx(np.percentile(counted, 95), rel=1e-5)
    several = [row["scores"] for row in rows if len(row["scores"]) > 1]
    assert told["scores"]["lists_of_several"] == len(several)
    assert told["scores"]["above"] == pytest.approx(mean([max(s[1:]) > s[0] for s in several]), abs=1e-6)
    spread = [max(scores) - min(scores) for scores in several]
    assert told["scores"]["spread"]["mean"] == pytest.approx(np.mean(spread), rel=1e-4)
    assert (told["entropy"]["temperature"], told["entropy"]["share"]["count"]) == (0.2, len(several))
    answers = {(row["task"], row["query"], row["passages"][0]) for row in rows}
    opposed = [(row["task"], row["query"], passage) in answers for row in rows for passage in row["passages"][1:]]
    assert told["duplicates"]["contradicted"] == pytest.approx(mean(opposed), abs=1e-6)
    alone = [(row["task"], row["query"]) for row in rows if row["group"] < 0]
    assert told["duplicates"]["queries"] == pytest.approx(1 - len(set(alone)) / len(alone), abs=1e-6)
    assert told["duplicates"]["pairs"] == pytest.approx(1 - len(answers) / len(rows), abs=1e-6)
    assert len(set(alone)) < len(alone)
    assert len(answers) < len(rows)
    spelt = [row["query"] for row in rows]
    assert told["duplicates"]["near_queries"] == told["duplicates"]["plain_queries"]  # else they are far apart
    assert told["duplicates"]["plain_queries"] == pytest.approx(1 - len(set(spelt)) / len(spelt), abs=1e-6)
    most = Counter(row["passages"][0] for row in rows if row["kind"] == "retrieval").most_common(1)[0][1]
    assert told["duplicates"]["crowded"][0]["rows"] == most


def _texts(folder: Path) -> list[tuple[str, str]]:
    held = tables.read(folder, "passages")
    return list(zip(held["title"].to_pylist(), held["text"].to_pylist(), strict=True))


def test_blocks_change_nothing(made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: on data that does not fit into one block the figures are others, or the texts of other passages."""
    health(**made, out=tmp_path / "whole")
    module = sys.modules["distill.stages.health"]
    monkeypatch.setattr(module, "SLICE", 3)
    monkeypatch.setattr(module, "CELLS", 7 * DEPTH * DEPTH)
    health(**made, out=tmp_path / "blocks")
    assert figures(tmp_path / "blocks") == figures(tmp_path / "whole")
    pages = [(tmp_path / name / "health.html").read_bytes() for name in ("blocks", "whole")]
    assert pages[0] == pages[1]


def test_a_sampled_row_shows_its_own_texts_and_numbers(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: a person judges a positive by the text or the score of another passage."""
    health(**made, samples=12, seed=5, out=tmp_path / "out")
    page, asked, rows = parse(tmp_path / "out"), found(), chosen(found())
    drawn = figures(tmp_path / "out")["sample"]
    assert len(set(drawn)) == 12
    moved = [rows[row]["passages"][0] != asked[rows[row]["origin"]]["seed"] for row in drawn]
    assert moved == [True] * 6 + [False] * 6
    texts = _texts(made["passages"])
    for row in drawn:
        example, query = rows[row], asked[rows[row]["origin"]]
        title, text = texts[example["passages"][0]]
        positive = f"{title}\n{text}" if title else text
        said = [f"score {example['scores'][0]:.3g}"] if example["scores"] else []
        if example["passages"][0] in query["passages"]:
            at = query["passages"].index(example["passages"][0])
            said += [f"rank {at + 1}", *(f"{n} {query[n][at]:.3g}" for n in OPINIONS if not math.isnan(query[n][at]))]
        else:
            said.append("no candidate")
        name = "positive, the seed" if example["passages"][0] == query["seed"] else "positive"
        assert f"{' · '.join([name, *said])}{positive}" in page.text.replace("\u00a0", " ")


class Balanced(HTMLParser):
    """Fails on a tag that is closed without being open; keeps what would be loaded, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("line", "rect"), tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(out: Path) -> Balanced:
    parser = Balanced()
    parser.feed((out / "health.html").read_text(encoding="utf-8"))
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_loads_nothing_and_runs_nothing(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: a passage from the web runs code in the browser of who checks it, or tells a server that it was read."""
    health(**made, samples=60, out=tmp_path / "out")
    page, text = parse(tmp_path / "out"), (tmp_path / "out" / "health.html").read_text(encoding="utf-8")
    assert page.loads == []
    assert not page.tags & {"script", "link", "iframe", "img", "object", "embed", "base"}
    assert not re.search(r"@import|url\(|//", text[text.index("<style>") : text.index("</style>")])
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert page.text.count(EVIL) >= 60


def test_facts_are_explained_and_warnings_said(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: data that is off trains all the same, since only the page says so."""
    facts = health(**made, out=tmp_path / "out")
    shown = " ".join(capsys.readouterr().out.split())
    told = figures(tmp_path / "out")
    assert len(told["warnings"]) == sum(check["is_off"] for check in told["checks"]) > 3
    assert all(warning in shown and warning in str(facts["warning"]) for warning in told["warnings"])
    assert f"examples: {len(told['warnings'])} warnings" in parse(tmp_path / "out").text
    circumstances = ("seconds", "peak_memory_bytes", "versions", "refers")
    assert not [name for name in facts if name not in circumstances and not legend.meaning(name)]
    assert facts["relabelled"] == told["positives"]["relabelled"]
    assert facts["negatives_like_the_positive"] == told["false_negatives"]["twin"]["share"]


def test_rows_that_were_labelled_for_real(tmp_path: Path) -> None:
    """Harm: what `label` notes of its source is not what this reads, and the pair that belongs together is refused."""
    of = texts_in(tmp_path / "corpus")
    candidates = written(tmp_path / "judged", of, found(), ("similarities", "likelihoods", "relevances"))
    facts = label(candidates=candidates, negatives=3, rule="naive", out=tmp_path / "examples")
    told = health(passages=of, examples=tmp_path / "examples", candidates=candidates, out=tmp_path / "out")
    assert told["rows"] == facts["rows"]
    assert told["relabelled"] == pytest.approx(facts["relabelled"], abs=1e-4)
    assert told["temperature"] == pytest.approx(facts["temperature_for_entropy_0.6"], abs=1e-5)
    assert (told["contradicted"], told["negatives_nearer"]) != (None, None)
    assert set(told["agreement"]) == {  # type: ignore[call-overload]
        "similarities likelihoods", "similarities relevances", "likelihoods relevances"
    }  # fmt: skip
    alone = health(passages=of, examples=tmp_path / "examples", out=tmp_path / "alone")
    assert "relabelled" not in alone
    assert parse(tmp_path / "alone").text.count("Not known: give `candidates`") == 2


def test_candidates_of_other_examples_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: judges and seeds of other queries are laid beside these rows, and every figure is noise."""
    other = written(tmp_path / "other", made["passages"], found()[::-1])
    with pytest.raises(Refused, match=r"was not labelled from .*other\. Give the candidates that `label` read"):
        health(passages=made["passages"], examples=made["examples"], candidates=other, out=tmp_path / "out")
    given = examples(tmp_path / "given", made["passages"], chosen(found()))
    with pytest.raises(Refused, match="was not labelled from"):
        health(passages=made["passages"], examples=given, candidates=other, out=tmp_path / "out")
    facts = artifact.read_json(made["candidates"] / "done.json")
    with (made["candidates"] / "judgements" / "part-00002.json").open("a") as stream:
        stream.write(" ")
    artifact.finish(made["candidates"], facts)
    with pytest.raises(Refused, match=r"was made again with other bytes since .*Label again: --again examples\."):
        health(**made, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_of_other_passages_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: the page shows passages that nobody chose for these queries."""
    with artifact.claim(tmp_path / "more", {"verb": "ingest", "version": 2, "settings": {}}, {}, {}):
        held = {"source": ["s"] * 50, "key": ["k"] * 50, "title": [""] * 50, "text": ["x"] * 50}
        tables.write(tmp_path / "more" / "passages", tables.PASSAGES, held)
        artifact.finish(tmp_path / "more", {})
    with pytest.raises(Refused, match="counts rows of another table of passages"):
        health(**made | {"passages": tmp_path / "more"}, out=tmp_path / "out")


def test_an_origin_beyond_the_candidates_is_refused(tmp_path: Path) -> None:
    """Harm: a row is silently left out of the figures, or read from the end."""
    of = texts_in(tmp_path / "corpus")
    candidates = written(tmp_path / "judged", of, found())
    for origin in (-1, QUERIES):
        rows = chosen(found())
        rows[3]["origin"] = origin
        given = examples(tmp_path / f"examples{origin}", of, rows, candidates)
        with pytest.raises(Refused, match=f"row 3 has origin {origin}; needed: a row of the {QUERIES} candidates"):
            health(passages=of, examples=given, candidates=candidates, out=tmp_path / "out")


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_a_temperature_of_nothing_is_refused(temperature: float, made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: a division by zero deep in a table of figures."""
    with pytest.raises(Refused, match="temperature: "):
        health(**made, temperature=temperature, out=tmp_path / "out")


def test_rows_of_ingest_are_reported_without_scores(corpus: Path, tmp_path: Path) -> None:
    """Harm: supervised rows, which nobody scored or judged, cannot be looked at."""
    facts = health(passages=corpus, examples=corpus, samples=3, out=tmp_path / "out")
    told = figures(tmp_path / "out")
    assert {held["kind"] for held in told["kinds"]} == {"retrieval", "classification"}
    assert (told["scores"], told["entropy"], told["agreement"]) == ({}, {}, [])
    assert "temperature" not in facts
    assert "These rows have no scores" in parse(tmp_path / "out").text
    assert len(told["sample"]) == 3


def test_equal_scores_are_told(tmp_path: Path) -> None:
    """Harm: a judge that says the same of every passage stops the report that should say so."""
    of = texts_in(tmp_path / "corpus")
    rows = [row | {"scores": [0.5] * len(row["passages"])} for row in chosen(found())]
    facts = health(passages=of, examples=examples(tmp_path / "examples", of, rows), out=tmp_path / "out")
    assert facts["equal_scores"] == 1
    assert "No automatic temperature: the teacher's scores of every list are equal" in str(facts["warning"])
    assert "temperature" not in facts


def test_no_input_is_changed_and_the_page_is_the_same_again(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: looking at data changes it, or two looks at one thing differ."""
    before = {file: files.digest(file) for folder in made.values() for file in folder.rglob("*") if file.is_file()}
    for name in ("one", "two"):
        health(**made, out=tmp_path / name)
    assert {file: files.digest(file) for file in before} == before
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "two" / "manifest.json").read_bytes()
