"""What an evaluation says: claims judged by their intervals, tables, figures, and facts as text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from distill import charts
from distill.errors import Refused
from distill.legend import ALONE, CONTRASTIVE, NAMES, START
from distill.page import NONE, Block, Figures, Noted, Numbers, Section, Table, Text, Verdict, Verdicts

CLAIMS = (
    "teacher > untrained",
    "teacher > teacher_1",
    "teacher > start",
    *(
        claim
        for student in ("distilled", "student")
        for claim in (f"{student} > start", f"{student} > contrastive", f"{student} > bm25", f"int8 ~ {student}")
    ),
)
SLACK = 0.01
"""What `~` allows, in the units of the measure: a point of nDCG."""

FEW_QUERIES, FEW_PASSAGES, NO_ROOM = 50, 100, 0.99
"""Fewer queries, fewer passages, or a teacher above this main measure: hardly anything can be told apart."""

SHOWN = {
    "ndcg": "nDCG",
    "asymmetric_ndcg": "asymmetric nDCG",
    "mrr": "MRR",
    "spearman": "Spearman (STS)",
    "accuracy": "accuracy (few-shot)",
    "v_measure": "V-measure (clustering)",
}
TIMES = (
    "Times are of one machine at one moment: compare them within this table. Exported models run in ONNX Runtime, "
    "others in PyTorch. Half of the calls were quicker than p50, and 95\u00a0% than p95. Passages a second are of "
    "batches, on all cores or an accelerator. Size is that of the weights."
)
BESIDE = ("mrr", "recall")
"""Measures of retrieval that are told of all benchmarks together, and not of each."""

CUT = 500
"""Characters that are shown of a long text."""

Metrics = Mapping[str, Any]
"""What `evaluate` wrote in `metrics.json`."""


def flat(value: object, at: str = "") -> list[tuple[str, object]]:
    """Every leaf of nested facts, by its path; a list is a leaf."""
    if isinstance(value, Mapping):
        return [leaf for name, held in value.items() for leaf in flat(held, f"{at} {name}".strip())]
    return [(at, value)]


def told(value: object) -> str:
    """A fact as text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NONE}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, Mapping) and value.keys() == {"artifact"}:
        return f"recipe {str(value['artifact'])[:12]}"
    if isinstance(value, list):
        return ", ".join(told(held) for held in value) if len(value) <= 12 else f"{len(value):,} values"
    return cut(str(value))


def cut(text: str, length: int = CUT) -> str:
    """A text, or its beginning and an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def shown(measure: str) -> str:
    """A measure's name for people."""
    stem, at, depth = measure.partition("@")
    return SHOWN.get(stem, stem) + at + depth


def score(held: Mapping[str, float | int], sign: str = "") -> str:
    """A value with its interval, to three places."""
    return f"{held['value']:{sign}.3f} [{held['low']:{sign}.3f}, {held['high']:{sign}.3f}]"


def share(held: Mapping[str, float | int] | None) -> str:
    """A retention with its interval, in percent."""
    if held is None:
        return NONE
    interval = f" [{held['low']:.1%}, {held['high']:.1%}]" if held["high"] > held["low"] else ""  # the teacher's own
    return f"{held['value']:.1%}{interval}"


def size(amount: float | int | None) -> str:
    """Bytes as people say them."""
    if not amount:
        return NONE
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= power:
            return f"{amount / power:,.1f} {unit}"
    return f"{amount:,.0f} B"


def parsed(claim: str) -> tuple[str, str, str]:
    """The two models of a claim, and the sign between them.

    Raises:
        Refused: It has another form than `A > B` or `A ~ B`.
    """
    found = re.fullmatch(r"\s*(\S+)\s*([>~])\s*(\S+)\s*", claim)
    if found is None:
        raise Refused(f"claims: {claim!r}; needed: 'A > B' or 'A ~ B' with names of evaluated models.")
    one, sign, other = found.groups()
    if one == other:
        raise Refused(f"claims: {claim!r} compares a model with itself; needed: two names of evaluated models.")
    return one, sign, other


def judge(claim: str, metrics: Metrics) -> tuple[Verdict, str]:
    """What the paired interval of the main measure says of a claim.

    Raises:
        Refused: The claim has another form than `A > B` or `A ~ B`.
    """
    one, sign, other = parsed(claim)
    measured, measure = metrics["measures"][metrics["main"]], shown(metrics["main"])
    if absent := [name for name in (one, other) if name not in measured]:
        return "unmeasured", f"{claim}: the evaluation has no {' and no '.join(absent)}."
    held = measured[one]["above"][other]
    low, high, by = held["low"], held["high"], f"{score(held, '+')} {measure}"
    if sign == "~":
        if low >= -SLACK and high <= SLACK:
            return "shown", f"{one} stays within {SLACK} of {other}: {by}."
        if high < -SLACK or low > SLACK:
            return "refuted", f"{one} was to stay within {SLACK} of {other} and does not: {by}."
        return "open", f"Whether {one} stays within {SLACK} of {other} is not decided by these queries: {by}."
    if low > 0:
        return "shown", f"{one} is above {other} by {by}."
    if high < 0:
        return "refuted", f"{one} was to be above {other} and is below it: {by}."
    return "open", f"{one} was to be above {other}; these queries cannot tell the two apart: {by}."


