"""The report: self-contained, well formed, safe, and saying what the numbers say."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from distill import artifact, files, findings, legend, stages, tables
from distill.errors import Refused
from distill.page import Table, soft
from distill.stages.report import report

EVIL = "<script>alert('x')</script> & | ](javascript:x)"


def finished(folder: Path, verb: str, settings: dict[str, object] | None = None, **facts: object) -> Path:
    """An artifact whose tables are already written."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {"verb": verb, "version": 1, "settings": {"name": folder.name, **(settings or {})}}
    files.write_json(folder / "recipe.json", recipe)
    artifact.finish(folder, {"seconds": 3.2, "peak_memory_bytes": 2_000_000, "versions": {"torch": "2.13.0"}, **facts})
    return folder


def interval(value: float, half: float = 0.01) -> dict[str, float]:
    """A value with its interval."""
    return {"value": value, "low": value - half, "high": value + half}


VALUES = {"teacher": 0.643, "untrained": 0.531, "start": 0.402, "contrastive": 0.551, "distilled": 0.617, "int8": 0.612}


def metrics(values: dict[str, float], half: float = 0.01) -> dict[str, Any]:
    """What `evaluate` writes, for given means."""
    measured = {
        name: {
            **interval(value),
            "retention": interval(value / values["teacher"], 0.015),
            "above": {other: interval(value - below, half) for other, below in values.items() if other != name},
        }
        for name, value in values.items()
    }
    small = {"what": "Encoder(small)", "parameters": 22_713_216, "parameters_computing": 10_646_784, "dim": 384}
    costs = {
        name: {**small, "bytes": 90_852_864, "latency": {"p50": 4.12, "p95": 5.5}, "passages_per_second": 812.5}
        for name in values
    }
    costs["teacher"] |= {"what": EVIL, "bytes": 1_192_099_840, "latency": {"p50": 214.0, "p95": 230.0}}
    costs["int8"] |= {"parameters": None, "parameters_computing": None, "bytes": 23_021_311}
    counts = {"queries": 300, "pairs": 0, "passages": 5183, "resamples": 2000}
    measures = {"ndcg@10": measured, "recall@100": copy.deepcopy(measured)}
    return {"main": "ndcg@10", "teacher": "teacher", **counts, "models": costs, "measures": measures, "tasks": {}}


def evaluation(folder: Path, found: dict[str, Any]) -> Path:
    """A finished evaluation."""
    folder.mkdir(parents=True)
    files.write_json(folder / "metrics.json", found)
    return finished(folder, "evaluate", models={})


def run(folder: Path) -> tuple[Path, ...]:
    """The artifacts of a small run, with hostile texts wherever text comes from outside."""
    corpus, queries, student = (folder / name for name in ("corpus", "queries", "student_2"))
    texts = [f"passage {row} {EVIL}" for row in range(9)]
    held = {"source": ["s"] * 9, "key": list("abcdefghi"), "title": ["", *["T"] * 8], "text": texts}
    tables.write(corpus / "passages", tables.PASSAGES, held)
    screened = {"0123456789ab": {f"nq {EVIL}": {"word for word": 1234, "in part": 56}}}
    came = {"licences": {"web": "CC-BY-4.0", f"forum {EVIL}": "CC-BY-NC-4.0"}, "screened": screened}
    finished(corpus, "ingest", **came, dropped={"duplicate": 4321})
    asked = [f"question {row} {EVIL}" for row in range(3)]
    tables.write(queries / "queries", tables.QUERIES, {"task": [EVIL] * 3, "query": asked, "seed": [0, 1, 2]})
    finished(queries, "generate", refused=0.125)
    histograms = {EVIL: {"edges": [0.0, 0.5, 1.0], "counts": [10, 20]}}
    pairs = labelled(folder, "pairs", asked, relabelled=0.0)
    examples = labelled(folder, "examples", asked, relabelled=0.5, histograms=histograms, dropped={"no negative": 17})
    steps = {"step": [1, 2, 1, 2], "measure": ["kl", "kl", "loss", "loss"], "value": [1.0, 0.5, 3.0, 2.0]}
    tables.write(student / "curves", tables.CURVES, steps)
    finished(student, "train", skipped_steps=0, **came, licence_warnings=["as in the licences"])
    return corpus, queries, *pairs, *examples, student


