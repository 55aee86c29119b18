"""Artifacts of a run to one HTML page, the same in Markdown, and the numbers of record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import artifact, console, files, findings, legend, licences, lineage, tables
from distill.artifact import Facts
from distill.console import duration
from distill.errors import Refused
from distill.page import NONE, Block, Figures, Noted, Page, Sample, Section, Table, Text, Verdict
from distill.stages import stage

if TYPE_CHECKING:
    import pyarrow as pa


def _check(artifacts: tuple[Path, ...], claims: tuple[str, ...]) -> None:
    if not artifacts:
        raise Refused("artifacts: none; needed: the folders of the steps that are reported.")
    for claim in claims:
        findings.parsed(claim)


@stage(version=1, check=_check)
def report(
    *,
    artifacts: tuple[Path, ...],
    students: tuple[str, ...] = ("distilled", "student", "int8"),
    claims: tuple[str, ...] = findings.CLAIMS,
    samples: int = 6,
    out: Path,
) -> Facts:
    """Write the report of a run: headline, verdicts, tables, curves, samples, provenance.

    Args:
        artifacts: What is reported, each by its verb; of `evaluate` at most one. Samples of relabelled
            rows need the examples, the judgements that they were labelled from, and the passages.
        students: Models of the evaluation, by the names that it has for them, that the headline compares with its
            teacher.
        claims: What the evaluation is asked: `A > B` (A is better) or `A ~ B` (A is within a point of B).
            Decided by the paired interval; a claim that fails or stays open is said to. Of the standing claims
            those are left out whose models were not evaluated.
        samples: Relabelled rows that are shown, of each step that could relabel.
        out: Where the page goes.

    Returns:
        The verdict on each claim; a warning where the benchmark shows only large differences.

    Raises:
        Refused: There is nothing to report or two evaluations, or a claim has another form.
    """
    made = [_Made(folder, *_what(folder)) for folder in artifacts]
    evaluations = [each for each in made if each.verb == "evaluate"]
    if len(evaluations) > 1:
        listed = ", ".join(str(each.folder) for each in evaluations)
        raise Refused(
            f"artifacts: {len(evaluations)} evaluations ({listed}); needed: at most one. Make a report of each."
        )
    page = Page("Report", ", ".join(each.folder.name for each in made))
    facts: dict[str, object] = {}
    verdicts: dict[str, Verdict] = {}
    is_taught = False
    if evaluations:
        metrics: dict[str, Any] = artifact.read_json(evaluations[0].folder / "metrics.json")
        is_taught = findings.has_student(metrics, students)
        said = findings.verdicts(claims, metrics)
        verdicts = {claim: verdict for claim, (verdict, _) in said.items()}
        page = Page(*findings.title(metrics, students), findings.cautions(metrics, students))
        models = _named(evaluations[0].settings.get("models", {}), _names(made))
        page.sections.extend(findings.sections(metrics, students, list(said.values()), models))
        files.write_json(out / "metrics.json", metrics)
        if warning := findings.warning(metrics):
            facts["warning"] = warning
            console.say(f"{out.name}: {warning}")
    page = replace(page, cautions=[*page.cautions, *_cautions(made)])
    page.sections.append(Section("Training", _training(made)))
    page.sections.append(Section("Data and scores", _data(made)))
    page.sections.append(Section("Relabelled rows", _samples(made, samples)))
    page.sections.append(Section("Provenance", _provenance(made)))
    page.sections.extend(
        Section(f"All facts of {each.folder.name}", [_all_facts(each, is_taught)], folded=True) for each in made
    )
    for name, text in (("report.html", page.html()), ("report.md", page.markdown())):
        with files.replacing(out / name) as part:
            part.write_text(text, encoding="utf-8")
    return {"artifacts": [each.folder.name for each in made], "verdicts": verdicts, "opens": "report.html", **facts}


def _cautions(made: Sequence["_Made"]) -> list[str]:
    """What no reader of the page may miss: models that nothing was asked of, and the warnings of earlier steps."""
    verbs = {each.verb for each in made}
    said = []
    if "evaluate" not in verbs and verbs & {"train", "average", "export"}:
        said.append("There is no evaluation: nothing here says how good a model is. Collect real questions for one.")
    return said + [f"{each.folder.name}: {each.facts['warning']}" for each in made if each.facts.get("warning")]


@dataclass(frozen=True)
class _Made:
    """An artifact that is reported."""

    folder: Path
    verb: str
    settings: dict[str, Any]
    facts: dict[str, Any]


def _what(folder: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    artifact.require(folder)
    recipe: dict[str, Any] = artifact.read_json(folder / "recipe.json")
    return str(recipe.get("verb")), recipe.get("settings", {}), artifact.facts(folder)


def _names(made: Sequence[_Made]) -> dict[str, str]:
    """The name of each step, by its fingerprint."""
    return {artifact.fingerprint(each.folder): each.folder.name for each in made}


def _named(models: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The recipes of models; an artifact among the arguments of one goes by its name."""

    def name(value: object) -> object:
        return f"step {names.get(print_, print_[:12])}" if (print_ := _artifact(value)) else value

    return {
        model: held
        if "init_args" not in held
        else {**held, "init_args": {at: name(value) for at, value in held["init_args"].items()}}
        for model, held in models.items()
    }


