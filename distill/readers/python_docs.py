"""Documentation of Python and of installed packages, as passages and the questions they answer.

Real text that is on every machine, the same wherever Python and the packages are of the same versions.
Sources are read as text and parsed; nothing is imported but modules that are part of the interpreter.
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import os
import platform
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from distill.errors import Refused
from distill.readers import docstrings
from distill.readers.rows import Labelled, Passage, Reader, Retrieval, Row

FIND = "Given what a programmer wants to do, retrieve the documentation of what does it"
IDENTIFY = "Identify the module of the Python library that a text documents"

COMPILED = ("array", "binascii", "builtins", "cmath", "gc", "itertools", "math", "sys", "time", "unicodedata", "zlib")
"""Modules without Python source; importing them does nothing."""

PURE = {"_pydecimal": "decimal", "_pyio": "io"}
"""Python sources of modules known by another name."""

SKIPPED = re.compile(
    r"tests?|test_.*|testing|testutils|conftest|externals|_lib|_?vendor(ed)?|site-packages"
    r"|distutils|ensurepip|idlelib|lib2to3|tkinter|turtledemo"
)
"""Parts of a module's path: tests, other projects' code, and what some systems install apart."""

GATHERING = ("core", "_core", "algorithms")
"""Packages that hold most of a library: its areas are one level deeper."""

HELP = "python help"
"""Source of the language reference's paragraphs: their topics are no modules."""

LEAST_WORDS = 12
LEAST_OF_LABEL = 8

_GENERIC = re.compile(
    r"(see|deprecated|helper|internal|same as|alias|mixin|base class|abstract|overrid|implement|subclass|this |test"
    r"|todo|xxx|private|dispatch|called |initiali[sz]e|init |constructor|constructs? (a|an) new|dummy|wrapper|visit"
    r"|return (self|true|none|repr)|returns? (self|true|none|repr)|please|not |note|like |default |handle "
    r"|create and return a new)",
    re.IGNORECASE,
)
_LEFTOVER = re.compile(r">>>|%\(|\{\w*\}|::|\\|\$|<[A-Za-z/]|@|\bXXX\b|_{3,}|={2,}|\.py\b")


@dataclass(frozen=True)
class PythonDocs(Reader):
    """Docstrings of the standard library and of installed packages, split by module into train and test."""

    split: Literal["train", "test"]
    """Modules are dealt to one or the other by a hash of their name: the two share none."""
    packages: tuple[str, ...] = ("networkx", "numpy", "pandas", "scikit-learn")
    """Installed distributions that are read too."""
    limit: int | None = None
    """At most so many passages, sampled; all if None."""
    length: int = 80
    """Words that a passage is cut to, at the end of a sentence where possible."""
    seed: int = 0
    """Of the sample."""
    licence: str = "PSF-2.0, BSD-3-Clause"
    """Of the standard library and of the packages."""
    versions: tuple[str, ...] = field(init=False)
    """What is read, with its versions; part of the recipe, since other versions are other text."""

    def __post_init__(self) -> None:
        """Note the versions; refuse a package that is not installed."""
        Reader.__post_init__(self)
        found = tuple(f"{name} {_version(name)}" for name in self.packages)
        object.__setattr__(self, "versions", (f"python {platform.python_version()}", *found))

    def read(self) -> Iterator[Row]:
        """Passages; the summary of each as a query; its area as a label."""
        entries = [entry for entry in _entries(self.packages, self.length) if _part(entry.area) == self.split]
        entries = _sampled(entries, self.limit, self.seed)
        areas = Counter(entry.area for entry in entries)
        for entry in entries:
            yield entry.passage
            if entry.query:
                yield Retrieval(FIND, entry.query, (entry.passage,), (), (), entry.passage.at)
            if areas[entry.area] >= LEAST_OF_LABEL and entry.passage.source != HELP:
                yield Labelled("classification", IDENTIFY, entry.passage, entry.area)


@dataclass(frozen=True)
class _Entry:
    passage: Passage
    query: str  # empty: nothing a person would type
    area: str


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise Refused(f"packages: {name} is not installed. Install it, or leave it out.") from error


def _part(area: str) -> str:
    """Train or test, a fifth of the areas in the latter."""
    return "test" if hashlib.blake2b(area.encode(), digest_size=8).digest()[0] < 51 else "train"


def _sampled(entries: list[_Entry], limit: int | None, seed: int) -> list[_Entry]:
    """Some of the entries in their order: which ones depends on their keys and the seed alone."""
    if limit is None or limit >= len(entries):
        return entries
    draws = [hashlib.blake2b(f"{seed} {e.passage.key}".encode(), digest_size=8).digest() for e in entries]
    last = sorted(draws)[limit - 1]
    return [entry for entry, draw in zip(entries, draws, strict=True) if draw <= last]


@functools.lru_cache(maxsize=4)
def _entries(packages: tuple[str, ...], length: int) -> list[_Entry]:
    """All that is worth reading, each text and each name once; a query that several share is left out."""
    entries: list[_Entry] = []
    names: set[str] = set()
    texts: set[str] = set()
    for source, module, name, docstring in _documented(packages):
        entry = _entry(source, module, name, docstring, length)
        if entry and entry.passage.key not in names and entry.passage.text not in texts:
            names.add(entry.passage.key)
            texts.add(entry.passage.text)
            entries.append(entry)
    shared = Counter(entry.query.lower() for entry in entries)
    return [e if shared[e.query.lower()] == 1 else _Entry(e.passage, "", e.area) for e in entries]