def verdicts(claims: Sequence[str], metrics: Metrics) -> dict[str, tuple[Verdict, str]]:
    """Each claim judged; of the standing ones, those whose models were evaluated.

    Raises:
        Refused: A claim has another form than `A > B` or `A ~ B`.
    """
    said = {claim: judge(claim, metrics) for claim in claims}
    standing = tuple(claims) == CLAIMS
    return {claim: held for claim, held in said.items() if not (standing and held[0] == "unmeasured")}


def title(metrics: Metrics, students: Sequence[str]) -> tuple[str, str]:
    """The page's title and what it counts on."""
    measure, measured = shown(metrics["main"]), metrics["measures"][metrics["main"]]
    searched = f"; only the benchmark's own {metrics['passages']:,} passages are searched" if metrics["queries"] else ""
    if each := metrics.get("benchmarks", {}):
        searched = f" of {len(each)} benchmarks, each asked by itself; means over those that have a measure"
    lead = f"{_asked(metrics)}{searched}. Intervals hold 95\u00a0% of {metrics['resamples']:,} paired resamples."
    student = _taught(metrics, students)
    if student is None:
        return f"{measure} of {len(measured)} models", lead
    teacher = metrics["teacher"]
    kept, above = measured[student]["retention"]["value"], measured[student]["above"][teacher]
    if kept <= 1:
        return f"{student} keeps {kept:.1%} of {teacher}'s {measure}", lead
    values = f"{_against(measured, student, teacher)} {measure}"
    if above["low"] > 0:
        return f"{student} is above its teacher: {values}", lead
    return f"{student} and its teacher cannot be told apart: {values}", lead


def cautions(metrics: Metrics, students: Sequence[str]) -> list[str]:
    """Sentences without which the title would mislead: is the teacher worth it, and can the benchmark tell."""
    measure, measured = shown(metrics["main"]), metrics["measures"][metrics["main"]]
    teacher, student, said = metrics["teacher"], _taught(metrics, students), []
    if student and START in measured and not (above := measured[teacher]["above"][START])["low"] > 0:
        values = f"({_against(measured, teacher, START)} {measure})"
        said.append(
            f"The teacher is below the student's start {values}: there is little in it to learn."
            if above["high"] < 0
            else f"The teacher is not shown to be better than the student's start {values}: "
            "there may be little in it to learn."
        )
    if student and CONTRASTIVE in measured and student != CONTRASTIVE:
        above, values = measured[student]["above"][CONTRASTIVE], _against(measured, student, CONTRASTIVE)
        if not above["low"] > 0:
            found = "is below" if above["high"] < 0 else "is not shown to be better than"
            said.append(
                f"{student} {found} {CONTRASTIVE}, {NAMES[CONTRASTIVE]} ({values} {measure}): "
                "this run does not show what those add."
            )
    return [*said, *filter(None, [warning(metrics)])]


def warning(metrics: Metrics) -> str:
    """Which benchmarks can show only large differences, and why; empty if none."""
    each: Mapping[str, Metrics] = metrics.get("benchmarks") or {"This benchmark": metrics}
    weak = {name: why for name, held in each.items() if (why := _weak(held, metrics["teacher"]))}
    return " ".join(
        f"{name} has {' and '.join(why)}: only large differences can show on it." for name, why in weak.items()
    )


def _weak(held: Metrics, teacher: str) -> list[str]:
    """What keeps one benchmark from telling models apart."""
    measure, measured = next(iter(held["measures"].items()))
    why = []
    if held[_what(held)] < FEW_QUERIES:
        why.append(f"{_asked(held)} (fewer than {FEW_QUERIES})")
    if held["queries"] and held["passages"] < FEW_PASSAGES:
        why.append(f"{held['passages']:,} passages (fewer than {FEW_PASSAGES})")
    if (best := measured.get(teacher, {}).get("value", 0.0)) > NO_ROOM:
        why.append(f"a teacher at {best:.3f} {shown(measure)} (above {NO_ROOM})")
    return why


def _asked(metrics: Metrics) -> str:
    what = _what(metrics)
    return f"{metrics[what]:,} {what}"


def _what(metrics: Metrics) -> str:
    """Of what the main measure is: queries, pairs, or texts of classes."""
    return next((name for name in ("queries", "pairs") if metrics[name]), "texts")


