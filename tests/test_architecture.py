"""What the README and the brief of this package promise of its shape; who may import whom is import-linter's part."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distill import experiment, stages

ROOT = Path(__file__).parents[1]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("verb", stages.VERBS)
def test_a_verb_has_a_file_a_test_and_a_step_in_the_end_to_end_test(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a verb is added that nothing runs before a user does."""
    monkeypatch.chdir(ROOT)
    assert (ROOT / "distill" / "stages" / f"{verb}.py").is_file()
    assert (ROOT / "tests" / "stages" / f"test_{verb}.py").is_file()
    assert verb in {step.verb for step in experiment.load(Path("configs/tiny.yaml")).steps.values()}


def test_there_is_no_verb_beside_the_table() -> None:
    """Harm: a stage that is written and never listed cannot be called."""
    there = {file.stem for file in (ROOT / "distill" / "stages").glob("*.py")} - {"__init__"}
    assert there == set(stages.VERBS)


def tree(package: str) -> set[str]:
    """What the README's tree names of a package: the words below its line, up to the next package."""
    text = (ROOT / "README.md").read_text().partition("## Where things are")[2]
    block = text.split("```")[1]
    lines = block.strip("\n").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{package}/"))
    end = next((n for n, line in enumerate(lines) if n > start and not line.startswith(" ")), len(lines))
    return set(re.findall(r"\b\w+\.py\b|\b\w+/", "\n".join([lines[start].partition("/")[2], *lines[start + 1 : end]])))


@pytest.mark.parametrize("package", ["distill", "teachers", "students"])
def test_the_readmes_tree_names_every_module(package: str) -> None:
    """Harm: a newcomer looks for a file that is gone, and never learns of the one that took its place."""
    there = {file.name for file in (ROOT / package).glob("*.py")} - {"__init__.py"}
    folders = {f"{file.parent.name}/" for file in (ROOT / package).glob("*/__init__.py")}
    assert tree(package) == there | folders


@pytest.mark.parametrize("module", ["distill.show", "distill.__main__", "distill.experiment"])
def test_the_command_line_loads_no_heavy_library(module: str) -> None:
    """Harm: help, a hint and a look at an artifact wait seconds for libraries they do not use."""
    heavy = ("torch", "lightning", "transformers", "datasets", "sentence_transformers", "onnx")
    code = f"import sys, {module}\nassert not set({heavy!r}) & set(sys.modules), set({heavy!r}) & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_each_test_says_what_it_guards() -> None:
    """Harm: a test is kept, or dropped, by people who do not know what would go wrong without it."""
    silent = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in TESTS
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if not ast.get_docstring(node)
    ]
    assert not silent
