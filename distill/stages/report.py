"""Artifacts of a run to one HTML page, the same in Markdown, and the numbers of record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import artifact, files, findings, tables
from distill.artifact import Facts
from distill.console import duration
from distill.errors import Refused
from distill.page import NONE, Block, Figures, Page, Sample, Section, Table, Text, Verdict
from distill.stages import stage

if TYPE_CHECKING:
    import pyarrow as pa

ASIDE = ("seconds", "peak_memory_bytes", "versions", "refers", "histograms", "dropped", "licences")


@stage(version=1)
def report(
    *,
    artifacts: tuple[Path, ...],
    students: tuple[str, ...] = ("distilled", "int8"),
    claims: tuple[str, ...] = findings.CLAIMS,
    samples: int = 6,
    out: Path,
) -> Facts:
    """Write the report of a run: headline, verdicts, tables, curves, samples, provenance.

    Args:
        artifacts: What is reported, each by its verb; of `evaluate` at most one. Samples of relabelled
            rows need the examples, what they were labelled from, and the passages.
        students: Models of the evaluation that the headline compares with its teacher.
        claims: What the evaluation is asked: `A > B` (A is better) or `A ~ B` (A is within a point of B).
            Decided by the paired interval; a claim that fails or stays open is said to.
        samples: Relabelled rows that are shown.
        out: Where the page goes.

    Returns:
        The verdict on each claim.

    Raises:
        Refused: There is nothing to report or two evaluations, or a claim has another form.
    """
    if not artifacts:
        raise Refused("artifacts: none; needed: the folders of the steps that are reported.")
    made = [_Made(folder, *_what(folder)) for folder in artifacts]
    evaluations = [each.folder for each in made if each.verb == "evaluate"]
    if len(evaluations) > 1:
        listed = ", ".join(map(str, evaluations))
        raise Refused(
            f"artifacts: {len(evaluations)} evaluations ({listed}); needed: at most one. Make a report of each."
        )
    page = Page("Report", ", ".join(each.folder.name for each in made))
    verdicts: dict[str, Verdict] = {}
    if evaluations:
        metrics: dict[str, Any] = artifact.read_json(evaluations[0] / "metrics.json")
        said = {claim: findings.judge(claim, metrics) for claim in claims}
        verdicts = {claim: verdict for claim, (verdict, _) in said.items()}
        page = Page(*findings.title(metrics, students))
        page.sections.extend(findings.sections(metrics, students, list(said.values())))
        files.write_json(out / "metrics.json", metrics)
    page.sections.append(Section("Training", _training(made)))
    page.sections.append(Section("Data and scores", _data(made)))
    page.sections.append(Section("Relabelled rows", _samples(made, samples)))
    page.sections.append(Section("Provenance", _provenance(made)))
    page.sections.extend(Section(f"All facts of {each.folder.name}", [_all_facts(each)], folded=True) for each in made)
    for name, text in (("report.html", page.html()), ("report.md", page.markdown())):
        with files.replacing(out / name) as part:
            part.write_text(text, encoding="utf-8")
    return {"artifacts": [each.folder.name for each in made], "verdicts": verdicts, "opens": "report.html"}


@dataclass(frozen=True)
class _Made:
    """An artifact that is reported."""

    folder: Path
    verb: str
    facts: dict[str, Any]


def _what(folder: Path) -> tuple[str, dict[str, Any]]:
    artifact.require(folder)
    return str(artifact.read_json(folder / "recipe.json").get("verb")), artifact.facts(folder)


def _training(made: Sequence[_Made]) -> list[Block]:
    from distill import charts

    drawn = []
    for each in made:
        if (each.folder / "curves").is_dir():
            panels: dict[str, tuple[list[int], list[float]]] = {}
            for row in tables.read(each.folder, "curves").to_pylist():
                steps, values = panels.setdefault(row["measure"], ([], []))
                steps.append(row["step"])
                values.append(row["value"])
            drawn.append((each.folder.name, charts.curves(f"Losses of {each.folder.name} by step", panels)))
    return (
        [
            Text("By step: each part of the loss, unweighted, and the share of queries whose positive comes first."),
            Figures(drawn),
        ]
        if drawn
        else []
    )


def _data(made: Sequence[_Made]) -> list[Block]:
    from distill import charts

    about = [each for each in made if each.verb not in ("train", "evaluate", "report")]
    facts = [[each.folder.name, name, findings.told(held)] for each in about for name, held in _single(each.facts)]
    dropped = [
        [each.folder.name, rule, f"{count:,}"]
        for each in made
        for rule, count in findings.flat(each.facts.get("dropped", {}))
        if isinstance(count, int)
    ]
    drawn = [
        (
            f"{each.folder.name}: {name}",
            charts.histogram(f"{name} in {each.folder.name}", held["edges"], held["counts"]),
        )
        for each in made
        for name, held in each.facts.get("histograms", {}).items()
        if sum(held["counts"])
    ]
    blocks: list[Block] = [Table(["step", "figure", "value"], facts, words=True)] if facts else []
    if dropped:
        blocks.append(Table(["step", "rule", "rows"], dropped, "Dropped, by rule", words=True))
    return [*blocks, Figures(drawn)] if drawn else blocks


def _single(facts: Mapping[str, Any]) -> list[tuple[str, object]]:
    return [(name, held) for name, held in facts.items() if name not in ASIDE and not isinstance(held, (dict, list))]


def _samples(made: Sequence[_Made], count: int) -> list[Block]:
    """Rows whose positive is no longer the passage that the query was written from."""
    import numpy as np

    by_print = {artifact.fingerprint(each.folder): each.folder for each in made}
    for each in made:
        passages = by_print.get(str(each.facts.get("refers", {}).get("passages")))
        if each.verb != "label" or passages is None or not count:
            continue
        examples = tables.read(each.folder, "examples")
        seeds = _seeds(examples, [other.folder for other in made])
        if seeds is None:
            continue
        firsts = np.array([rows[0] for rows in examples["passages"].to_pylist()])
        changed = np.flatnonzero((firsts != seeds) & (seeds >= 0))
        chosen = changed[np.unique(np.linspace(0, len(changed) - 1, min(count, len(changed))).round().astype(int))]
        about = (
            f"{len(changed):,} of {len(examples):,} rows have another positive than the passage "
            "their query was written from."
        )
        texts = tables.read(passages, "passages")
        return [Text(about), *(_sample(examples.slice(row, 1), int(seeds[row]), texts) for row in chosen.tolist())]
    return []


def _seeds(examples: "pa.Table", folders: Sequence[Path]) -> Any:  # noqa: ANN401 an array, numpy not imported yet
    """The seed of each example, from the table that its `origin` counts; None if that is not given."""
    import numpy as np

    origins = examples["origin"].to_numpy()
    for folder in folders:
        for name in ("queries", "candidates", "judgements"):
            if (folder / name).is_dir():
                asked = tables.read(folder, name)
                inside = (origins >= 0) & (origins < len(asked))
                # The text tells whether it is the table that is counted.
                if inside.all() and asked["query"].take(origins).to_pylist() == examples["query"].to_pylist():
                    return np.asarray(asked["seed"].to_numpy())[origins]
    return None


def _sample(example: "pa.Table", seed: int, passages: "pa.Table") -> Sample:
    row = example.to_pylist()[0]
    listed = row["passages"][:4]
    texts = dict(zip([seed, *listed], tables.passage_texts(passages, [seed, *listed]), strict=True))
    scores = row["scores"] or [None] * len(row["passages"])
    named = ["positive chosen", *(f"hard negative {place}" for place in range(1, len(listed)))]
    said = [("task", row["task"]), ("seed passage", findings.cut(texts[seed]))]
    for name, passage, held in zip(named, listed, scores, strict=False):
        label = name + (f", score {held:.3f}" if held is not None else "") + (" (the seed)" if passage == seed else "")
        said.append((label, findings.cut(texts[passage])))
    return Sample(row["query"], said)


def _provenance(made: Sequence[_Made]) -> list[Block]:
    rows = [
        [
            each.folder.name,
            each.verb,
            duration(float(each.facts.get("seconds", 0))),
            findings.size(each.facts.get("peak_memory_bytes")),
            ", ".join(f"{count:,} {table}" for table, count in tables.describe(each.folder).items()) or NONE,
            artifact.fingerprint(each.folder)[:12],
        ]
        for each in made
    ]
    versions: dict[str, dict[str, None]] = {}
    for each in made:
        for library, version in each.facts.get("versions", {}).items():
            versions.setdefault(library, {})[str(version)] = None
    licences = [
        [each.folder.name, " ".join(filter(None, [name, findings.told(held)]))]
        for each in made
        for name, held in findings.flat(each.facts.get("licences", {}))
        if held
    ]
    blocks: list[Block] = [Table(["step", "verb", "time", "peak memory", "holds", "recipe"], rows)]
    if licences:
        blocks.append(Table(["step", "licence"], licences, "Licences", words=True))
    if versions:
        blocks.append(
            Table(["library", "version"], [[n, ", ".join(v)] for n, v in versions.items()], "Versions", words=True)
        )
    return blocks


def _all_facts(each: _Made) -> Table:
    kept = {name: held for name, held in each.facts.items() if name not in ("histograms", "versions")}
    return Table(["fact", "value"], [[name, findings.told(held)] for name, held in findings.flat(kept)], words=True)
