"""One file to steps: resolve names, parse by verb, fingerprint, decide, run in order."""

import contextlib
import errno
import inspect
import re
import time
import traceback
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill import artifact, console, document, estimate, parsing, recipe, stages
from distill.errors import Refused, near
from distill.runtime import Runtime, joins

WIDE_TYPES: dict[str, object] = {"name": str, "output": str, "seed": int, "runtime": Runtime}
RUN_WIDE = (*WIDE_TYPES, "steps")
FULL = ("No space left on device", "File too large", "PytorchStreamWriter", "inline_container")
"""Words of libraries that write files by themselves and raise exceptions of their own."""


@dataclass(frozen=True)
class Step:
    """A stage with its arguments."""

    name: str
    verb: str
    settings: dict[str, object]
    """Parsed: paths lead to folders, classes are `functools.partial`."""
    recipe: dict[str, object]
    fingerprint: str
    """Of the recipe; where the folder holds work of an older recipe that says the same, of that."""
    line: int

    @property
    def out(self) -> Path:
        """The artifact's folder."""
        out = self.settings["out"]
        assert isinstance(out, Path)
        return out


@dataclass(frozen=True)
class Decision:
    """What a run would do with a step, and why."""

    what: typing.Literal["done", "resume", "run", "refuse", "stale", "blocked"]
    why: str


@dataclass
class Experiment:
    """A file of steps, parsed."""

    file: Path
    name: str
    output: Path
    text: str
    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the steps' artifacts lie."""
        return self.output / self.name


def change(content: dict[str, object], assignment: str) -> None:
    """Apply `--set STEP.key=value` (or a run-wide `key=value`) as if it were written in the file.

    Raises:
        Refused: It is no assignment, or names no step.
    """
    at, mark, value = assignment.partition("=")
    if not mark:
        raise Refused(f"--set {assignment}: no '='; needed: STEP.key=value.")
    parts = at.split(".")
    place: object = content
    if parts[0] not in RUN_WIDE:
        steps = content.get("steps")
        names = list(steps) if isinstance(steps, dict) else []
        if not isinstance(steps, dict) or parts[0] not in steps:
            raise Refused(f"--set {assignment}: no step {parts[0]!r}.{near(parts[0], [*names, *RUN_WIDE])}")
        held = steps[parts[0]]
        place = next(iter(held.values())) if isinstance(held, dict) and len(held) == 1 else held
        parts = parts[1:]
    try:
        document.put(place, parts, document.read_value(value))
    except Refused as error:
        raise Refused(f"--set {assignment}: {error}") from error


def load(file: Path, changes: Sequence[str] = ()) -> Experiment:
    """Parse a file; every faulty step is reported, one line each.

    Args:
        file: The experiment.
        changes: `--set` assignments.

    Raises:
        Refused: Names file, line, step and key of each fault.
    """
    content, text, lines = document.read_yaml(file)
    for assignment in changes:
        change(content, assignment)
    faults = [f"{file}: key {key!r} is not known.{near(key, RUN_WIDE)}" for key in content if key not in RUN_WIDE]
    for key, wanted in WIDE_TYPES.items():
        if key in content and (found := list(parsing.faults(content[key], wanted, key))):
            del content[key]  # said once, not again at each step
            faults += [f"{file}: {fault}" for fault in found]
    steps = content.get("steps")
    if not isinstance(steps, dict) or not steps:
        raise Refused("\n".join([*faults, f"{file}: no steps; needed: `steps:` with a verb for each name."]))
    experiment = Experiment(
        file, str(content.get("name", file.stem)), Path(str(content.get("output", "runs"))), _as_run(text, changes)
    )
    if "\0" in str(experiment.output):
        faults.append(f"{file}: output: holds a NUL character; needed: the path of a folder.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", experiment.name):
        faults.append(f"{file}: name: {experiment.name!r}; needed: letters, digits, '_', '-', '.'.")
    for name, held in steps.items():
        try:
            experiment.steps[name] = _step(experiment, name, held, content, list(steps), lines.get(name, 0))
        except _ReadsFaulty:
            continue
        except Refused as error:
            where = f"{file}:{lines.get(name, 0)}: step {name!r}{_verb_of(held)}"
            faults += [f"{where}: {fault}" for fault in str(error).splitlines()]
    if faults:
        raise Refused("\n".join(faults))
    return experiment


class _ReadsFaulty(Refused):
    """A step that reads a faulty one: the fault is told there."""


