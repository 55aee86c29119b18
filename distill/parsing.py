"""A step's arguments, as written in YAML or on a command line, to values of the types in the verb's signature."""

import argparse
import dataclasses
import functools
import inspect
import itertools
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings  # type: ignore[attr-defined]

from distill import console, stages
from distill.errors import Refused, near

set_parsing_settings(docstring_parse_attribute_docstrings=True)

PLAIN = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    types.NoneType: "null",
}
"""Types of a setting that is one value, in words."""


def parser(function: Callable[..., object], name: str | None = None) -> ArgumentParser:
    """A parser of a verb's arguments, from its signature and docstring; with a name, the one that prints its help."""
    made = ArgumentParser(exit_on_error=False, prog=name and f"distill {name}")
    if name:
        made.add_argument("--config", metavar="FILE", help="a YAML file of these arguments")
        made.add_argument("--allow", metavar="PACKAGE", nargs="+", help="packages whose classes may be named")
    made.add_function_arguments(function, as_group=False, fail_untyped=True, sub_configs=False)
    for action in made._actions:  # files of parts of the arguments are not read
        action.help = argparse.SUPPRESS if action.help == "Path to a configuration file." else action.help
    return made


def explain(function: Callable[..., object], name: str, given: Sequence[str]) -> None:
    """Print what a verb takes, or a class that it takes: `--help`, `--model.help CLASS`; without one, which there are.

    Raises:
        Refused: There is no such class, or no such argument.
    """
    from distill import models

    hints = typing.get_type_hints(inspect.unwrap(function))
    if "--allow" in given:
        packages = itertools.takewhile(lambda word: not word.startswith("-"), given[given.index("--allow") + 1 :])
        models.allowed.extend(f"{package}." for package in packages)
    for word, after in zip(given, [*given[1:], "-"], strict=True):
        key, mark, value = word.partition("=")
        wanted = _class_in(hints.get(key.removeprefix("--").removesuffix(".help")))
        if not key.endswith(".help") or wanted is None:
            continue
        if not (named := value if mark else "" if after.startswith("-") else after):
            console.say(f"{key} takes one of these: {', '.join(models.offered(wanted))}")
            return
        try:
            found = models.find(named)
        except Refused as error:
            raise Refused(f"{key}: {error}{models.meant(named, wanted)}") from error
        if not issubclass(found, wanted):
            raise Refused(f"{key}: {named} is no {wanted.__name__}. There are: {', '.join(models.offered(wanted))}.")
    try:
        parser(function, name).parse_args(list(given))  # prints, and leaves
    except ArgumentError as error:
        raise Refused(f"{' '.join(str(error).split())}. See: distill {name} --help") from error


def _class_in(hint: object) -> type | None:
    """The kind of class that a setting is, or that there is in it at any depth."""
    return _class_wanted(hint) or next(filter(None, map(_class_in, _parts(hint))), None)


def _parts(hint: object) -> Sequence[object]:
    return () if typing.get_origin(hint) is Callable else typing.get_args(hint)


def parse(function: Callable[..., object], arguments: Mapping[str, object]) -> dict[str, object]:
    """Typed settings of one call.

    Classes with arguments become `functools.partial`, so nothing is loaded before it is called.
    Where a list is wanted, one thing may stand alone.

    Raises:
        Refused: An argument is not known, is missing, or is of another type; a line for each.
    """
    wanted = inspect.signature(function).parameters
    given = {name: _listed(wanted[name].annotation, v) if name in wanted else v for name, v in arguments.items()}
    if found := list(_faults_of_call(function, given, "", filled=("out",))):
        raise Refused("\n".join(found))
    try:
        made = parser(function).parse_object({**given, "out": "."})
    except (ArgumentError, TypeError, ValueError, KeyError) as error:  # of a type that `faults` takes for granted
        raise Refused(" ".join(str(error).split())) from error
    hints = typing.get_type_hints(inspect.unwrap(function))
    settings = {name: value_of(getattr(made, name), hints[name]) for name in wanted if name != "out"}
    if wrong := stages.faults(function, settings):
        raise Refused("\n".join(wrong))
    return settings


def _listed(annotation: object, value: object) -> object:
    return [value] if typing.get_origin(annotation) in (tuple, list) and not isinstance(value, (list, tuple)) else value