def _taught(metrics: Metrics, students: Sequence[str]) -> str | None:
    """The first student that has a teacher to be compared with."""
    measured = metrics["measures"][metrics["main"]]
    compared = [name for name in students if name != metrics["teacher"] and measured.get(name, {}).get("retention")]
    return compared[0] if compared else None


def has_student(metrics: Metrics, students: Sequence[str]) -> bool:
    """Whether there is one that a teacher is worth something to; what others keep of it says nothing."""
    return _taught(metrics, students) is not None


def _against(measured: Mapping[str, Any], one: str, other: str) -> str:
    return f"{measured[one]['value']:.3f} against {measured[other]['value']:.3f}"


def sections(
    metrics: Metrics,
    students: Sequence[str],
    said: Sequence[tuple[Verdict, str]],
    recipes: Mapping[str, Mapping[str, Any]],
) -> list[Section]:
    """The headline with its verdicts, every model in tables and figures, and every difference.

    Args:
        metrics: What `evaluate` wrote.
        students: Models that the headline compares with the teacher.
        said: Claims as they were judged.
        recipes: What made each model, as the evaluation's recipe says it.
    """
    headline: list[Block] = [
        Numbers(name, numbers)
        for name in students
        if name != metrics["teacher"] and (numbers := _numbers(metrics, name))
    ]
    if said:
        headline.append(Verdicts(said))
    models, measured = list(metrics["models"]), metrics["measures"]
    strong = [place for place, name in enumerate(models) if name in students]
    is_taught = has_student(metrics, students)
    quality = [[name, *_quality(metrics, name, is_taught)] for name in models]
    columns = [
        "model",
        shown(metrics["main"]),
        *(["kept of the teacher"] if is_taught else []),
        *(shown(m) for m in measured if m != metrics["main"]),
    ]
    cost = [[name, *_cost(metrics["models"][name])] for name in models]
    costs = ["model", "parameters", "outside embeddings", "width", "size", "ms p50", "ms p95", "passages/s"]
    return [
        Section("What came out", headline),
        Section(
            "Every model",
            [
                Table(columns, quality, "Quality, with 95 % intervals", strong),
                Table(
                    ["model", "what it is"],
                    [[n, _named(n, metrics, recipes.get(n, {}), is_taught)] for n in models],
                    words=True,
                ),
                Table(costs, cost, "Cost; milliseconds of one query on one CPU core", strong),
                Text(TIMES),
                *_smaller(metrics),
                *_each(metrics, strong),
                *_tasks(metrics, strong),
                Figures(_figures(metrics, students)),
            ],
        ),
        Section("Every difference", _all_differences(metrics), folded=True),
    ]


def _named(name: str, metrics: Metrics, recipe: Mapping[str, Any], is_taught: bool) -> Noted:
    """What an evaluated model is, and what made it."""
    names = NAMES if is_taught else NAMES | ALONE
    what = str(metrics["models"][name]["what"])
    if "class_path" in recipe:
        given = [(at, held) for at, held in flat(recipe.get("init_args", {})) if held not in (None, "", [])]
        given.sort(key=lambda argument: argument[0] != "base")
        what = f"{recipe['class_path'].rpartition('.')[2]}: " + "; ".join(f"{at} {told(held)}" for at, held in given)
    elif "artifact" in recipe:
        what = f"step {what.partition('@')[0]}, recipe {recipe['artifact'][:12]}"
    return Noted(names[name], what) if name in names else Noted(what)


def _numbers(metrics: Metrics, name: str) -> list[tuple[str, str]]:
    """What a student keeps, and how much smaller and faster it is than its teacher."""
    teacher, measure, found = metrics["teacher"], shown(metrics["main"]), []
    held = metrics["measures"][metrics["main"]].get(name, {})
    if (kept := held.get("retention")) and kept["value"] > 1:
        # A share above the whole praises a weak teacher: what counts then is by how much.
        above = held["above"][teacher]
        interval = f"[{above['low']:+.3f}, {above['high']:+.3f}]"
        found.append((f"{above['value']:+.3f}", f"{measure} above {teacher} {interval}: {held['value']:.3f} in all"))
    elif kept:
        interval = f"[{kept['low']:.1%}, {kept['high']:.1%}]"
        found.append((f"{kept['value']:.1%}", f"of {teacher}'s {measure} {interval}"))
    costs, whole = (metrics["models"].get(each, {}) for each in (name, teacher))
    if costs.get("bytes") and whole.get("bytes"):
        found.append(
            _times(whole["bytes"] / costs["bytes"], "smaller", "larger", size(costs["bytes"]), size(whole["bytes"]))
        )
    if costs.get("latency") and whole.get("latency"):
        own, other = costs["latency"]["p50"], whole["latency"]["p50"]
        found.append(_times(other / own, "faster", "slower", f"{own:.1f} ms a query", f"{other:.1f} ms, on one core"))
    return found