def _verb_of(held: object) -> str:
    verb = next(iter(held)) if isinstance(held, dict) and held else ""
    return f" ({verb})" if verb in stages.VERBS else ""


def _as_run(text: str, changes: Sequence[str]) -> str:
    return text + "".join(f"# --set {assignment}\n" for assignment in changes)


def _step(
    experiment: Experiment, name: str, held: object, content: Mapping[str, object], names: Sequence[str], line: int
) -> Step:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RUN_WIDE:
        raise Refused(f"this is no name for a step; needed: small letters, digits and '_', not {', '.join(RUN_WIDE)}.")
    if not isinstance(held, dict) or len(held) != 1:
        verbs = ", ".join(held) if isinstance(held, dict) else repr(held)
        raise Refused(f"{verbs or 'nothing'}; needed: exactly one verb with its arguments.")
    verb, arguments = next(iter(held.items()))
    if verb not in stages.VERBS:
        raise Refused(f"no verb {verb!r}.{near(str(verb), stages.VERBS)}")
    if not isinstance(arguments, dict):
        raise Refused(f"{arguments!r}; needed: arguments, as keys and values.")
    function = stages.verb(verb)
    accepted = inspect.signature(function).parameters
    if "out" in arguments:
        raise Refused(f"`out` is not written in a file; the step's folder is {experiment.folder / name}.")
    wide = {key: content[key] for key in ("seed", "runtime") if key in content and key in accepted}
    own = arguments.get("runtime")
    if isinstance(wide.get("runtime"), dict) and isinstance(own, dict):
        arguments = {**arguments, "runtime": {**typing.cast(dict[str, object], wide["runtime"]), **own}}
    earlier = names[: names.index(name)]
    settings = parsing.parse(function, {**wide, **arguments})
    resolve = _Resolver(experiment, earlier, names)
    settings = {key: resolve(value) for key, value in settings.items()}
    settings["out"] = experiment.folder / name
    known = {step.out: step.fingerprint for step in experiment.steps.values()}
    made = stages.recipe_of(function, settings, known)
    out = experiment.folder / name
    is_same = artifact.is_artifact(out) and not artifact.differences(out, made, stages.standing(function, settings))
    return Step(name, verb, settings, made, artifact.fingerprint(out) if is_same else recipe.fingerprint(made), line)


class _Resolver:
    """Names of earlier steps to their folders, at any depth of an argument."""

    def __init__(self, experiment: Experiment, earlier: Sequence[str], names: Sequence[str]) -> None:
        self._experiment, self._earlier, self._names = experiment, earlier, names

    def __call__(self, value: object) -> object:
        return parsing.mapped(value, self._path)

    def _path(self, path: Path) -> Path:
        text = str(path)
        if text in self._earlier:
            if path.exists():
                raise Refused(f"{text} is both an earlier step and a file here. Rename one of them.")
            if text not in self._experiment.steps:
                raise _ReadsFaulty(text)
            return self._experiment.folder / text
        if text == self._names[len(self._earlier)]:
            raise Refused(f"reads {text!r}, which is the step itself. Name an earlier one.")
        if text in self._names:
            raise Refused(f"reads step {text!r}, which comes later. Steps run from top to bottom.")
        if not path.exists():
            hint = near(text, self._earlier)
            hint = hint or (" To name a class, write class_path:." if re.match(r"(teachers|students)\.", text) else "")
            raise Refused(f"{text} does not exist, and no earlier step has that name.{hint}")
        return path


def inputs(experiment: Experiment, step: Step) -> dict[str, Step]:
    """The steps of this experiment that a step reads, by name."""
    folders = {held.out: held for held in experiment.steps.values()}
    paths = recipe.paths({key: value for key, value in step.settings.items() if key != "out"})
    return {folders[path].name: folders[path] for path in paths if path in folders}


def decide(experiment: Experiment) -> dict[str, Decision]:
    """What a run would do with each step."""
    found: dict[str, Decision] = {}
    for name, step in experiment.steps.items():
        bad = [read for read in inputs(experiment, step) if found[read].what in ("refuse", "stale", "blocked")]
        found[name] = Decision("blocked", f"reads {', '.join(bad)}") if bad else _decision(experiment, step, found)
    return found