def labelled(folder: Path, name: str, asked: list[str], **facts: object) -> tuple[Path, Path]:
    """What was labelled, and the examples; `pairs` without judges, so that each seed stays the positive.

    The example of query 2 keeps its seed; where there were judges, that of query 0 has another positive.
    """
    is_judged = name != "pairs"
    refers = {"passages": artifact.fingerprint(folder / "corpus")}
    source, examples = folder / f"of_{name}", folder / name
    held: dict[str, object] = {
        "task": [EVIL] * 3, "query": asked, "seed": [0, 1, 2], "passages": [[0, 7]] * 3,
        "twins": [[0, 7]] * 3, "similarities": [[0.625, 0.5]] * 3, "seed_rank": [0] * 3, "seed_similarity": [0.625] * 3,
    }  # fmt: skip
    if is_judged:
        scores = {"likelihoods": [[-2.0, -1.0]] * 3, "relevances": [[-2.0, -1.0]] * 3}
        said: dict[str, dict[str, str]] = {"similarities": {}, "likelihoods": {}, "relevances": {}}
        tables.write(source / "judgements", tables.candidates(2, said), held | scores)
    else:
        tables.write(source / "candidates", tables.candidates(2, {"similarities": {}}), held)
    finished(source, "judge" if is_judged else "mine", refers=refers)
    columns: dict[str, object] = {
        "kind": ["retrieval"] * 2, "task": [EVIL] * 2, "query": [asked[row] for row in (2, 0)],
        "passages": [[2, 5, 6], [7, 0, 8] if is_judged else [0, 7, 8]],
        "scores": [[0.9, 0.5, 0.4], [0.875, 0.625, 0.25]],
        "in_batch": [True] * 2, "symmetric": [False] * 2, "group": [-1] * 2, "origin": [2, 0],
    }  # fmt: skip
    tables.write(examples / "examples", tables.EXAMPLES, columns)
    settings: dict[str, object] = {"candidates": {"artifact": artifact.fingerprint(source)}, "positive": "judged"}
    finished(examples, "label", settings, refers=refers, **facts)
    return source, examples