def _entry(source: str, module: str, name: str, docstring: str, length: int) -> _Entry | None:
    if len(docstring.split()) < LEAST_WORDS:
        return None
    summary, body = docstrings.split(docstring)
    text = docstrings.cut(body, length)
    if len(text.split()) < LEAST_WORDS or not _is_prose(text):
        return None
    title = ".".join(part for part in name.split(".") if not part.startswith("_"))
    passage = Passage(source, title, title, text, f"docstring of {name}")
    query = _query(summary, name.rpartition(".")[2])
    return _Entry(passage, "" if query.lower() in text.lower() else query, _area(module))


def _is_prose(text: str) -> bool:
    """Whether a text is words rather than code, tables or formulas."""
    letters = sum(map(str.isalpha, text)) + text.count(" ")
    return letters >= 0.85 * len(text) and not _LEFTOVER.search(text)


def _query(summary: str, name: str) -> str:
    """A summary as a person would type it, or nothing when it says too little, or the answer's own name."""
    query = re.sub(r"\s*\([^)]*\)\s*$", "", summary.rstrip(" .:;")).strip()
    words = query.split()
    coined = "_" in name or name.lower() != name[:1].lower() + name[1:]
    named = coined and name.lower() in query.lower()
    if not 4 <= len(words) <= 25 or named or _GENERIC.match(query) or not _is_prose(query):
        return ""
    return query


def _area(module: str) -> str:
    """What decides the split and is the label: a top-level module, or a package's part."""
    parts = module.split(".")
    deep = 3 if len(parts) > 1 and parts[1] in GATHERING else 2
    return ".".join(parts[:deep])


def _documented(packages: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    """Source, module, qualified name and docstring of all that is documented."""
    for name in COMPILED:
        yield from _compiled(name)
    for file, module in _modules(Path(sysconfig.get_paths()["stdlib"]), ""):
        top, _, rest = module.partition(".")
        if top in PURE or not top.startswith("_"):
            named = PURE.get(top, top) + ("." + rest if rest else "")
            yield from (("python", named.partition(".")[0], *found) for found in _parsed(file, named))
    yield from _topics()
    for package in packages:
        for root, name in _roots(package):
            for file, module in _modules(root, name):
                yield from ((package, module, *found) for found in _parsed(file, module))


def _compiled(module: str) -> Iterator[tuple[str, str, str, str]]:
    held = importlib.import_module(module)
    for name, thing in inspect.getmembers(held):
        if not name.startswith("_") and (inspect.isbuiltin(thing) or inspect.isclass(thing)):
            prefix = name if module == "builtins" else f"{module}.{name}"
            yield "python", module, prefix, inspect.getdoc(thing) or ""
            for part, method in sorted(vars(thing).items()) if inspect.isclass(thing) else ():
                if not part.startswith("_") and callable(method):
                    yield "python", module, f"{prefix}.{part}", inspect.getdoc(method) or ""


def _topics() -> Iterator[tuple[str, str, str, str]]:
    """The language reference, as the interpreter's own help has it: each paragraph with its topic's heading."""
    from pydoc_data import topics

    for topic, text in sorted(topics.topics.items()):
        heading, _, rest = text.partition("\n")
        for number, paragraph in enumerate(rest.split("\n\n")):
            if not paragraph.startswith("   ") and "**" not in paragraph:
                yield HELP, topic, f"{heading.strip()} {number}", f"{topic}\n\n{paragraph}"


def _roots(package: str) -> Iterator[tuple[Path, str]]:
    """Folders of the packages that a distribution installs, with their names."""
    distribution = importlib.metadata.distribution(package)
    tops = {Path(file).parts[0] for file in distribution.files or () if Path(file).name == "__init__.py"}
    for top in sorted(top for top in tops if not SKIPPED.fullmatch(top)):
        yield Path(str(distribution.locate_file(top))), top


def _modules(root: Path, package: str) -> Iterator[tuple[Path, str]]:
    """Python files below a folder with the names of their modules, in order; tests left out."""
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not SKIPPED.fullmatch(name))  # not even looked into
        for name in sorted(files):
            stem, ending = os.path.splitext(name)
            if ending == ".py" and not SKIPPED.fullmatch(stem):
                file = Path(folder, name)
                parts = file.relative_to(root).with_suffix("").parts
                named = [*([package] if package else []), *(part for part in parts if part != "__init__")]
                yield file, ".".join(named)


def _parsed(file: Path, module: str) -> Iterator[tuple[str, str]]:
    """Qualified name and docstring of a file's module, classes, functions and methods."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's escapes are not ours to complain of
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            return  # a template, or source of another Python
    yield module, ast.get_docstring(tree) or ""
    yield from _members(tree, module)


def _members(node: ast.Module | ast.ClassDef, name: str) -> Iterator[tuple[str, str]]:
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not child.name.startswith("_"):
            yield f"{name}.{child.name}", ast.get_docstring(child) or ""
            if isinstance(child, ast.ClassDef):
                yield from _members(child, f"{name}.{child.name}")