def _decision(experiment: Experiment, step: Step, found: Mapping[str, Decision]) -> Decision:
    out = step.out
    if not artifact.is_artifact(out):
        return Decision("run", "new")
    if lines := artifact.differences(out, step.recipe, stages.standing(stages.verb(step.verb), step.settings)):
        return Decision("refuse", "; ".join(lines))
    unfinished = [read for read in inputs(experiment, step) if found[read].what != "done"]
    if not unfinished and (stale := artifact.stale_inputs(out, stages.inputs_of(step.settings))):
        return Decision("stale", f"{', '.join(stale)} was made again with other bytes")
    if artifact.is_done(out):
        return (
            Decision("stale", f"{', '.join(unfinished)} must be made again")
            if unfinished
            else Decision("done", "finished, same recipe")
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
    for name in [*only, *([start] if start else [])]:
        if name not in names:
            raise Refused(f"{experiment.file}: no step {name!r}.{near(name, names)}")
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
    for step in anew:
        artifact.remove(step.out)
    artifact.write_text(experiment.folder / "experiment.yaml", experiment.text)
    decisions = decide(experiment)
    costs = estimate.costs(experiment.steps, decisions_left(decisions, steps))
    console.say(f"{experiment.file}: {len(steps)} steps into {experiment.folder}; {_told(decisions, steps, costs)}")
    estimate.check_disk(costs, experiment.output)
    done: list[tuple[str, ...]] = []
    failed: set[str] = set()
    for step in steps:
        blocking = [name for name in inputs(experiment, step) if name in failed]
        row = ("blocked", f"reads {', '.join(blocking)}", "") if blocking else _run(experiment, step)
        if row[0] in ("blocked", "refused", "failed"):
            failed.add(step.name)
        done.append((step.name, step.verb, *row))
    console.table(f"{experiment.name}: {experiment.folder}", ("step", "verb", "what", "rows", "seconds"), done)
    for step in steps:
        if step.name not in failed and (opens := artifact.facts(step.out).get("opens")):
            console.say(f"{step.name}: {step.out / str(opens)}")
    return not failed


def _told(decisions: Mapping[str, Decision], steps: Sequence[Step], costs: Mapping[str, estimate.Cost]) -> str:
    """What a run costs, and how many steps it cannot do."""
    stuck = [step.name for step in steps if decisions[step.name].what in ("refuse", "stale", "blocked")]
    told = [estimate.sentence(costs)] if costs or not stuck else []
    return "; ".join([*told, *([f"{len(stuck)} cannot run ({', '.join(stuck):.60})"] if stuck else [])])


def decisions_left(decisions: Mapping[str, Decision], steps: Sequence[Step]) -> list[str]:
    """Names of the steps that have work left."""
    return [step.name for step in steps if decisions[step.name].what in ("run", "resume")]


def _run(experiment: Experiment, step: Step) -> tuple[str, str, str]:
    if artifact.is_done(step.out):
        with _explained(experiment, step) as fault:
            call(step)
        return ("refused", "", "") if fault else ("done before", _rows(step.out), "")
    console.say(f"{step.name} ({step.verb})", style="bold")
    began = time.monotonic()
    with _explained(experiment, step) as fault:
        _require_inputs(experiment, step)
        call(step)
    if fault:
        return (fault[0], "", f"{time.monotonic() - began:.0f}")
    return ("done", _rows(step.out), f"{time.monotonic() - began:.0f}")


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
    """A refusal as one line with file, line and step; a traceback goes to the log."""
    fault: list[str] = []
    where = f"{experiment.file}:{step.line}: step {step.name!r} ({step.verb})"
    try:
        yield fault
    except Refused as error:
        fault.append("refused")
        console.complain(f"{where}: {error}")
    except Exception as error:
        fault.append("failed")
        console.complain(f"{where}: {outside(error) or _noted(error, step.out)}")


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
        shown = estimate.shown(cost) if cost else ("", "", "", "")
        rows.append(
            (
                step.name,
                step.verb,
                decision.what,
                decision.why if len(decision.why) < 60 else decision.why[:57] + "...",
                *shown,
            )
        )
    console.table(
        f"{experiment.file} into {experiment.folder}",
        ("step", "verb", "what", "why", "rows", "tokens", "time", "disk"),
        rows,
    )
    console.say(_told(decisions, steps, costs))
    for name, decision in decisions.items():
        if decision.what == "refuse" and experiment.steps[name] in steps:
            console.say(f"{name} was made by another recipe:\n  " + decision.why.replace("; ", "\n  "))
