"""What an evaluation says: claims judged by their intervals, tables, figures, and facts as text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from distill import charts
from distill.errors import Refused
from distill.page import NONE, Block, Figures, Numbers, Section, Table, Verdict, Verdicts

CLAIMS = ("teacher > untrained", "distilled > start", "distilled > contrastive", "distilled > bm25", "int8 ~ distilled")
SLACK = 0.01
"""What `~` allows, in the units of the measure: a point of nDCG."""

SHOWN = {"ndcg": "nDCG", "mrr": "MRR", "spearman": "Spearman (STS)"}
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


def judge(claim: str, metrics: Metrics) -> tuple[Verdict, str]:
    """What the paired interval of the main measure says of a claim.

    Raises:
        Refused: The claim has another form than `A > B` or `A ~ B`.
    """
    parsed = re.fullmatch(r"\s*(\S+)\s*([>~])\s*(\S+)\s*", claim)
    if parsed is None:
        raise Refused(f"claims: {claim!r}; needed: 'A > B' or 'A ~ B' with names of evaluated models.")
    one, sign, other = parsed.groups()
    if one == other:
        raise Refused(f"claims: {claim!r} compares a model with itself; needed: two names of evaluated models.")
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


def title(metrics: Metrics, students: Sequence[str]) -> tuple[str, str]:
    """The page's title and the sentence below it."""
    main, teacher, measured = metrics["main"], metrics["teacher"], metrics["measures"][metrics["main"]]
    student = next((name for name in students if measured.get(name, {}).get("retention")), None)
    counted = f"{metrics['queries'] or metrics['pairs']:,} {'queries' if metrics['queries'] else 'pairs'}"
    intervals = f"Intervals hold 95 % of {metrics['resamples']:,} paired resamples"
    lead = f"{counted} over {metrics['passages']:,} passages. {intervals}."
    if student is None:
        return f"{shown(main)} of {len(measured)} models", lead
    what = "; ".join(f"{name} is {metrics['models'][name]['what']}" for name in (teacher, student))
    kept = measured[student]["retention"]["value"]
    return f"{student} keeps {kept:.1%} of {teacher}'s {shown(main)}", f"{what}. {lead}"


def sections(metrics: Metrics, students: Sequence[str], said: Sequence[tuple[Verdict, str]]) -> list[Section]:
    """The headline with its verdicts, every model in tables and figures, and every difference."""
    headline: list[Block] = [
        Numbers(name, numbers)
        for name in students
        if name != metrics["teacher"] and (numbers := _numbers(metrics, name))
    ]
    if said:
        headline.append(Verdicts(said))
    models, measured = list(metrics["models"]), metrics["measures"]
    strong = [place for place, name in enumerate(models) if name in students]
    quality = [[name, *_quality(metrics, name)] for name in models]
    columns = [
        "model",
        shown(metrics["main"]),
        "kept of the teacher",
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
                Table(costs, cost, "Cost; milliseconds of one query on one CPU core", strong),
                Table(["model", "what it is"], [[n, metrics["models"][n]["what"]] for n in models], words=True),
                *_tasks(metrics, strong),
                Figures(_figures(metrics, students)),
            ],
        ),
        Section("Every difference", [_differences(metrics)], folded=True),
    ]


def _numbers(metrics: Metrics, name: str) -> list[tuple[str, str]]:
    """What a student keeps, and how much smaller and faster it is than its teacher."""
    teacher, found = metrics["teacher"], []
    kept = metrics["measures"][metrics["main"]].get(name, {}).get("retention")
    if kept:
        interval = f"[{kept['low']:.1%}, {kept['high']:.1%}]"
        found.append((f"{kept['value']:.1%}", f"of {teacher}'s {shown(metrics['main'])} {interval}"))
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


def _quality(metrics: Metrics, name: str) -> list[str]:
    main, measured = metrics["main"], metrics["measures"]
    found = (
        [score(measured[main][name]), share(measured[main][name]["retention"])]
        if name in measured[main]
        else [NONE, NONE]
    )
    return found + [
        score(held[name]) if name in held else NONE for measure, held in measured.items() if measure != main
    ]


def _cost(costs: Mapping[str, Any]) -> list[str]:
    counts = [f"{costs[key]:,}" if costs.get(key) else NONE for key in ("parameters", "parameters_computing", "dim")]
    latency = costs.get("latency") or {}
    times = [f"{latency[key]:.2f}" if key in latency else NONE for key in ("p50", "p95")]
    speed = costs.get("passages_per_second")
    return [*counts, size(costs.get("bytes")), *times, f"{speed:,.1f}" if speed else NONE]


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


def _differences(metrics: Metrics) -> Table:
    measured = metrics["measures"][metrics["main"]]
    rows = [
        [name, *(score(held["above"][o], "+") if o != name else "" for o in measured)]
        for name, held in measured.items()
    ]
    return Table(
        ["row above column", *measured], rows, f"Paired differences of {shown(metrics['main'])}, with 95 % intervals"
    )


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
