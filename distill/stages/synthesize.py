"""Nothing to examples: a language model thinks of tasks, then makes up texts for each."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from distill import prompts, synthesis, tables
from distill.artifact import Facts
from distill.engine import Worker, work
from distill.errors import Refused
from distill.models import Writer
from distill.runtime import Runtime
from distill.stages import stage, summed
from distill.synthesis import SHAPES, Group

A_CALL = 10
"""Tasks of a list that are counted on; a model that goes on to twenty gives more to choose from."""


def _check(groups: tuple[Group, ...], languages: tuple[str, ...], words: int) -> None:
    if not groups or len(set(groups)) < len(groups):
        raise Refused(f"groups: {list(groups)}; needed: some of {', '.join(SHAPES)}, each once.")
    if not languages or not all(language.strip() for language in languages):
        raise Refused(f"languages: {list(languages)}; needed: at least one, by its name, such as English.")
    if words < min(synthesis.WORDS):
        raise Refused(f"words: {words}; needed: {min(synthesis.WORDS)} or more, for a document is long.")


@stage(version=1, resumes=True, check=_check)
def synthesize(
    *,
    model: Writer,
    groups: tuple[Group, ...] = ("short_long", "long_short", "short_short"),
    tasks: int = 100,
    limit: int = 1000,
    languages: tuple[str, ...] = ("English",),
    words: int = 500,
    temperature: float = 1.0,
    top_p: float = 1.0,
    tokens: int = 1600,
    seed: int = 0,
    part_rows: int = 100,
    runtime: Runtime = Runtime(),
    out: Path,
) -> Facts:
    """Make examples up (E5-Mistral, arXiv 2401.00368, section 3.1): first tasks, then a query and its texts for each.

    `distill.readers.Synthetic` reads them. NV-Embed took 40,000 of each of the three groups that are the defaults.

    Args:
        model: The language model that writes.
        groups: What is made up. short_long: retrieval. long_short: classification. short_short, long_long: matching,
            without a hard negative. sts: three texts, two of them alike; its task is always the same.
        tasks: Tasks thought of for each group, at most.
        limit: Records asked for, of all groups together, in turns.
        languages: One is drawn for each record.
        words: Of a document at most; 50, 100, 200 to 500 are asked for.
        temperature: Of the sampling.
        top_p: Least set of tokens with this probability is sampled from.
        tokens: The most that is written at once: a list of tasks, or a record.
        seed: Of all draws, and of the sampling.
        part_rows: Records (or lists of tasks) committed together; what a kill can lose.
        runtime: Engine, devices.
        out: The artifact.

    Returns:
        Tasks by group; records kept, and dropped by rule: unparsable, of the wrong length, unfinished, going round in
        circles, leaked from the prompt, copied (a query from its document, a label from its text), the same text twice,
        duplicate.

    Raises:
        Refused: No task of a group, or no record, is usable.
    """
    sampled = {"tokens": tokens, "temperature": temperature, "top_p": top_p}
    lists = [group for group in groups if SHAPES[group].about for _ in range(-(-tasks // A_CALL))]
    parts = -(-len(lists) // part_rows)
    todo = tables.missing(out / "tasks", parts)
    work(partial(_thinker, model, lists, part_rows, sampled, seed, out), todo, len(lists), "tasks", runtime)
    thought, dropped = _tasks(groups, tasks, out)
    parts = -(-limit // part_rows)
    todo = tables.missing(out / "drafts", parts)
    settings = (model, groups, thought, limit, part_rows, languages, words, sampled, seed, out)
    work(partial(_writer, *settings), todo, min(limit, part_rows * len(todo)), out.name, runtime)
    notes = tables.notes(out / "drafts")
    kept, repeated = _deduplicated(out)
    dropped |= {**summed(note["dropped"] for note in notes), "duplicate": repeated}
    if not kept:
        for table in ("tasks", "drafts", "records"):  # so that another model is not taken for another recipe's work
            shutil.rmtree(out / table, ignore_errors=True)
        raise Refused(f"synthesize: none of {limit} records is usable ({dropped}). Use a stronger `model`.")
    return {
        "rows": sum(kept.values()),
        "groups": kept,
        "asked": limit,
        "tasks": {group: len(held) for group, held in thought.items()},
        "dropped": dropped,
        "model": notes[0]["model"],
        "prompt": [prompts.BRAINSTORM.digest, *(SHAPES[group].prompt.digest for group in groups)],
    }


def _thinker(
    model: Writer, lists: Sequence[Group], part_rows: int, sampled: Mapping[str, Any], seed: int, out: Path
) -> Worker:
    from distill.console import Bar

    writer = model()

    def do(part: int, bar: Bar) -> None:
        groups = lists[part * part_rows : (part + 1) * part_rows]
        asked = [synthesis.brainstorm(group, (seed, part, place)) for place, group in enumerate(groups)]
        shared = prompts.BRAINSTORM.shared
        written = writer.complete(asked, shared=shared, stop="\n\n", seed=seed * 1_000_003 + part, **sampled)
        read = [synthesis.tasks(text) for text in written]
        found = [(group, task) for group, (held, _) in zip(groups, read, strict=True) for task in held]
        note = {"model": writer.name, "dropped": summed(dropped for _, dropped in read)}
        tables.write(out / "tasks", tables.TASKS, _table(tables.TASKS, found), part=part, note=note)
        bar.step(len(groups), f"{len(found)} tasks")

    return do


def _tasks(groups: Sequence[Group], most: int, out: Path) -> tuple[dict[Group, list[str]], dict[str, int]]:
    """The tasks of each group, once each, and how many were dropped."""
    folder = out / "tasks"
    held = tables.opened(folder).to_pylist() if folder.is_dir() else []
    found: dict[Group, list[str]] = {}
    repeated = 0
    for group in groups:
        thought = [row["task"] for row in held if row["group"] == group] if SHAPES[group].about else SHAPES[group].tasks
        different = synthesis.unique(thought)
        repeated += len(thought) - len(different)
        found[group] = different[:most]
        if not found[group]:
            shutil.rmtree(folder)
            raise Refused(f"synthesize: no usable task of {group}. Use a stronger `model`, or leave the group out.")
    dropped = summed(note["dropped"] for note in tables.notes(folder))
    return found, {**{f"task {rule}": count for rule, count in dropped.items()}, "task duplicate": repeated}


def _writer(
    model: Writer,
    groups: Sequence[Group],
    thought: dict[Group, list[str]],
    limit: int,
    part_rows: int,
    languages: Sequence[str],
    words: int,
    sampled: Mapping[str, Any],
    seed: int,
    out: Path,
) -> Worker:
    import numpy as np

    from distill.console import Bar

    writer = model()

    def do(part: int, bar: Bar) -> None:
        random = np.random.default_rng((seed, part, 1))
        rows = range(part * part_rows, min(limit, (part + 1) * part_rows))
        kept: list[tuple[str, ...]] = []
        dropped = []
        for number, group in enumerate(groups):
            count = sum(row % len(groups) == number for row in rows)
            tasks = [str(task) for task in random.choice(thought[group], count)]
            asked = [synthesis.ask(group, task, languages, words, random) for task in tasks]
            prompt, own = SHAPES[group].prompt, (seed * 1_000_003 + part) * len(SHAPES) + number
            written = writer.complete(asked, shared=prompt.shared, stop="\n\n", seed=own, **sampled) if asked else []
            found, faults = synthesis.usable(written, group)
            kept += [(group, tasks[at], *record) for at, record in found]
            dropped.append(faults)
        note = {"dropped": summed(dropped), "model": writer.name}
        tables.write(out / "drafts", tables.RECORDS, _table(tables.RECORDS, kept), part=part, note=note)
        bar.step(len(rows), f"{len(kept)} of {len(rows)} usable")

    return do


def _table(schema: pa.Schema, rows: Sequence[Sequence[str]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


def _deduplicated(out: Path) -> tuple[dict[str, int], int]:
    """Write the records that no earlier one of their group equals: how many of each group, and how many not."""
    from distill import queries

    seen: set[tuple[str, str]] = set()
    kept: dict[str, int] = {}
    drafts = tables.opened(out / "drafts")
    for part, batch in enumerate(drafts.to_batches()):
        rows = []
        for row, (group, query) in enumerate(zip(batch["group"].to_pylist(), batch["query"].to_pylist(), strict=True)):
            key = group, queries.plain(query)
            if key not in seen:
                seen.add(key)
                kept[group] = kept.get(group, 0) + 1
                rows.append(row)
        chosen = pa.Table.from_batches([batch]).take(pa.array(rows, pa.int64()))
        tables.write(out / "records", tables.RECORDS, chosen, part=part)
    return kept, len(drafts) - len(seen)
