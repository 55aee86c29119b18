"""One YAML file to steps: load, resolve names, parse by verb, fingerprint, decide, run in order."""

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

import yaml

from distill import artifact, console, estimate, parsing, recipe, stages
from distill.errors import Refused, near
from distill.runtime import Runtime, joins

WIDE_TYPES: dict[str, object] = {"name": str, "output": str, "seed": int, "runtime": Runtime}
RUN_WIDE = (*WIDE_TYPES, "steps")
MEGABYTE = 1 << 20
NODES = 100_000
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


class _Loader(yaml.SafeLoader):
    """Safe, and strict: no key twice, keys are text, no merge keys; numbers such as 1e-4 are numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9]+(?:[eE][-+]?[0-9]+)?)$"
    ),
    list("-+0123456789."),
)


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[object, object]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if key_node.tag == "tag:yaml.org,2002:merge":
            raise Refused(f"line {line}: merge keys (<<) are not read. Write the settings at the step.")
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise Refused(f"line {line}: key {key!r} is no text. Write it in quotes.")
        if key in seen:
            raise Refused(f"line {line}: key {key!r} stands twice. Keep one.")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(file: Path) -> tuple[dict[str, object], str, dict[str, int]]:
    """A YAML file: its content, its text, and the line of each step.

    Raises:
        Refused: It is missing, too large, no YAML, or no mapping.
    """
    try:
        if file.stat().st_size > MEGABYTE:
            raise Refused(f"{file} is larger than 1 MB; an experiment is a page.")
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise Refused(f"{file} does not exist.") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{file}: not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}.") from error
    try:
        content = read_value(text)
    except Refused as error:
        raise Refused(f"{file}: {error}") from error
    if not isinstance(content, dict):
        raise Refused(f"{file} {'is empty' if content is None else 'holds no keys'}; needed: keys with values.")
    return content, text, _lines(yaml.compose(text, _Loader))


def read_value(text: str) -> object:
    """What a YAML text says; no part of it is shared, so that a change of one step leaves the others alone.

    Raises:
        Refused: It is no YAML, or grows beyond a page through its aliases.
    """
    try:
        tree = yaml.compose(text, _Loader)
        if tree is not None and _size(tree, {}) > NODES:
            raise Refused(f"more than {NODES:,} values, aliases counted as often as they are used.")
        return _unshared(yaml.load(text, _Loader))
    except yaml.MarkedYAMLError as error:
        at = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise Refused(f"{at}not YAML: {' '.join(filter(None, [error.context, error.problem]))}.") from error
    except yaml.YAMLError as error:
        raise Refused(f"not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise Refused("not YAML: nested too deeply, or an alias inside what it stands for.") from error


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Values in a tree when each alias is written out."""
    if id(node) not in known:
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        inner = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
        known[id(node)] = 1 + sum(_size(part, known) for part in inner)
    return known[id(node)]


def _unshared(value: object) -> object:
    if isinstance(value, dict):
        return {key: _unshared(held) for key, held in value.items()}
    return [_unshared(held) for held in value] if isinstance(value, list) else value


def _lines(tree: yaml.Node | None) -> dict[str, int]:
    assert isinstance(tree, yaml.MappingNode)
    for key, value in tree.value:
        if key.value == "steps" and isinstance(value, yaml.MappingNode):
            return {str(name.value): name.start_mark.line + 1 for name, _ in value.value}
    return {}


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
        put(place, parts, read_value(value))
    except Refused as error:
        raise Refused(f"--set {assignment}: {error}") from error


def put(place: object, parts: Sequence[str], value: object) -> None:
    """Write a value at a key inside mappings, which are made where there are none.

    Raises:
        Refused: The key is empty, or lies inside a value that has no keys.
    """
    for part in parts[:-1]:
        place = place.setdefault(part, {}) if isinstance(place, dict) else None
    if not parts or not all(parts):
        raise Refused("names no setting; needed: the key of one.")
    if not isinstance(place, dict):
        raise Refused(f"{parts[-1]!r} would lie inside a value that has no keys.")
    place[parts[-1]] = value


def load(file: Path, changes: Sequence[str] = ()) -> Experiment:
    """Parse a file; every faulty step is reported, one line each.

    Args:
        file: The experiment.
        changes: `--set` assignments.

    Raises:
        Refused: Names file, line, step and key of each fault.
    """
    content, text, lines = read_yaml(file)
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
    for step in chosen(experiment, again, None) if again else []:
        artifact.remove(step.out)
    artifact.write_text(experiment.folder / "experiment.yaml", experiment.text)
    decisions = decide(experiment)
    costs = estimate.costs(experiment.steps, decisions_left(decisions, steps))
    console.say(f"{experiment.file}: {len(steps)} steps into {experiment.folder}; {estimate.sentence(costs)}")
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
    console.say(estimate.sentence(costs))
    for name, decision in decisions.items():
        if decision.what == "refuse" and experiment.steps[name] in steps:
            console.say(f"{name} was made by another recipe:\n  " + decision.why.replace("; ", "\n  "))