def _times(ratio: float | int, less: str, more: str, own: str, other: str) -> tuple[str, str]:
    word, ratio = (less, ratio) if ratio >= 1 else (more, 1 / ratio)
    return f"{ratio:.0f}\u00d7" if ratio >= 20 else f"{ratio:.1f}\u00d7", f"{word}: {own} instead of {other}"


def _quality(metrics: Metrics, name: str, is_taught: bool) -> list[str]:
    main, measured = metrics["main"], metrics["measures"]
    held = measured[main].get(name)
    found = [score(held) if held else NONE, *([share(held["retention"]) if held else NONE] if is_taught else [])]
    return found + [
        score(held[name]) if name in held else NONE for measure, held in measured.items() if measure != main
    ]


def _cost(costs: Mapping[str, Any]) -> list[str]:
    counts = [f"{costs[key]:,}" if costs.get(key) else NONE for key in ("parameters", "parameters_computing", "dim")]
    latency = costs.get("latency") or {}
    times = [f"{latency[key]:.2f}" if key in latency else NONE for key in ("p50", "p95")]
    speed = costs.get("passages_per_second")
    return [*counts, size(costs.get("bytes")), *times, f"{speed:,.1f}" if speed else NONE]


def _smaller(metrics: Metrics) -> list[Table]:
    """Vectors cut and quantised: what they cost and what they lose."""
    rows = [
        [
            model,
            f"{held['width']:,}",
            held["form"],
            f"{held['bytes']:,}" + (f" + {held['bytes_beside']:,}" if held["bytes_beside"] else ""),
            score(held),
            score(held["above"], "+"),
        ]
        for model, found in metrics.get("smaller", {}).items()
        for held in found
    ]
    columns = ["model", "width", "form", "bytes a vector", shown("ndcg@10"), "above whole vectors in fp32"]
    about = "Vectors made smaller, with 95 % intervals; after a plus, bytes read of the forty first passages alone"
    return [Table(columns, rows, about)] if rows else []


def _each(metrics: Metrics, strong: Sequence[int]) -> list[Table]:
    """Of several benchmarks, what models are compared by in each: a table of a measure."""
    found = []
    several = {at: held["measures"] for at, held in metrics.get("benchmarks", {}).items()}
    for measure in metrics["measures"]:
        held = {at: measures[measure] for at, measures in several.items() if measure in measures}
        if held and measure.partition("@")[0] not in BESIDE:
            rows = [
                [model, *(score(of[model]) if model in of else NONE for of in held.values())]
                for model in metrics["models"]
            ]
            about = f"{shown(measure)} of each benchmark, with 95 % intervals"
            found.append(Table(["model", *held], rows, about, strong))
    return found


def _tasks(metrics: Metrics, strong: Sequence[int]) -> list[Table]:
    if not metrics["tasks"]:
        return []
    rows = [
        [
            name,
            *(f"{held['models'][name]:.3f}" if name in held["models"] else NONE for held in metrics["tasks"].values()),
        ]
        for name in metrics["models"]
    ]
    columns = ["model", *(f"{cut(task, 48)} ({held['queries']:,})" for task, held in metrics["tasks"].items())]
    return [Table(columns, rows, f"{shown(metrics['main'])} by task (queries)", strong)]


def _all_differences(metrics: Metrics) -> list[Block]:
    """Of the main measure: of all benchmarks together, and of each."""
    main, several = metrics["main"], metrics.get("benchmarks", {})
    made = [_differences(metrics["measures"][main], f"{shown(main)}{', mean of all benchmarks' if several else ''}")]
    for at, held in several.items():
        measure = next(iter(held["measures"]))
        made.append(_differences(held["measures"][measure], f"{shown(measure)} on {at}"))
    return [*made]


def _differences(measured: Mapping[str, Any], what: str) -> Table:
    rows = [
        [name, *(score(held["above"][o], "+") if o != name else "" for o in measured)]
        for name, held in measured.items()
    ]
    return Table(["row above column", *measured], rows, f"Paired differences of {what}, with 95 % intervals")


def _figures(metrics: Metrics, students: Sequence[str]) -> list[tuple[str, str]]:
    name = shown(metrics["main"])
    measured = metrics["measures"][metrics["main"]]
    points = [
        charts.Point(
            model,
            held["value"],
            held["low"],
            held["high"],
            (metrics["models"][model].get("bytes") or 0) / 1e6,
            model in students,
        )
        for model, held in measured.items()
    ]
    found = [(f"{name}, with 95 % intervals", charts.bars(f"{name} of each model", points))]
    if len(sized := [point for point in points if point.x]) > 1:
        found.append(
            (f"{name} against size", charts.scatter(f"{name} against size", sized, "megabytes of weights", name))
        )
    return found
