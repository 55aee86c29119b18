"""Examples to a page on what they would teach: before any training, and without a model."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distill import artifact, console, diagnosis, files, findings, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.page import Block, Page, Sample, Section, Text
from distill.stages import stage

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from distill.health import Means, Rows

SLICE = 8192
"""Passages whose texts are in memory at once."""
CELLS = 1 << 22
"""Pairs of candidates that are compared at once."""
LISTED = 10
"""Tasks, and crowded passages, that are listed."""
NEGATIVES = 3
"""Hard negatives of a sampled row that are shown."""
BETWEEN = "\u00a0· "
"""Between what is said of a passage: a line may end behind it, and no number stands apart from its name."""


def _check(temperature: float | str) -> None:
    if temperature != "auto" and not float(temperature) > 0:
        raise Refused(f"temperature: {temperature}; needed: more than 0, or auto.")


@stage(version=1, check=_check)
def health(
    *,
    passages: Path,
    examples: Path,
    candidates: Path | None = None,
    temperature: float | Literal["auto"] = "auto",
    samples: int = 20,
    seed: int = 0,
    out: Path,
) -> Facts:
    """Look at training data before anything is trained on it: a page, the numbers behind it, and what is off.

    Args:
        passages: What the examples count.
        examples: Artifact of `label` or `ingest`.
        candidates: Artifact of `judge` or `mine` that `label` chose them from; without it nothing is said of seeds,
            of how far judges agree, and of negatives that may be answers.
        temperature: Of the teacher's scores; `auto` is the one that training takes unless it is told.
        samples: Rows that are shown; half of them relabelled ones, if there are enough.
        seed: Of the sample.
        out: Where `health.html` and `health.json` go.

    Returns:
        The main figures, and a warning where one is off.

    Raises:
        Refused: The examples count other passages, or were labelled from other candidates.
    """
    from distill import health as room

    _check_inputs(passages, examples, candidates)
    corpus = tables.read(passages, "passages")
    rows = room.Rows.of(tables.read(examples, "examples"), str(examples), len(corpus))
    held = tables.read(candidates, "judgements", "candidates") if candidates else None
    left_out = _left_out(examples, held)
    held = held.drop_columns(left_out) if held is not None else None
    figures = _contents(rows, corpus) | _scores(rows, temperature) | _repetitions(rows, corpus)
    seeds, about = _of_candidates(rows, held, out.name)
    figures |= about
    checked = diagnosis.checks(figures)
    figures["warnings"] = diagnosis.warnings(figures, checked)
    figures["checks"] = [
        {"name": check.name, "found": round(check.found, 6), "wanted": check.wanted, "is_off": check.is_off}
        for check in checked
    ]
    chosen = room.drawn((rows.positives != seeds) & (seeds >= 0), samples, seed)
    figures["sample"] = chosen.tolist()
    source = candidates.name if candidates else ""
    source += f" without {' and '.join(left_out)}" if left_out else ""
    page = Page(*diagnosis.title(examples.name, source, figures), figures["warnings"])
    page.sections.extend(diagnosis.sections(figures, checked))
    page.sections.append(Section("Rows to read", _samples(rows, held, seeds, corpus, chosen)))
    files.write_json(out / "health.json", figures)
    files.write_text(out / "health.html", page.html())
    for warning in figures["warnings"]:
        console.say(f"{out.name}: {warning}")
    return _facts(figures) | {"opens": "health.html", "refers": {"passages": artifact.fingerprint(passages)}}


def _check_inputs(passages: Path, examples: Path, candidates: Path | None) -> None:
    """Make sure that row numbers count these passages, and that the examples are of these candidates."""
    artifact.check_refers(examples, "passages", passages)
    if candidates is None:
        return
    artifact.check_refers(candidates, "passages", passages)
    settings = artifact.read_json(examples / "recipe.json").get("settings")
    named = settings.get("candidates") if isinstance(settings, dict) else None
    if not isinstance(named, dict) or named.get("artifact") != artifact.fingerprint(candidates):
        raise Refused(
            f"health: {examples} was not labelled from {candidates}. Give the candidates that `label` read, or none."
        )
    if artifact.stale_inputs(examples, {"candidates": candidates}):
        raise Refused(
            f"health: {candidates} was made again with other bytes since {examples} was labelled from it. "
            f"Label again: --again {examples.name}."
        )


def _left_out(examples: Path, held: "pa.Table | None") -> list[str]:
    """The judges that `label` was told not to trust: what they say counts no more here than there."""
    settings = artifact.read_json(examples / "recipe.json").get("settings")
    trusted = settings.get("judges") if isinstance(settings, dict) else None
    if held is None or not trusted:
        return []
    return [name for name in tables.opinions(held) if name in tables.JUDGED and name not in trusted]


def _slices(corpus: "pa.Table", rows: "np.ndarray") -> Iterator[tuple[slice, "pa.Table"]]:
    """Titles and texts of some passages in rising order, with their place among these: a slice of the corpus at a time.

    A join of the whole table would first copy all its texts.
    """
    import numpy as np
    import pyarrow as pa

    start = 0
    for batch in corpus.select(["title", "text"]).to_batches(max_chunksize=SLICE):
        low, high = np.searchsorted(rows, [start, start + len(batch)]).tolist()
        if high > low:
            yield slice(low, high), pa.Table.from_batches([batch.take(pa.array(rows[low:high] - start))])
        start += len(batch)


def _texts(corpus: "pa.Table", rows: Sequence[int]) -> dict[int, str]:
    """What a model reads of some passages."""
    return dict(zip(rows, tables.passage_texts(corpus, rows), strict=True))


def _contents(rows: "Rows", corpus: "pa.Table") -> dict[str, Any]:
    """Kinds, tasks, negatives and lengths."""
    import numpy as np

    from distill import health as room

    count = len(rows.table)
    kinds, _ = room.most_frequent(rows.table["kind"], len(tables.KINDS))
    tasks, distinct = room.most_frequent(rows.table["task"], LISTED)
    used, number = np.unique(rows.flat, return_inverse=True)
    words = np.zeros(len(used), np.int64)
    for place, part in _slices(corpus, used):
        words[place] = sum(room.words(part[name].combine_chunks()) for name in ("title", "text"))
    asked = np.concatenate([room.words(chunk) for chunk in rows.table["query"].chunks])
    return {
        "rows": count,
        "passages": len(used),
        "kinds": [{"kind": kind, "rows": n, "share": round(n / count, 6)} for kind, n in kinds],
        "tasks": {
            "distinct": distinct,
            "frequent": [{"task": task, "rows": n, "share": round(n / count, 6)} for task, n in tasks],
        },
        "negatives": {
            "mean": round(float((rows.lengths - 1).mean()), 6),
            "rows_without": int((rows.lengths == 1).sum()),
            "rows_with_the_batch": int(rows.table["in_batch"].to_numpy().sum()),
        },
        "words": room.distributions({"queries": asked})
        | room.distributions(
            {"positives": words[number[~rows.is_negative]], "hard negatives": words[number[rows.is_negative]]}
        ),
    }


def _scores(rows: "Rows", temperature: float | Literal["auto"]) -> dict[str, Any]:
    """How far scores lie apart, and what they leave in play."""
    import numpy as np

    from distill import health as room

    given = np.flatnonzero(np.diff(rows.score_starts))
    if not len(given):
        return {"scores": {}, "entropy": {}}
    scores = room.rectangle(rows.scores, rows.score_starts, given, np.nan)
    apart, means = room.spreads(scores), room.Means()
    means.add(apart)
    return {
        "scores": {
            "lists": len(given),
            "lists_of_several": means.counts("spread")[0],
            "not_scored": int(len(rows.scores) - np.isfinite(rows.scores).sum()),
            **{name: means.mean(name) for name in ("above", "equal")},
            **room.distributions({"spread": apart["spread"]}),
            **room.distributions({"deviation": apart["deviation"]}),
            **room.distributions({"positives": scores[:, 0], "hard negatives": scores[:, 1:].ravel()}),
        },
        "entropy": room.sharpness(scores, temperature),
    }


def _repetitions(rows: "Rows", corpus: "pa.Table") -> dict[str, Any]:
    """Rows that repeat others, and passages that answer too much."""
    import numpy as np
    import pyarrow.compute as pc

    from distill import duplicates
    from distill import health as room

    stride = len(corpus) + 1
    near = duplicates.firsts(duplicates.signatures(tables.texts(rows.table["query"])))
    alone = rows.asked[rows.table["group"].to_numpy() < 0]  # rows of one group share a query, or a class, by intent
    negatives = rows.flat[rows.is_negative]
    opposed = room.contradicted(rows.asked, rows.positives, negatives, rows.lengths - 1)
    searched = rows.positives[pc.equal(rows.table["kind"], "retrieval").to_numpy()]
    crowded = room.crowded(searched, LISTED)
    texts = _texts(corpus, [passage for passage, _ in crowded])
    return {
        "duplicates": {
            "queries": _share(room.repeated(alone)),
            "plain_queries": _share(room.repeated(room.numbered(room.plain(rows.table["query"])))),
            "near_queries": _share(near != np.arange(len(near))),
            "pairs": _share(room.repeated(rows.asked * stride + rows.positives)),
            "contradicted": _share(opposed),
            "retrieval_rows": len(searched),
            "crowded": [
                {"passage": passage, "rows": n, "text": findings.cut(texts[passage], 160)} for passage, n in crowded
            ],
        }
    }


def _share(told: "np.ndarray") -> float | None:
    return round(float(told.mean()), 6) if len(told) else None


def _of_candidates(rows: "Rows", held: "pa.Table | None", name: str) -> tuple["np.ndarray", dict[str, Any]]:
    """The seed of each row, -1 if it is not known; and what the candidates tell of seeds, judges and negatives."""
    import numpy as np

    from distill import health as room

    if held is None:
        nothing: dict[str, Any] = {"positives": {}, "agreement": [], "false_negatives": {}}
        return np.full(len(rows.table), -1), nothing
    origin = rows.table["origin"].to_numpy()
    _check_origin(origin, len(held))
    opinions = tables.opinions(held)
    seeds, seed_ranks = (held[column].to_numpy()[origin] for column in ("seed", "seed_rank"))
    ranks, means = np.full(len(rows.table), -1), room.Means()
    for chosen, block in _blocks(rows, held, opinions, name):
        means.add(room.negatives(block))
        ranks[chosen] = room.rank_of(block.passages, block.listed[:, 0])
        for one, other in itertools.combinations(opinions, 2):
            compared = room.agreement(block.opinions[one], block.opinions[other])
            means.add({f"{one} {other} {measure}": values for measure, values in compared.items()})
    moved = (rows.positives != seeds) & (seeds >= 0)
    judged = {told: means.share(told) for told in diagnosis.SPOKEN if told in means}
    return seeds, {
        "positives": {
            "relabelled": _share(moved[seeds >= 0]),
            "rows_relabelled": int(moved.sum()),
            "seed_rank": room.rank_shares(seed_ranks),
            "seed_rank_of_relabelled": room.rank_shares(seed_ranks[moved]) if moved.any() else {},
            "positive_rank": room.rank_shares(ranks),
        },
        "agreement": [_pair(means, one, other) for one, other in itertools.combinations(opinions, 2)],
        "false_negatives": judged | {f"above {opinion}": means.share(f"above {opinion}") for opinion in opinions},
    }


def _check_origin(origin: "np.ndarray", count: int) -> None:
    outside = (origin < 0) | (origin >= count)
    if outside.any():
        row = int(outside.argmax())
        raise Refused(
            f"health: row {row} has origin {origin[row]}; needed: a row of the {count} candidates. Label again."
        )


def _blocks(rows: "Rows", held: "pa.Table", opinions: Sequence[str], name: str) -> Iterator[tuple["np.ndarray", Any]]:
    """Rows of examples with their candidates, a slice of the candidates at a time."""
    import numpy as np

    from distill import health as room

    origin = rows.table["origin"].to_numpy()
    order = np.argsort(origin, kind="stable")
    width = held.schema.field("passages").type.list_size
    size = max(1, CELLS // (width * max(width, int(rows.lengths.max()))))
    with console.bar(name, len(held)) as bar:
        for start in range(0, len(held), size):
            part = held.slice(start, size)
            low, high = np.searchsorted(origin[order], [start, start + size]).tolist()
            chosen = order[low:high]
            if len(chosen):
                at = origin[chosen] - start
                yield (
                    chosen,
                    room.Block(
                        listed=room.rectangle(rows.flat, rows.starts, chosen, -1),
                        passages=tables.matrix(part["passages"])[at],
                        opinions={opinion: tables.matrix(part[opinion])[at] for opinion in opinions},
                        seeds=part["seed"].to_numpy()[at],
                        seed_similarities=part["seed_similarity"].to_numpy()[at],
                        twins=tables.matrix(part["twins"])[at] if "twins" in part.schema.names else None,
                    ),
                )
            bar.step(len(part))


def _pair(means: "Means", one: str, other: str) -> dict[str, Any]:
    told = {measure: means.mean(f"{one} {other} {measure}") for measure in ("same_best", "by_chance", "correlation")}
    queries, left_out = means.counts(f"{one} {other} same_best")
    return {"one": one, "other": other, **told, "queries": queries, "left_out": left_out}


def _facts(figures: Mapping[str, Any]) -> dict[str, object]:
    """The main figures, as far as they could be told."""
    answers, entropy, again = figures["false_negatives"], figures["entropy"], figures["duplicates"]
    told = {
        "rows": figures["rows"],
        "distinct_tasks": figures["tasks"]["distinct"],
        "relabelled": figures["positives"].get("relabelled"),
        "negatives_above": figures["scores"].get("above"),
        "equal_scores": figures["scores"].get("equal"),
        "temperature": entropy.get("temperature"),
        "entropy_share": entropy.get("share", {}).get("mean"),
        "negatives_taken_for_answers": answers.get("answer", {}).get("share"),
        "negatives_preferred": answers.get("preferred", {}).get("share"),
        "negatives_nearer": answers.get("above similarities", {}).get("share"),
        "negatives_like_the_positive": answers.get("twin", {}).get("share"),
        "contradicted": again["contradicted"],
        "repeated_queries": again["queries"],
        "repeated_pairs": again["pairs"],
        "agreement": {f"{pair['one']} {pair['other']}": pair["correlation"] for pair in figures["agreement"]} or None,
        "warning": " ".join(figures["warnings"]) or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _samples(
    rows: "Rows", held: "pa.Table | None", seeds: "np.ndarray", corpus: "pa.Table", chosen: "np.ndarray"
) -> list[Block]:
    """Rows as a person reads them."""
    import numpy as np

    starts = rows.starts[chosen]
    ends = np.minimum(rows.starts[chosen + 1], starts + 1 + NEGATIVES)
    lists = [rows.flat[start:end].tolist() for start, end in zip(starts, ends, strict=True)]
    known = seeds[chosen].tolist()
    texts = _texts(corpus, [*itertools.chain(*lists), *(seed for seed in known if seed >= 0)])
    order = "" if held is None else " Relabelled rows come first, half of them if there are as many."
    drawn = zip(chosen.tolist(), known, lists, strict=True)
    return [Text(f"Drawn by chance.{order}"), *(_sample(rows, held, *one, texts) for one in drawn)]


def _sample(
    rows: "Rows", held: "pa.Table | None", row: int, seed: int, listed: Sequence[int], texts: Mapping[int, str]
) -> Sample:
    example = rows.table.slice(row, 1).to_pylist()[0]
    judged = held.slice(example["origin"], 1).to_pylist()[0] if held is not None else {}
    scores = dict(zip(listed, example["scores"], strict=False))
    names = [f"hard negative {place}" for place in range(1, len(listed))]
    shown = list(zip(["positive, the seed" if listed[0] == seed else "positive", *names], listed, strict=True))
    if seed >= 0 and seed != listed[0]:
        shown.insert(0, ("seed", seed))
    said = [
        (BETWEEN.join([name, *_opinions(judged, passage, scores.get(passage))]), findings.cut(texts[passage]))
        for name, passage in shown
    ]
    return Sample(example["query"], [("task", example["task"]), *said])


def _opinions(judged: Mapping[str, Any], passage: int, score: float | None) -> list[str]:
    """A passage's score, its rank by the teacher, and what each opinion says of it."""
    said = [] if score is None else [f"score\u00a0{score:.3g}"]
    if judged and passage not in judged["passages"]:
        said.append("no candidate")
    elif judged:
        at = judged["passages"].index(passage)
        told = {name: judged[name][at] for name in tables.OPINIONS if name in judged}
        said.append(f"rank\u00a0{at + 1}")
        said += [f"{name}\u00a0{value:.3g}" for name, value in told.items() if math.isfinite(value)]
    return said