def _artifact(setting: object) -> str:
    """The fingerprint of an artifact that a recipe names; empty if it names another thing."""
    return str(setting.get("artifact", "")) if isinstance(setting, Mapping) else ""


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
            Text(
                "By step: each part of the loss, unweighted, the share of queries whose positive comes first, and "
                "nDCG@10 on a part of `dev`, where there is one."
            ),
            Figures(drawn),
        ]
        if drawn
        else []
    )


def _data(made: Sequence[_Made]) -> list[Block]:
    from distill import charts

    about = [each for each in made if each.verb not in ("train", "evaluate", "report")]
    facts = [
        [each.folder.name, Noted(name, legend.meaning(name)), findings.told(held)]
        for each in about
        for name, held in _single(each.facts)
    ]
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
    return [
        (name, held) for name, held in facts.items() if name not in legend.ASIDE and not isinstance(held, (dict, list))
    ]


def _samples(made: Sequence[_Made], count: int) -> list[Block]:
    """Of each step that chose positives by judgements, rows whose positive is not the query's own passage."""
    by_print = {artifact.fingerprint(each.folder): each.folder for each in made}
    blocks: list[Block] = []
    for each in made:
        judged = by_print.get(_artifact(each.settings.get("candidates")))
        passages = by_print.get(str(each.facts.get("refers", {}).get("passages")))
        if each.verb != "label" or each.settings.get("positive") == "seed" or judged is None or passages is None:
            continue
        if (judged / "judgements").is_dir():
            blocks += _relabelled(each.folder, judged, tables.read(passages, "passages"), count)
    return blocks


def _relabelled(labelled: Path, judged: Path, passages: "pa.Table", count: int) -> list[Block]:
    import numpy as np

    if artifact.stale_inputs(labelled, {"candidates": judged}):
        return [Text(f"{labelled.name}: {judged.name} was made again since, so its rows are not those labelled.")]
    examples = tables.read(labelled, "examples")
    seeds = tables.read(judged, "judgements")["seed"].to_numpy()[examples["origin"].to_numpy()]
    firsts = np.array([rows[0] for rows in examples["passages"].to_pylist()])
    changed = np.flatnonzero((firsts != seeds) & (seeds >= 0))
    chosen = changed[np.unique(np.linspace(0, len(changed) - 1, min(count, len(changed))).round().astype(int))]
    about = (
        f"{labelled.name}: {len(changed):,} of {len(examples):,} rows have another positive than the passage "
        "their query was written from, since the judgements prefer it."
    )
    return [Text(about), *(_sample(examples.slice(row, 1), int(seeds[row]), passages) for row in chosen.tolist())]


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
    blocks: list[Block] = [Table(["step", "verb", "time", "peak memory", "holds", "recipe"], rows), *_came_with(made)]
    if versions:
        blocks.append(
            Table(["library", "version"], [[n, ", ".join(v)] for n, v in versions.items()], "Versions", words=True)
        )
    return blocks


def _came_with(made: Sequence[_Made]) -> list[Block]:
    """Licences, each once, with the step that brought it; what they ask of users; benchmarks that were kept out."""
    listed: dict[tuple[str, str], str] = {}
    bound: dict[str, str] = {}
    screened: dict[str, lineage.Counts] = {}
    for each in made:
        if "licences" in each.facts:
            held = lineage.told(each.folder.name, each.facts)
            for named in held.licences.items():
                listed.setdefault(named, each.folder.name)
            screened |= held.screened
            if "licence_warnings" in each.facts:
                bound = licences.united(bound, held.licences)
    blocks: list[Block] = []
    if listed:
        rows = [[source, licence, step] for (source, licence), step in listed.items()]
        blocks.append(Table(["source", "licence", "came with"], rows, "Licences", words=True))
    blocks += [Text(warning) for warning in licences.warnings(bound)]
    if found := lineage.Lineage(bound, screened).contamination():
        rules = (lineage.SAME, lineage.PARTLY, lineage.KEPT)
        rows = [[name, *(f"{counts.get(rule, 0):,}" for rule in rules)] for name, counts in found.items()]
        about = "Rows with text of a benchmark: dropped, unless kept and marked"
        blocks.append(Table(["benchmark", *rules], rows, about, words=True))
    return blocks


def _all_facts(each: _Made, is_taught: bool) -> Table:
    kept = {name: held for name, held in each.facts.items() if name not in ("histograms", "versions", "screened")}
    facts = [(name, held) for name, held in findings.flat(kept) if is_taught or "retention" not in name.split()]
    rows = [[Noted(name, legend.meaning(name)), findings.told(held)] for name, held in facts]
    return Table(["fact", "value"], rows, words=True)