def faults(value: object, hint: object, at: str) -> Iterator[str]:
    """What is wrong with a setting, in words for a person, a line each; nothing if it is of its type.

    Args:
        value: As YAML has it.
        hint: The type that is wanted.
        at: Its key, with those around it.

    Yields:
        Key, value, what was needed, and the nearest name. No class is imported before its package is allowed.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is typing.Any or hint is inspect.Parameter.empty:
        return
    if origin in (typing.Union, types.UnionType):
        yield from _faults_of_union(value, inner, at)
    elif origin is typing.Literal:
        if value not in inner:
            yield f"{at}: {value!r:.60}; needed: {words(hint)}.{near(str(value), [str(one) for one in inner])}"
    elif origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            yield f"{at}: {value!r:.60}; needed: {words(hint)}."
            return
        for number, held in enumerate(value):
            yield from faults(held, inner[0], f"{at}[{number}]")
    elif inspect.isclass(origin) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            yield f"{at}: {value!r:.60}; needed: {words(hint)}."
            return
        for key, held in value.items():
            yield from faults(held, inner[1], f"{at}.{key}")
    elif _class_wanted(hint):
        yield from _faults_of_class(value, hint, at)
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            yield f"{at}: {value!r:.60}; needed: {words(hint)}."
            return
        yield from _faults_of_call(hint, value, at)
    elif not _fits(value, hint):
        yield f"{at}: {value!r:.60}; needed: {words(hint)}."


def words(hint: object) -> str:
    """A type as a person would say it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]  # type: ignore[index]
    if origin is typing.Literal:
        return _either(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return _either(map(words, inner))
    if origin in (tuple, list):
        return f"a list, each {words(inner[0])}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"names, each with {words(inner[1])}"
    if wanted := _class_wanted(hint):
        return f"class_path and init_args of a subclass of {wanted.__name__}"
    if dataclasses.is_dataclass(hint):
        return f"settings among {', '.join(field.name for field in dataclasses.fields(hint))}"
    return str(hint)


def _either(alternatives: Iterable[str]) -> str:
    *first, last = dict.fromkeys(alternatives)
    return f"{', '.join(first)} or {last}" if first else last


def _class_wanted(hint: object) -> type | None:
    """What a class must be a subclass of, where a setting is a class with arguments."""
    if typing.get_origin(hint) is Callable:
        wanted = typing.get_args(hint)[1]
        assert inspect.isclass(wanted)
        return wanted
    return hint if inspect.isclass(hint) and inspect.isabstract(hint) else None


def _faults_of_union(value: object, alternatives: Sequence[object], at: str) -> Iterator[str]:
    """None if one alternative has none; else those of the alternative that was meant, if that can be told."""
    found = {one: list(faults(value, one, at)) for one in alternatives}
    if not all(found.values()):
        return
    meant = [one for one in alternatives if isinstance(value, Mapping) and one not in PLAIN]
    yield from found[meant[0]] if meant else [f"{at}: {value!r:.60}; needed: {_either(map(words, alternatives))}."]


def _faults_of_class(value: object, hint: object, at: str) -> Iterator[str]:
    """Of a mapping with `class_path` and `init_args`."""
    from distill import models

    wanted = _class_wanted(hint)
    assert wanted is not None
    if not isinstance(value, Mapping) or "class_path" not in value:
        yield f"{at}: {value!r:.60}; needed: {words(hint)}."
        return
    if others := [key for key in value if key not in ("class_path", "init_args")]:
        yield f"{at}: no key {others[0]!r} beside class_path.{near(others[0], ['init_args'])}"
        return
    try:
        found = models.find(str(value["class_path"]))
    except Refused as error:
        yield f"{at}: {error}{models.meant(str(value['class_path']), wanted)}"
        return
    if not issubclass(found, wanted):
        yield f"{at}: class {value['class_path']} is no {wanted.__name__}; needed: {words(hint)}."
    elif not isinstance(arguments := value.get("init_args", {}), Mapping):
        yield f"{at}.init_args: {arguments!r}; needed: arguments of {found.__name__}, as keys and values."
    else:
        yield from _faults_of_call(found, arguments, f"{at}.init_args")


def _faults_of_call(
    made: Callable[..., object], arguments: Mapping[str, object], at: str, filled: Sequence[str] = ()
) -> Iterator[str]:
    """Of the arguments of a verb, a class or a dataclass; those in `filled` come from elsewhere."""
    wanted = inspect.signature(made).parameters
    hints = typing.get_type_hints(inspect.unwrap(made.__init__ if isinstance(made, type) else made))  # type: ignore[misc]
    names = [name for name in wanted if name not in filled]
    of, listed = f"{at}: {made.__name__} " if at else "", ", ".join(names)
    for name, value in arguments.items():
        if name in names:
            yield from faults(value, hints.get(name, typing.Any), f"{at}.{name}" if at else name)
        else:
            yield f"{of}has no argument {name!r}.{near(name, names) or f' There are: {listed}.'}"
    missing = [name for name in names if wanted[name].default is inspect.Parameter.empty and name not in arguments]
    if missing and all(name in names for name in arguments):  # a misspelt one is told already
        yield f"{of}needs {', '.join(missing)}."


def _fits(value: object, hint: object) -> bool:
    """Whether a value is of a plain type; of one that is not known here, jsonargparse is the judge."""
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, (str, Path)) and bool(str(value))
    return not inspect.isclass(hint) or isinstance(value, hint)


def value_of(parsed: object, hint: object) -> object:
    """A parsed value as the verb takes it: namespaces become dataclasses and partial classes."""
    if isinstance(parsed, Namespace) and "class_path" in parsed:
        from distill import models

        made = models.find(parsed["class_path"])
        arguments = {name: value_of(held, None) for name, held in vars(parsed.get("init_args", Namespace())).items()}
        if dataclasses.is_dataclass(made):
            return made(**arguments)
        return functools.partial(made, **arguments)
    if isinstance(parsed, Namespace):
        assert isinstance(hint, type)
        hints = typing.get_type_hints(hint)
        return hint(**{name: value_of(held, hints[name]) for name, held in vars(parsed).items()})
    if isinstance(parsed, (list, tuple)):
        inner = typing.get_args(hint) or (None,)
        return tuple(value_of(held, inner[0]) for held in parsed)
    if isinstance(parsed, dict):
        return {name: value_of(held, None) for name, held in parsed.items()}
    return Path(str(parsed)) if isinstance(parsed, Path) else parsed


def mapped(value: object, path: Callable[[Path], Path]) -> object:
    """A setting with a function applied to every path inside it."""
    if isinstance(value, Path):
        return path(value)
    if isinstance(value, functools.partial):
        return functools.partial(value.func, **{name: mapped(held, path) for name, held in value.keywords.items()})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return dataclasses.replace(value, **{name: mapped(inner, path) for name, inner in held.items()})
    if isinstance(value, dict):
        return {name: mapped(held, path) for name, held in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(mapped(held, path) for held in value)
    return value
