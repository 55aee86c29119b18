"""A YAML file to plain values, safely and strictly: one page, no key twice, no code, no merge keys."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from distill.errors import Refused

MEGABYTE = 1 << 20
NODES = 100_000


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
