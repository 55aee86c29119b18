"""The steps of an experiment, done: decide what has work left, run in order, say what happened."""

import contextlib
import errno
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill import artifact, console, estimate, files, stages
from distill.errors import Refused, near
from distill.experiment import Experiment, Step, inputs
from distill.findings import flat
from distill.runtime import joins

FULL = ("No space left on device", "File too large", "PytorchStreamWriter", "inline_container")
"""Words of libraries that write files by themselves and raise exceptions of their own."""


PLAIN = ("new", "finished, same recipe")
"""Reasons that go without saying."""


@dataclass(frozen=True)
class Decision:
    """What a run would do with a step, and why."""

    what: Literal["done", "resume", "run", "refuse", "stale", "blocked"]
    why: str


def waits(names: Sequence[str]) -> str:
    """What a step waits for, in few words."""
    return f"waits for {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "")


def decide(experiment: Experiment) -> dict[str, Decision]:
    """What a run would do with each step."""
    found: dict[str, Decision] = {}
    for name, step in experiment.steps.items():
        bad = [read for read in inputs(experiment, step) if found[read].what in ("refuse", "stale", "blocked")]
        found[name] = Decision("blocked", waits(bad)) if bad else _decision(experiment, step, found)
    return found


def _decision(experiment: Experiment, step: Step, found: Mapping[str, Decision]) -> Decision:
    out = step.out
    if not artifact.is_artifact(out):
        return Decision("run", PLAIN[0])
    names = {held.fingerprint: name for name, held in experiment.steps.items()}
    if lines := artifact.differences(out, step.recipe, stages.standing(stages.verb(step.verb), step.settings), names):
        return Decision("refuse", "; ".join(lines))
    unfinished = [read for read in inputs(experiment, step) if found[read].what != "done"]
    if not unfinished and (stale := artifact.stale_inputs(out, stages.inputs_of(step.settings))):
        return Decision("stale", f"{', '.join(stale)} was made again with other bytes")
    if artifact.is_done(out):
        return (
            Decision("stale", f"{', '.join(unfinished)} must be made again")
            if unfinished
            else Decision("done", PLAIN[1])
        )
    return Decision("resume", _progress(out))


def _progress(out: Path) -> str:
    parts = len(list(out.glob("*/part-*.json")))
    if (out / "checkpoints" / "last.ckpt").is_file():
        return "from its checkpoint"
    return f"{parts} parts are done" if parts else "begun"


def chosen(experiment: Experiment, only: Sequence[str], start: str | None) -> list[Step]:
    """The steps that a run is asked to do.

    Raises:
        Refused: There is no step of that name.
    """
    names = list(experiment.steps)
    there = f" There are: {', '.join(names)}."
    for name in [*only, *([start] if start else [])]:
        if name not in names:
            raise Refused(f"{experiment.file}: no step {name!r}.{near(name, names) or there}")
    if only and start:
        raise Refused("--only and --from were both given. Say one of them.")
    if only:
        return [experiment.steps[name] for name in names if name in only]
    return [experiment.steps[name] for name in names[names.index(start) if start else 0 :]]


def run(experiment: Experiment, only: Sequence[str] = (), start: str | None = None, again: Sequence[str] = ()) -> bool:
    """Work through the steps in order; finished ones are skipped without loading weights.

    A step that refuses or fails blocks only the steps that read it.

    Args:
        experiment: What `load` gave.
        only: Names of the steps to run alone; their inputs must be finished.
        start: Take the steps before this one as they are.
        again: Steps whose folders are deleted first, to be made anew.

    Returns:
        Whether every step that was asked for is finished.
    """
    steps = chosen(experiment, only, start)
    if helped := [step for step in steps if joins(step.out)]:
        call(helped[0])
        return True
    anew = chosen(experiment, again, None) if again else []
    if unasked := [step.name for step in anew if step not in steps]:
        raise Refused(f"--again {unasked[0]}: this run leaves that step out. Name it in both, or in none.")
    if after := followers(experiment, anew):
        console.say(
            f"made of {_few([step.name for step in anew])} before: {_few(after)}. What it would make otherwise now is "
            f"refused; to make all anew: distill run {experiment.file} --again "
            + " ".join([*(step.name for step in anew), *after])
        )
    for step in anew:
        artifact.remove(step.out)
    files.write_text(experiment.folder / "experiment.yaml", experiment.text)
    decisions = decide(experiment)
    costs = estimate.costs(experiment.steps, decisions_left(decisions, steps))
    count = f"{len(steps)} step" if len(steps) == 1 else f"{len(steps)} steps"
    console.say(f"{experiment.file}: {count} into {experiment.folder}; {_told(decisions, steps, costs)}")
    estimate.check_disk(costs, experiment.output)
    done: list[tuple[str, ...]] = []
    failed: set[str] = set()
    faults: list[str] = []
    for step in steps:
        blocking = [name for name in inputs(experiment, step) if name in failed]
        row, fault = (("blocked", waits(blocking), ""), "") if blocking else _run(experiment, step)
        if row[0] in ("blocked", "refused", "failed"):
            failed.add(step.name)
        if fault:
            faults.append(f"{step.name} {row[0]}: {fault}")
        done.append((step.name, step.verb, *row))
    console.table(f"{experiment.name}: {experiment.folder}", ("step", "verb", "what", "rows", "seconds"), done)
    for fault in faults if steps[1:] else ():  # the first may stand hours above
        console.say(fault, "red")
    for step in steps:
        if step.name not in failed and (opens := artifact.facts(step.out).get("opens")):
            console.say(f"{step.name}: {step.out / str(opens)}")
    return not failed


