"""A step's arguments, as written in YAML, to values of the types in the verb's signature."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace, set_parsing_settings  # type: ignore[attr-defined]

from distill import models, recipe
from distill.errors import Refused, near

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def parser(function: Callable[..., object]) -> ArgumentParser:
    """A parser of a verb's arguments, from its signature and docstring."""
    made = ArgumentParser(exit_on_error=False)
    made.add_function_arguments(function, as_group=False, fail_untyped=True, sub_configs=False)
    return made


def parse(function: Callable[..., object], arguments: Mapping[str, object]) -> dict[str, object]:
    """Typed settings of one call.

    Classes with arguments become `functools.partial`, so nothing is loaded before it is called.
    Where a list is wanted, one thing may stand alone.

    Raises:
        Refused: An argument is not known, is missing, or is of another type.
    """
    wanted = inspect.signature(function).parameters
    unknown = [name for name in arguments if name not in wanted]
    if unknown:
        raise Refused(
            "\n".join(f"({function.__name__}): no argument {name!r}.{near(name, list(wanted))}" for name in unknown)
        )
    missing = [name for name, p in wanted.items() if p.default is p.empty and name not in arguments and name != "out"]
    if missing:
        raise Refused(f"({function.__name__}): needs {', '.join(missing)}.")
    check_classes(arguments)
    given = {name: _listed(wanted[name].annotation, value) for name, value in arguments.items()}
    try:
        made = parser(function).parse_object({**given, "out": "."})
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise Refused(f"({function.__name__}): {_shortened(str(error))}") from error
    return settings(function, made)


def settings(function: Callable[..., object], parsed: Namespace) -> dict[str, object]:
    """What a parser of a verb's arguments gave, as the verb takes it; without `out`."""
    hints = typing.get_type_hints(inspect.unwrap(function))
    names = [name for name in inspect.signature(function).parameters if name != "out"]
    return {name: value_of(getattr(parsed, name), hints[name]) for name in names}


def _listed(annotation: object, value: object) -> object:
    return [value] if typing.get_origin(annotation) in (tuple, list) and not isinstance(value, (list, tuple)) else value


def check_classes(value: object) -> None:
    """Make sure that every class path is allowed and exists, before anything else is imported.

    Raises:
        Refused: Names the first that is not.
    """
    if isinstance(value, Mapping):
        if "class_path" in value:
            models.find(str(value["class_path"]))
        for held in value.values():
            check_classes(held)
    elif isinstance(value, (list, tuple)):
        for held in value:
            check_classes(held)


def value_of(parsed: object, hint: object) -> object:
    """A parsed value as the verb takes it: namespaces become dataclasses and partial classes."""
    if isinstance(parsed, Namespace) and "class_path" in parsed:
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
        return tuple(value_of(held, None) for held in parsed)
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


def _shortened(text: str) -> str:
    """The last useful line of jsonargparse's report: a union lists every alternative over many lines."""
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(("Given value", "Problem with given", "Parser key"))]
    first = lines[0] if lines else text
    return first if len(lines) == 1 or not useful else f"{first} {useful[-1]}" if useful[-1] != first else first


def command_line(name: str, function: Callable[..., object], given: Sequence[str]) -> tuple[dict[str, object], Path]:
    """Settings and output folder of a verb that is called by itself.

    Args:
        name: The verb.
        function: Its stage.
        given: Arguments of the command line: `--key value`, `--config FILE` (a YAML of the verb's arguments).

    Raises:
        Refused: An argument is not known, is missing, is of another type, or leads nowhere.
    """
    made = ArgumentParser(exit_on_error=False, prog=f"distill {name}")
    made.add_argument("--config", action=ActionConfigFile, help="a YAML file of these arguments")
    made.add_function_arguments(function, as_group=False, fail_untyped=True, sub_configs=False)
    try:
        parsed = made.parse_args(list(given))
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise Refused(f"{name}: {_shortened(str(error))} See: distill {name} --help") from error
    found = settings(function, parsed)
    for path in recipe.paths(found):
        if not path.exists():
            raise Refused(f"{name}: {path} does not exist.")
    return found, Path(str(parsed.out))