class Balanced(HTMLParser):
    """Fails on a tag that is closed without being open, or left open; keeps what would be loaded, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open."""
        self.tags.add(tag)
        self.loads += [
            str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action", "poster")
        ]
        if tag not in ("meta", "br", "hr", "img", "input", "link", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Only shapes of a figure close themselves."""
        assert tag in ("line", "rect", "circle", "polygon", "polyline"), tag

    def handle_endtag(self, tag: str) -> None:
        """Close."""
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text."""
        self.text += data


def parse(page: str) -> Balanced:
    """The page, read by a parser that does not forgive."""
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A whole report."""
    artifacts = (*run(tmp_path), evaluation(tmp_path / "evaluation", metrics(VALUES)))
    report(artifacts=artifacts, out=tmp_path / "report")
    return tmp_path / "report"


def test_the_page_is_well_formed_and_loads_nothing(made: Path) -> None:
    """Harm: a page that is blank on a train, tells a server who reads it, or breaks in another browser."""
    page = (made / "report.html").read_text(encoding="utf-8")
    parser = parse(page)
    assert parser.loads == []
    assert not parser.tags & {"script", "link", "iframe", "img", "object", "embed", "base"}
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"@import|url\(|//", style)
    assert "default-src 'none'" in page
    assert {"svg", "table", "details"} <= parser.tags


def test_hostile_text_stays_text(made: Path) -> None:
    """Harm: a passage from the web runs code in the browser of who reads the report."""
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert parse(page).text.count(EVIL) >= 6  # passages, queries, tasks, a histogram's name, a model's name
    markdown = (made / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    for line in markdown.splitlines():
        if line.startswith("| teacher |") and "script" in line:
            assert len(re.findall(r"(?<!\\)\|", line)) == 3  # the pipe of the text is no cell


def test_every_number_of_the_tables_is_that_of_record(made: Path) -> None:
    """Harm: the page and metrics.json tell two stories."""
    found = json.loads((made / "metrics.json").read_text())
    assert found == metrics(VALUES)
    markdown = (made / "report.md").read_text(encoding="utf-8")
    page = parse((made / "report.html").read_text(encoding="utf-8")).text
    quality = markdown[markdown.index("Quality, with") : markdown.index("Cost;")]
    for name in VALUES:
        line = next(line for line in quality.splitlines() if line.startswith(f"| {name} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        held = found["measures"]["ndcg@10"][name]
        wanted = [held[key] for key in ("value", "low", "high")]
        assert [float(part) for part in re.findall(r"[\d.]+", cells[1])] == pytest.approx(wanted, abs=5e-4)
        kept = [held["retention"][key] * 100 for key in ("value", "low", "high")]
        assert [float(part) for part in re.findall(r"[\d.]+", cells[2])] == pytest.approx(kept, abs=0.05)
        assert cells[1].split(" ", 1)[1] in page
    cost = markdown[markdown.index("Cost;") :]
    assert "| distilled | 22,713,216 | 10,646,784 | 384 | 90.9 MB | 4.12 | 5.50 | 812.5 |" in cost
    assert "| int8 | \u2013 | \u2013 | 384 | 23.0 MB |" in cost


def test_the_headline_compares_with_the_teacher(made: Path) -> None:
    """Harm: a ratio upside down."""
    page = parse((made / "report.html").read_text(encoding="utf-8")).text
    assert "distilled keeps 96.0% of teacher's nDCG@10" in page
    assert "13.1\u00d7smaller: 90.9 MB instead of 1.2 GB" in page
    assert "52\u00d7faster: 4.1 ms a query instead of 214.0 ms" in page
    assert "52\u00d7smaller: 23.0 MB instead of 1.2 GB" in page


def test_a_teacher_alone_keeps_nothing_of_itself(tmp_path: Path) -> None:
    """Harm: who trains only a teacher reads what BM25 keeps of it, and of models that were never made."""
    values = {"untrained": 0.2, "teacher_1": 0.6, "teacher": 0.64, "bm25": 0.9}
    found = metrics(values | {"int8": 0})
    found["models"].pop("int8")
    for measure in found["measures"].values():
        measure.pop("int8")
        for held in measure.values():
            held["above"].pop("int8")
    held = evaluation(tmp_path / "evaluation", found)
    kept = {"models": {"bm25": {"value": 0.9, "retention": {"value": 1.406}}}}
    artifact.finish(held, {**artifact.facts(held), **kept})
    facts = report(artifacts=(held,), out=tmp_path / "report")
    assert set(facts["verdicts"]) == {"teacher > untrained", "teacher > teacher_1"}  # type: ignore[call-overload]
    page = parse((tmp_path / "report" / "report.html").read_text(encoding="utf-8")).text
    for word in ("student", "distilled", "int8", "kept of the teacher", "retention", "140.6%", "1.406", "keeps"):
        assert word not in page, word
    assert "the teacher after its last stage" in page
    assert "nDCG@10 of 4 models" in page


@pytest.mark.parametrize(
    ("distilled", "half", "verdict", "said"),
    [
        (0.617, 0.01, "shown", "distilled is above contrastive by +0.066 [+0.056, +0.076] nDCG@10."),
        (0.485, 0.01, "refuted", "was to be above contrastive and is below it: -0.066 [-0.076, -0.056]"),
        (0.556, 0.01, "open", "cannot tell the two apart: +0.005 [-0.005, +0.015]"),
        (0.617, 0.09, "open", "cannot tell the two apart: +0.066 [-0.024, +0.156]"),
    ],
)
def test_verdicts_turn_with_the_numbers(tmp_path: Path, distilled: float, half: float, verdict: str, said: str) -> None:
    """Harm: the page praises a method that its own intervals do not support."""
    held = evaluation(tmp_path / "evaluation", metrics({**VALUES, "distilled": distilled}, half))
    claim = "distilled > contrastive"
    facts = report(artifacts=(held,), claims=(claim,), out=tmp_path / "report")
    assert facts["verdicts"] == {claim: verdict}
    for name in ("report.html", "report.md"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert said in (parse(text).text if name.endswith("html") else text)


@pytest.mark.parametrize(
    ("int8", "half", "verdict"),
    [(0.616, 0.005, "shown"), (0.612, 0.01, "open"), (0.58, 0.01, "refuted"), (0.66, 0.01, "refuted")],
)
def test_close_means_the_whole_interval_is_close(int8: float, half: float, verdict: str) -> None:
    """Harm: a difference that is merely not significant is sold as no loss."""
    assert findings.judge("int8 ~ distilled", metrics({**VALUES, "int8": int8}, half))[0] == verdict


def test_what_was_not_measured_is_said() -> None:
    """Harm: a missing control is not noticed."""
    values = {name: value for name, value in VALUES.items() if name != "contrastive"}
    verdict, said = findings.judge("distilled > contrastive", metrics(values))
    assert verdict == "unmeasured"
    assert "has no contrastive" in said


@pytest.mark.parametrize("claim", ["distilled beats start", "distilled > distilled", "a > b > c"])
def test_other_claims_are_refused(claim: str) -> None:
    """Harm: a claim that is never tested."""
    with pytest.raises(Refused, match="claims: "):
        findings.judge(claim, metrics(VALUES))


def test_samples_show_what_was_relabelled(made: Path) -> None:
    """Harm: texts of other rows or of another step, and the reader judges labels that nobody gave."""
    markdown = (made / "report.md").read_text(encoding="utf-8")
    part = markdown[markdown.index("## Relabelled rows") : markdown.index("## Provenance")]
    assert "examples: 1 of 2 rows have another positive" in part
    assert "pairs" not in part  # had no judges: its none of two says nothing
    assert "question 0" in part
    assert "question 2" not in part  # its positive is its seed
    assert re.search(r"\*seed passage\*: passage 0", part)
    assert re.search(r"\*positive chosen, score 0\.875\*: T passage 7", part)
    assert re.search(r"\*hard negative 1, score 0\.625 \(the seed\)\*: passage 0", part)


def test_samples_of_judgements_that_were_made_again_are_left_out(tmp_path: Path) -> None:
    """Harm: row numbers of yesterday's judgements are looked up in today's, and wrong pairs are shown as labels."""
    artifacts = run(tmp_path)
    files.write_json(tmp_path / "examples" / "inputs.json", {"candidates": "other bytes"})
    artifact.finish(tmp_path / "examples", artifact.read_json(tmp_path / "examples" / "done.json"))
    report(artifacts=artifacts, out=tmp_path / "report")
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    part = markdown[markdown.index("## Relabelled rows") : markdown.index("## Provenance")]
    assert "of_examples was made again since" in part
    assert "seed passage" not in part


def test_each_step_that_could_relabel_has_its_samples(tmp_path: Path) -> None:
    """Harm: of two ways to label that are compared, the page shows one under the other's name."""
    artifacts = run(tmp_path)
    again = labelled(tmp_path, "others", [f"question {row} {EVIL}" for row in range(3)], relabelled=0.5)
    report(artifacts=(*artifacts, *again), samples=0, out=tmp_path / "report")
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    part = markdown[markdown.index("## Relabelled rows") : markdown.index("## Provenance")]
    assert [line.partition(":")[0] for line in part.splitlines() if "1 of 2 rows" in line] == ["examples", "others"]
    assert "seed passage" not in part  # none were asked for


def test_figures_and_models_say_what_they_mean(made: Path) -> None:
    """Harm: `relabelled` and `start` are read as whatever the reader guesses."""
    text = (made / "report.md").read_text(encoding="utf-8")
    assert f"| examples | relabelled ({legend.FIGURES['relabelled']}) | 0.5 |" in text
    assert f"| start | {legend.NAMES['start']} (Encoder(small)) |" in text
    page = (made / "report.html").read_text(encoding="utf-8")
    assert f"relabelled<small> {legend.FIGURES['relabelled']}</small>" in page
    assert "one machine at one moment" in page


def test_a_model_is_told_by_what_made_it(tmp_path: Path) -> None:
    """Harm: the only answer to what a model is, is a hash."""
    exported = finished(tmp_path / "edge", "export")
    settings: dict[str, object] = {
        "models": {
            "start": {"class_path": "students.Encoder", "init_args": {"layers": [0, 5], "revision": None, "base": "x"}},
            "int8": {
                "class_path": "students.Exported",
                "init_args": {"folder": {"artifact": artifact.fingerprint(exported)}},
            },
            "distilled": {"artifact": "dae886809244aa"},
        }
    }
    found = metrics(VALUES)
    found["models"]["distilled"]["what"] = "student_2@dae886809244"
    held = evaluation(tmp_path / "evaluation", found)
    finished(held, "evaluate", settings, models={})
    report(artifacts=(exported, held), out=tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "(Encoder: base x; layers 0, 5)" in text
    assert "(Exported: folder step edge)" in text
    assert "(step student_2, recipe dae886809244)" in text


def test_a_teacher_below_the_start_is_said_before_anything_else(tmp_path: Path) -> None:
    """Harm: a student that passed a poor teacher reads as a triumph of distillation."""
    values = {**VALUES, "start": 0.66, "distilled": 0.70, "contrastive": 0.705}
    held = evaluation(tmp_path / "evaluation", metrics(values))
    report(artifacts=(held,), out=tmp_path / "report")
    for name in ("report.html", "report.md"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        top = text[text.index("<body>") if "<body>" in text else 0 : text.index("What came out")]
        assert "distilled is above its teacher: 0.700 against 0.643 nDCG@10" in top
        assert "there is little in it to learn" in top
        assert "than contrastive" in top
        assert "108.9%" not in text[: text.index("Every model")]  # 0.7 of 0.643, as no headline


def test_a_benchmark_that_tells_nothing_is_said_in_the_facts(tmp_path: Path) -> None:
    """Harm: twelve questions decide which model is shipped, and the command line shows no doubt."""
    found = metrics(VALUES) | {"queries": 12}
    facts = report(artifacts=(evaluation(tmp_path / "evaluation", found),), out=tmp_path / "report")
    assert "12 queries (fewer than 50)" in str(facts["warning"])
    assert str(facts["warning"]) in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    enough = evaluation(tmp_path / "other", metrics(VALUES))
    assert "warning" not in report(artifacts=(enough,), out=tmp_path / "report_2")


def test_only_the_standing_claims_may_go_unmeasured_in_silence(tmp_path: Path) -> None:
    """Harm: what the user asked is dropped without a word; or each page is full of questions nobody asked."""
    held = evaluation(tmp_path / "evaluation", metrics(VALUES))
    standing = report(artifacts=(held,), out=tmp_path / "report")["verdicts"]
    assert isinstance(standing, dict)
    assert "teacher > start" in standing
    assert "teacher > teacher_1" not in standing
    asked = ("teacher > teacher_1", "distilled > start")
    given = report(artifacts=(held,), claims=asked, out=tmp_path / "report_2")["verdicts"]
    assert given == {"teacher > teacher_1": "unmeasured", "distilled > start": "shown"}


def test_a_claim_of_another_form_is_refused_before_the_first_step(tmp_path: Path) -> None:
    """Harm: hours of training, and the last step stops at a typing error."""
    assert stages.faults(report, {"artifacts": (tmp_path,), "claims": ("distilled beats start",)})


def test_long_names_break_at_seams_and_numbers_never(made: Path) -> None:
    """Harm: on a phone 1,237 reads as 1,23 and 7."""
    assert soft("temperature_for_entropy_0.6") == "temperature_<wbr>for_<wbr>entropy_<wbr>0.6"
    assert soft("1,234,567,890,123.4567") == "1,234,567,890,123.4567"
    assert soft("a<b & 'c'") == "a&lt;b &amp; &#x27;c&#x27;"
    css = (made / "report.html").read_text(encoding="utf-8")
    rule = next(line for line in css.splitlines() if line.startswith("table.words th, table.words td { white-space"))
    assert "anywhere" not in rule
    digest = Table(["a", "b"], [["x", "0" * 64], ["y", "1,237"]], words=True).html()
    assert digest.count('class="long"') == 1


def test_facts_drops_licences_and_curves_are_there(made: Path) -> None:
    """Harm: dropped rows, a licence or a loss that a reader must know of is left out."""
    parser = parse((made / "report.html").read_text(encoding="utf-8"))
    for wanted in (
        "4,321",
        "no negative",
        "webCC-BY-4.0corpus",
        "For non-commercial use, or research, only: forum",
        "1,23456",
        "Losses of student_2 by step",
        "1.00 → 0.500",
        "0.125",
        "2.13.0",
    ):
        assert wanted in parser.text, wanted


def test_without_an_evaluation_the_rest_is_reported(tmp_path: Path) -> None:
    """Harm: no report of a run whose evaluation has yet to come."""
    report(artifacts=run(tmp_path), out=tmp_path / "report")
    assert "Relabelled rows" in parse((tmp_path / "report" / "report.html").read_text(encoding="utf-8")).text
    assert not (tmp_path / "report" / "metrics.json").exists()


def test_what_is_wrong_with_the_data_stands_at_the_head(made: Path, tmp_path: Path) -> None:
    """Harm: a model is shipped on a page whose one line on its bad training data is the fortieth of a table."""
    checked = finished(tmp_path / "looked_at", "health", warning="Hard negatives are answers: 68 %.")
    model = finished(tmp_path / "edge_alone", "export")
    report(artifacts=(model, checked), out=tmp_path / "without")
    head = (tmp_path / "without" / "report.html").read_text(encoding="utf-8").partition("</header>")[0]
    assert "There is no evaluation: nothing here says how good a model is." in head
    assert "looked_at: Hard negatives are answers: 68 %." in head
    assert "There is no evaluation" not in (made / "report.html").read_text(encoding="utf-8")


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    """Harm: an empty page passes for a run without findings."""
    with pytest.raises(Refused, match="artifacts: none"):
        report(artifacts=(), out=tmp_path / "report")


def test_two_evaluations_are_refused(tmp_path: Path) -> None:
    """Harm: the headline of one benchmark over the table of another."""
    held = tuple(evaluation(tmp_path / name, metrics(VALUES)) for name in ("one", "two"))
    with pytest.raises(Refused, match="2 evaluations"):
        report(artifacts=held, out=tmp_path / "report")