def followers(experiment: Experiment, anew: Sequence[Step]) -> list[str]:
    """Names of the other steps that have work on disk which was made, at whatever remove, of some steps'."""
    found = {step.name for step in anew}
    for name, step in experiment.steps.items():
        if found & inputs(experiment, step).keys():
            found.add(name)
    return [
        name
        for name, step in experiment.steps.items()
        if name in found and step not in anew and artifact.is_artifact(step.out)
    ]


def _told(decisions: Mapping[str, Decision], steps: Sequence[Step], costs: Mapping[str, estimate.Cost]) -> str:
    """What a run costs, and how many steps it cannot do."""
    stuck = [step.name for step in steps if decisions[step.name].what in ("refuse", "stale", "blocked")]
    told = [estimate.sentence(costs)] if costs or not stuck else []
    return "; ".join([*told, *([f"{len(stuck)} cannot run ({_few(stuck)})"] if stuck else [])])


def _few(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names) if len(names) < 6 else f"{', '.join(names[:4])} and {len(names) - 4} more"


def decisions_left(decisions: Mapping[str, Decision], steps: Sequence[Step]) -> list[str]:
    """Names of the steps that have work left."""
    return [step.name for step in steps if decisions[step.name].what in ("run", "resume")]


def _run(experiment: Experiment, step: Step) -> tuple[tuple[str, str, str], str]:
    """What the last table says of a step, and what was wrong."""
    was_done, began = artifact.is_done(step.out), time.monotonic()
    if not was_done:
        console.say(f"{step.name} ({step.verb})", style="bold")
    with _explained(experiment, step) as fault:
        if not was_done:
            _require_inputs(experiment, step)
        call(step)
    seconds = "" if was_done else f"{time.monotonic() - began:.0f}"
    if fault:
        return (fault[0], "", seconds), fault[1]
    dropped = "" if was_done else told_dropped(artifact.facts(step.out).get("dropped", {}))
    if dropped:
        console.say(f"  {step.name}: dropped {dropped} (distill show {step.out})")
    return ("done before" if was_done else "done", _rows(step.out), seconds), ""


def told_dropped(dropped: object) -> str:
    """Rows that a step left out, by rule, the three largest; empty if there are none."""
    counts = sorted(((count, rule) for rule, count in flat(dropped) if isinstance(count, int) and count), reverse=True)
    more = f"; {sum(count for count, _ in counts[3:]):,} by other rules" if counts[3:] else ""
    return "; ".join(f"{count:,} {rule}" for count, rule in counts[:3]) + more


def _require_inputs(experiment: Experiment, step: Step) -> None:
    """Say which step to run first, where `--only` or `--from` leaves out one that is not finished."""
    for name, read in inputs(experiment, step).items():
        if not artifact.is_done(read.out):
            raise Refused(f"reads step {name!r}, which is not finished. Run that first: --only {name} {step.name}.")


def call(step: Step) -> artifact.Facts:
    """Run one step."""
    return stages.verb(step.verb)(**step.settings)


@contextlib.contextmanager
def _explained(experiment: Experiment, step: Step) -> Iterator[list[str]]:
    """A refusal as one line with file, line and step; a traceback goes to the log.

    Yields:
        Nothing where all goes well; else what it came to, and why, on one line.
    """
    fault: list[str] = []
    where = f"{experiment.file}:{step.line}: step {step.name!r} ({step.verb})"
    try:
        yield fault
    except Refused as error:
        said = str(error)
        fault += ["refused", " ".join(said.split())]
        console.complain(f"{where}: {said}")
    except Exception as error:
        said = outside(error) or _noted(error, step.out)
        fault += ["failed", " ".join(said.split())]
        console.complain(f"{where}: {said}")


def _noted(error: Exception, out: Path) -> str:
    """A bug of ours: the other steps still run, and the user gets what a report needs."""
    log = out / "logs" / "error.txt"
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(console.redacted(traceback.format_exc()))
    return f"{type(error).__name__}: {error}\n  The traceback is in {log}."


def outside(error: Exception) -> str:
    """What the operating system refused, in a sentence; empty if the fault is another."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(word in str(error) for word in FULL):
        return "the disk is full, or a file may not grow so large. What is finished is kept; make room and run again."
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    return ""


def _rows(out: Path) -> str:
    from distill import tables

    counts = tables.describe(out)
    return ", ".join(f"{rows:,} {name}" for name, rows in counts.items() if name != "curves")


def plan(experiment: Experiment, only: Sequence[str] = (), start: str | None = None) -> None:
    """Print what a run would do and what it would cost; start nothing."""
    steps = chosen(experiment, only, start)
    decisions = decide(experiment)
    costs = estimate.costs(experiment.steps, decisions_left(decisions, steps))
    rows = []
    for step in steps:
        decision, cost = decisions[step.name], costs.get(step.name)
        is_said = decision.why in PLAIN or decision.what == "refuse"  # those reasons stand below
        why = "" if is_said else f": {decision.why}"
        what = decision.why if decision.what == "blocked" else f"{decision.what}{why}"
        shown = estimate.shown(cost) if cost else ("", "", "", "")
        rows.append((step.name, step.verb, what if len(what) < 60 else what[:57] + "...", *shown))
    columns = ("step", "verb", "what", "rows", "tokens", "time", "disk")
    console.table(f"{experiment.file} into {experiment.folder}", columns, rows)
    console.say(_told(decisions, steps, costs))
    for name, decision in decisions.items():
        if decision.what == "refuse" and experiment.steps[name] in steps:
            console.say(f"{name} was made by another recipe:\n  " + decision.why.replace("; ", "\n  "))
