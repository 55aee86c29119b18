"""The command line: `run`, `plan`, `show`, `size`, and a subcommand for each verb."""

import argparse
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill import __version__, console, runtime, stages
from distill.errors import Refused, near

USAGE = """\
distill run  FILE [--only STEP ...] [--from STEP] [--again STEP ...] [--set STEP.key=value ...]
distill plan FILE [--only STEP ...] [--from STEP] [--set STEP.key=value ...]
distill show ARTIFACT [--rows N] [--whole] [--verify] [--parquet FOLDER]
distill size [--megabytes M] [--milliseconds T] [--parameters N] [--base BASE] [--corpus ARTIFACT ...]
distill VERB --help | [--config FILE] [--allow PACKAGE ...] --key value ... --out FOLDER

verbs: """ + ", ".join(stages.VERBS)

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
"""A class with its package."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; give the exit status. A user's mistake is one message, never a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Threads that wait by spinning take the cores from whoever works: a step can last ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.stderr.isatty():  # libraries draw bars of their own, a line for each movement
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if runtime.helps():
        console.console.quiet = True  # the process that started this one speaks for both
    logging.disable(logging.INFO)  # some of them log each call
    # What a dependency will change one day is for us to read, in the tests, where warnings are errors.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        return _main(given)
    except Refused as error:
        console.complain(str(error))
    except KeyboardInterrupt:
        console.complain("interrupted; run the same command again to go on.")
        return 130
    except Exception as error:
        from distill.running import outside

        if not (said := outside(error)):
            raise
        console.complain(said)
    return 1


def _main(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        console.say(USAGE)
        return 0
    if given[0] == "--version":
        console.say(f"distill {__version__}")
        return 0
    command, rest = given[0], given[1:]
    if command in ("run", "plan"):
        return _experiment(command, rest)
    if command == "show":
        return _show(rest)
    if command == "size":
        return _size(rest)
    if command in stages.VERBS:
        return _verb(command, rest)
    commands = ("run", "plan", "show", "size", *stages.VERBS)
    raise Refused(f"no command {command!r}.{near(command, commands)} See: distill --help")


def _experiment(command: str, given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"distill {command}")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument("file", type=Path, help="the experiment")
    parser.add_argument("--only", **several, metavar="STEP", help="these steps alone; their inputs must be finished")
    parser.add_argument("--from", dest="start", metavar="STEP", help="take the steps before this one as they are")
    parser.add_argument("--set", **several, metavar="STEP.key=value", help="as if written in the file")
    parser.add_argument("--allow", **several, metavar="PACKAGE", help="packages whose classes the file may name")
    if command == "run":
        parser.add_argument("--again", **several, metavar="STEP", help="delete these steps first, make them anew")
    options = parser.parse_args(given)
    from distill import experiment, models, running

    models.allowed.extend(f"{package}." for package in options.allow)
    loaded = experiment.load(options.file, options.set)
    if command == "plan":
        running.plan(loaded, options.only, options.start)
        return 0
    return 0 if running.run(loaded, options.only, options.start, options.again) else 1


def _show(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="distill show")
    parser.add_argument("artifact", type=Path, help="a step's folder")
    parser.add_argument("--rows", type=int, default=5, help="rows shown of each table")
    parser.add_argument("--whole", action="store_true", help="texts to their end, and all passages of a row")
    parser.add_argument("--verify", action="store_true", help="compare every file's hash")
    parser.add_argument("--parquet", type=Path, metavar="FOLDER", help="write a copy of the tables for other programs")
    options = parser.parse_args(given)
    from distill.show import show

    show(options.artifact, options.rows, options.verify, options.parquet, whole=options.whole)
    return 0


def _size(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="distill size", description="What a student may be within a budget.")
    parser.add_argument("--megabytes", type=float, help="of its ONNX file in int8, in millions of bytes")
    parser.add_argument("--milliseconds", type=float, help="of a query on one core, in fp32")
    parser.add_argument("--parameters", type=float, help="all, tables too; 23e6 is 23 million")
    parser.add_argument("--base", default="package:all-MiniLM-L6-v2", help="what it is made of")
    parser.add_argument("--revision", help="full commit of a hub name")
    parser.add_argument("--corpus", type=Path, nargs="+", default=[], help="artifacts: other texts' tokens may go")
    parser.add_argument("--query", type=int, default=16, help="tokens of a query")
    options = parser.parse_args(given)
    from distill.estimate import budget

    bounds = budget.Budget(options.megabytes, options.milliseconds, options.parameters)
    budget.show(bounds, options.base, options.revision, options.corpus, options.query)
    return 0


def _verb(name: str, given: list[str]) -> int:
    from distill import parsing, recipe
    from distill.findings import told

    function = stages.verb(name)
    if any(word in ("-h", "--help") or word.partition("=")[0].endswith(".help") for word in given):
        try:
            parsing.explain(function, name, given)
        except Refused as error:
            raise Refused(f"{name}: {error}") from error
        return 0
    try:
        arguments = _arguments(given)
        out = arguments.pop("out", None)
        if not isinstance(out, str):
            raise Refused("needs out, the folder to write: --out FOLDER.")
        settings = parsing.parse(function, arguments)
        for path in recipe.paths(settings):
            if not path.exists():
                raise Refused(f"{path} does not exist.")
    except Refused as error:
        raise Refused("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from error
    facts = function(**settings, out=Path(out))
    # A warning was said when it was found: in a cell it could not be read.
    rows = {key: told(held) for key, held in facts.items() if isinstance(held, (int, float, str)) and key != "warning"}
    console.table(f"{name}: {out}", ("fact", "value"), rows.items())
    return 0


def _arguments(given: Sequence[str]) -> dict[str, object]:
    """`--key value` and `--key.inner value`, read as YAML, over those of `--config FILE`; several values are a list."""
    from distill import document, models

    words: list[tuple[str, list[str]]] = []
    for word in given:
        if word.startswith("--"):
            key, mark, value = word.removeprefix("--").partition("=")
            words.append((key, [value] if mark else []))
        elif words:
            words[-1][1].append(word)
        else:
            raise Refused(f"{word!r} belongs to no key; needed: --key value.")
    found: dict[str, object] = {}
    words = _as_in_a_file(words)
    keys = [key for key, _ in words]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise Refused(f"--{twice[0]} stands twice. Give its values after one.")
    for key, values in sorted(words, key=lambda word: word[0] != "config"):  # the file first
        if not values:
            raise Refused(f"--{key}: no value; needed: --{key} VALUE.")
        try:
            if key == "config":
                found, _, _ = document.read_yaml(Path(values[-1]))
            elif key == "allow":  # said here alone: a file may not allow itself
                models.allowed.extend(f"{package}." for package in values)
            else:
                is_text = key == "out"  # a folder may be called 2024-01-01
                read = [value if is_text or not value else document.read_value(value) for value in values]
                document.put(found, key.split("."), read[0] if len(read) == 1 else read)
        except Refused as error:
            raise Refused(f"--{key}: {error}") from error
    return found


def _as_in_a_file(words: Sequence[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """`--model CLASS --model.base NAME`, which is how `--help` tells it, by the keys that a file has."""
    named = [(key, values[0]) for key, values in words if len(values) == 1 and _CLASS.fullmatch(values[0])]
    classes = {key for key, _ in named if any(other.startswith(f"{key}.") for other, _ in words)}
    found = []
    for key, values in words:
        parent, _, rest = key.partition(".")
        is_told = parent in classes and rest.partition(".")[0] not in ("", "class_path", "init_args")
        spelt = f"{parent}.init_args.{rest}" if is_told else key
        found.append((f"{key}.class_path" if key in classes else spelt, values))
    return found


if __name__ == "__main__":
    sys.exit(main())
