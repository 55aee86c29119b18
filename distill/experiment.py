"""One file to steps: resolve names, parse by verb, fingerprint."""

import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill import artifact, document, foreseen, parsing, recipe, stages
from distill.errors import Refused, near
from distill.runtime import Runtime

WIDE_TYPES: dict[str, object] = {"name": str, "output": str, "seed": int, "runtime": Runtime}
RUN_WIDE = (*WIDE_TYPES, "steps")


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
            hint = near(parts[0], [*names, *RUN_WIDE]) or f" There are: {', '.join(names)}."
            raise Refused(f"--set {assignment}: no step {parts[0]!r}.{hint}")
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
    for name, fault in () if faults else foreseen.faults(experiment.steps):
        step = experiment.steps[name]
        faults.append(f"{file}:{step.line}: step {name!r} ({step.verb}): {fault}")
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
            is_class = re.match(r"(teachers|students)\.", text)
            hint = " To name a class, write class_path:." if is_class else near(text, [*self._earlier, *_beside(path)])
            looked = "" if hint or path.is_absolute() else f" Looked in {Path.cwd()}."
            raise Refused(f"{text} does not exist, and no earlier step has that name.{hint}{looked}")
        return path


def _beside(path: Path) -> list[str]:
    """What lies where a path leads that is not there."""
    return [str(path.parent / other.name) for other in path.parent.iterdir()] if path.parent.is_dir() else []


def inputs(experiment: Experiment, step: Step) -> dict[str, Step]:
    """The steps of this experiment that a step reads, by name."""
    folders = {held.out: held for held in experiment.steps.values()}
    paths = recipe.paths({key: value for key, value in step.settings.items() if key != "out"})
    return {folders[path].name: folders[path] for path in paths if path in folders}
