"""The command line: what it starts, what it says, and the status it leaves with."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill import artifact, experiment, recipe, running, stages
from distill.__main__ import main

ROOT = Path(__file__).parents[1]

FILE = """\
name: mine
output: {output}
steps:
  corpus:
    ingest:
      sources:
        - class_path: distill.readers.JSONL
          init_args: {{path: tests/data/questions.jsonl, kind: retrieval, task: Find the answer}}
  vectors:
    embed:
      passages: corpus
      model: &student {{class_path: students.Encoder, init_args: {{base: tests/data/encoder, length: 32}}}}
  asked:
    embed: {{queries: corpus, model: *student}}
  found:
    mine: {{passages: corpus, queries: corpus, passage_vectors: vectors, query_vectors: asked, depth: 8}}
  examples:
    label: {{candidates: found, negatives: 2}}
"""
STEPS = ("corpus", "vectors", "asked", "found", "examples")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small experiment."""
    made = tmp_path / "mine.yaml"
    made.write_text(FILE.format(output=tmp_path / "runs"))
    return made


def said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """What the command line prints, both streams, once it left with a status."""
    capsys.readouterr()
    assert main(list(map(str, arguments))) == status
    captured = capsys.readouterr()
    return captured.out + captured.err


def row(table: str, step: str) -> list[str]:
    """The cells of a step in a table."""
    lines = [line for line in table.splitlines() if line.startswith(f"│ {step} ")]
    assert len(lines) == 1, table
    return [cell.strip() for cell in lines[0].strip("│").split("│")]


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file of the artifacts below a folder was changed, and its bytes."""
    found = [file for file in folder.rglob("*") if file.is_file() and file.name not in (".lock", "experiment.yaml")]
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in found}


def test_nothing_said_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a first `distill` ends in an error and teaches nothing."""
    shown = said(capsys)
    assert shown == said(capsys, "--help") == said(capsys, "-h")
    assert all(word in shown for word in ("run", "plan", "show", *stages.VERBS))
    assert said(capsys, "--version").startswith("distill 0.")


@pytest.mark.parametrize(("typed", "meant"), [("lable", "label"), ("rum", "run"), ("shwo", "show")])
def test_an_unknown_command_gets_a_hint(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a slip sends people to the documentation."""
    assert said(capsys, typed, status=1) == f"no command {typed!r}. Did you mean {meant!r}? See: distill --help\n"


@pytest.mark.parametrize("verb", stages.VERBS)
def test_each_verb_explains_every_argument(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: an argument that its docstring forgot has no help, and nobody sees it."""
    import inspect

    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: distill {verb}" in shown
    assert "--config FILE" in shown
    assert "configuration file" not in shown  # of a part of the arguments: those are not read
    for name, parameter in inspect.signature(stages.verb(verb)).parameters.items():
        key = name if f"--{name} " in shown else f"{name}."
        assert f"--{key}" in shown, name
        documented = (inspect.getdoc(stages.verb(verb)) or "").partition("Args:")[2]
        assert f"\n    {name}: " in documented, (name, parameter)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (("train", "--model.help", "NVEmbed"), "train: --model.help: class NVEmbed has no package before its name. "
         "Did you mean 'teachers.NVEmbed'?"),
        (("ingest", "--sources.help=csv"), "ingest: --sources.help: class csv has no package before its name. "
         "Did you mean 'distill.readers.CSV'?"),
        (("train", "--model.help", "teachers.CausalLM"), "train: --model.help: teachers.CausalLM is no Embedder. "
         "There are: teachers.Decoder, "),
        (("evaluate", "--models.help", "os.system"), "evaluate: --models.help: class os.system is not in an allowed"),
        (("train", "--objective.help"), "train: unrecognized arguments: --objective.help. See: distill train --help"),
    ],
)  # fmt: skip
def test_a_class_that_is_not_there_is_explained_in_a_line(
    typed: tuple[str, ...], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: who asks what a class takes, and leaves its package out, gets a traceback of three libraries."""
    found = said(capsys, *typed, status=1)
    assert found.startswith(shown) and found.count("\n") == 1


def test_a_class_is_told_as_its_help_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: `--model.base`, which `--help` names, is refused, and nothing says what would be taken."""
    from distill.__main__ import _arguments

    spelt = ["--model", "teachers.CausalLM", "--model.base", "x", "--prompt.about", "a.b"]
    wanted = {"class_path": "teachers.CausalLM", "init_args": {"base": "x"}}
    assert _arguments(spelt) == {"model": wanted, "prompt": {"about": "a.b"}}
    long = ["--model.class_path", "teachers.CausalLM", "--model.init_args.base", "x"]
    assert _arguments(long) == {"model": wanted}
    assert _arguments(["--model", "{class_path: teachers.CausalLM, init_args: {base: x}}"]) == {"model": wanted}
    assert _arguments(["--model", "teachers.CausalLM"]) == {"model": "teachers.CausalLM"}
    out = ("--passages", str(tmp_path / "nope"), "--out", "x")
    assert "nope does not exist" in said(capsys, "generate", *spelt, *out, status=1)


def test_the_classes_that_there_are_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: nobody can ask which models, writers or readers there are."""
    shown = said(capsys, "train", "--model.help")
    assert "students.Encoder" in shown and "teachers.NVEmbed" in shown
    assert "CausalLM" not in shown and "LatentAttention" not in shown and shown.count("\n") == 1
    assert "distill.readers.CSV" in said(capsys, "ingest", "--sources.help", "--seed", "1")
    with pytest.raises(SystemExit) as left:
        main(["train", "--model.help", "teachers.NVEmbed"])
    assert left.value.code == 0
    assert "--model.layers" in capsys.readouterr().out


def test_a_mistake_in_the_options_is_the_usual_status(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a script cannot tell a mistyped option from a refused step."""
    for arguments in (["run"], ["run", str(file), "--bogus"], ["plan", str(file), "--again", "corpus"], ["show"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        assert capsys.readouterr().err.startswith("usage: distill")


def test_run_then_again_only_from_and_show(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: finished work is done anew, a part of a run touches the rest, or a made step cannot be looked at."""
    folder = tmp_path / "runs" / "mine"
    table = said(capsys, "run", file)
    assert [row(table, step)[2] for step in STEPS] == ["done"] * 5
    before = files(folder)
    table = said(capsys, "run", file)
    assert "everything is done" in table
    assert [row(table, step)[2] for step in STEPS] == ["done before"] * 5
    assert files(folder) == before

    table = said(capsys, "run", file, "--only", "found", "--again", "found")
    assert row(table, "found")[2] == "done"
    assert "asked" not in table
    after = files(folder)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed
    assert all("/found/" in name for name in changed)
    assert {name: held for name, (_, held) in after.items() if name.endswith(".arrow")} == {
        name: held for name, (_, held) in before.items() if name.endswith(".arrow")
    }

    table = said(capsys, "run", file, "--from", "found")
    assert "asked" not in table
    assert [row(table, step)[2] for step in ("found", "examples")] == ["done before"] * 2

    shown = said(capsys, "show", folder / "examples", "--rows", "1", "--verify")
    assert "label" in shown
    assert "verified" in shown
    assert "whole run" in said(capsys, "show", folder, status=1)


def test_only_a_step_whose_inputs_are_missing_says_what_to_run(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: the message names a folder that is not there, and not the step that makes it."""
    shown = said(capsys, "run", file, "--only", "vectors", status=1)
    assert (
        f"{file}:9: step 'vectors' (embed): reads step 'corpus', which is not finished. Run that first: "
        "--only corpus vectors.\n"
    ) in shown
    assert row(shown, "vectors")[2] == "refused"
    assert not (tmp_path / "runs" / "mine" / "vectors").exists()
    shown = said(capsys, "run", file, "--only", "vectors", "corpus")
    assert [row(shown, step)[2] for step in ("corpus", "vectors")] == ["done", "done"]
    hint = f"{file}: no step 'vektors'. Did you mean 'vectors'?\n"
    assert said(capsys, "run", file, "--only", "vektors", status=1) == hint
    assert said(capsys, "run", file, "--again", "vektors", status=1) == hint
    listed = "no step 'nope'. There are: corpus, vectors, asked, found, examples.\n"
    assert said(capsys, "plan", file, "--from", "nope", status=1).endswith(listed)
    assert said(capsys, "plan", file, "--set", "nope.seed=1", status=1).endswith(listed)


def test_a_plan_writes_nothing(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: asking what would happen begins it."""
    table = said(capsys, "plan", file)
    assert [row(table, step)[2] for step in STEPS] == ["run"] * 5
    assert not (tmp_path / "runs").exists()
    said(capsys, "run", file, "--only", "corpus", "vectors")
    before = files(tmp_path)
    table = said(capsys, "plan", file, "--set", "vectors.part_rows=10")
    assert [row(table, step)[2] for step in STEPS] == [
        "done",
        "refuse",
        "run",
        "waits for vectors",
        "waits for found",
    ]
    assert "vectors was made by another recipe:\n  settings.part_rows: 50000 -> 10\n" in table
    changed = ("--set", "corpus.negatives=3", "--only", "asked", "found")
    lines = said(capsys, "plan", file, *changed).splitlines()
    assert sum("waits for corpus" in line for line in lines) == 2
    assert any("waits for corpus and 2 more" in line for line in lines)  # on one line, also of 80 columns
    assert row(said(capsys, "plan", file, "--only", "asked"), "asked")[2] == "run"
    assert files(tmp_path) == before


def test_work_of_an_older_recipe_stays_what_the_rest_was_made_from(file: Path) -> None:
    """Harm: an option that a new version brings makes every finished run look like another's."""
    assert main(["run", str(file)]) == 0
    experiment_ = experiment.load(file)
    folders = [step.out for step in experiment_.steps.values()]
    older = json.loads((folders[0] / "recipe.json").read_bytes())
    del older["settings"]["seed"]
    then = {artifact.fingerprint(folders[0]): recipe.fingerprint(older)}
    (folders[0] / "recipe.json").write_text(json.dumps(older))
    for folder in folders[1:]:  # those made from it then, and from those
        text, now = (folder / "recipe.json").read_text(), artifact.fingerprint(folder)
        for one, other in then.items():
            text = text.replace(one, other)
        (folder / "recipe.json").write_text(text)
        then[now] = artifact.fingerprint(folder)
    decided = running.decide(experiment.load(file))
    assert {name: decision.what for name, decision in decided.items()} == dict.fromkeys(STEPS, "done")


def test_again_deletes_only_what_the_run_makes(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a model of hours is deleted by a run that leaves its step out, and says that all is done."""
    said(capsys, "run", file, "--only", "corpus", "--only", "vectors")  # both
    before = files(tmp_path / "runs" / "mine")
    shown = said(capsys, "run", file, "--only", "corpus", "--again", "vectors", status=1)
    assert "--again vectors: this run leaves that step out." in shown
    shown = said(capsys, "run", file, "--only", "corpus", "--from", "vectors", status=1)
    assert shown == "--only and --from were both given. Say one of them.\n"
    assert files(tmp_path / "runs" / "mine") == before


def test_a_plan_says_what_cannot_run(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: "everything is done" stands under a run of which nothing can be done."""
    said(capsys, "run", file)
    assert said(capsys, "plan", file).endswith("everything is done\n")
    shown = said(capsys, "plan", file, "--set", "corpus.negatives=3")
    assert "5 cannot run (corpus, vectors, asked, found, examples)" in shown
    assert "everything is done" not in shown


def test_a_refused_source_is_told_by_what_differs(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: the difference is said to be between two texts that look the same."""
    said(capsys, "run", file, "--only", "corpus")
    file.write_text(file.read_text().replace("Find the answer", "Find it"))
    shown = said(capsys, "run", file, "--only", "corpus", status=1)
    assert 'settings.sources[0].task: "Find the answer" -> "Find it"\n' in shown


def test_a_reason_names_the_step_and_how_to_go_on(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: a refusal shows two fingerprints, and nobody can tell what was made anew, or what to type."""
    said(capsys, "run", file)
    changed = ("--set", "vectors.model.init_args.length=16", "asked.model.init_args.length=16")
    again = ("--again", "vectors", "asked")
    command = f"distill run {file} --again vectors asked found examples"
    shown = said(capsys, "run", file, *changed, *again, status=1)
    assert "made of vectors, asked before: found, examples. What it would make" in shown
    assert f"to make all anew: {command}\n" in shown
    reasons = (
        "  settings.passage_vectors[0]: vectors was made anew since, by another recipe\n"
        "  settings.query_vectors[0]: asked was made anew since, by another recipe\n"
    )
    assert reasons in shown
    assert [row(shown, step)[2] for step in STEPS] == ["done before", "done", "done", "refused", "blocked"]
    end = shown.partition("│ examples ")[2]
    assert f"found refused: {tmp_path}/runs/mine/found was made by another recipe." in end
    assert "settings.query_vectors[0]: asked was made anew since" in end  # the reason once more, after the table
    assert len([line for line in end.splitlines() if line.startswith("found refused")]) == 1
    assert reasons in said(capsys, "plan", file, *changed)
    shown = said(capsys, *command.split()[1:], *changed)
    assert [row(shown, step)[2] for step in STEPS] == ["done before", *["done"] * 4]
    assert "before:" not in shown


def test_another_step_as_an_input_is_named(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: whoever names another corpus is told that the first was made anew."""
    text = file.read_text()
    source = text.partition("  corpus:\n")[2].partition("  vectors:")[0]
    file.write_text(
        text.replace("  vectors:", f"  other:\n{source.replace('Find the answer', 'Find it')}  vectors:", 1)
    )
    said(capsys, "run", file, "--only", "corpus", "other", "vectors")
    shown = said(capsys, "run", file, "--only", "vectors", "--set", "vectors.passages=other", status=1)
    assert "  settings.passages: corpus -> other\n" in shown


def test_what_was_dropped_is_told_in_a_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: half of a corpus is left out, and who does not look for it never learns of it."""
    rows = [json.loads(line) for line in Path("tests/data/questions.jsonl").read_text().splitlines()]
    twice = tmp_path / "twice.jsonl"
    twice.write_text("".join(json.dumps(each) + "\n" for each in [*rows, *rows[:3], {"query": " ", "positive": "x"}]))
    changed = ("--set", f"corpus.sources=[{{class_path: distill.readers.JSONL, init_args: {{path: {twice}, "
               "kind: retrieval, task: Find}}]")  # fmt: skip
    shown = said(capsys, "run", file, "--only", "corpus", *changed)
    folder = tmp_path / "runs" / "mine" / "corpus"
    assert f"  corpus: dropped 3 query repeated; 1 query empty (distill show {folder})\n" in shown
    assert ": dropped" not in said(capsys, "run", file, "--only", "corpus", *changed)  # told once
    assert ": dropped" not in said(capsys, "run", file, "--only", "corpus", "--again", "corpus")


def test_of_many_rules_three_are_told() -> None:
    """Harm: a line with all rules is read by nobody, or the largest is the one that is left out."""
    dropped = {"a": 1, "b": 2000, "of": {"c": 3, "d": 4}, "e": 0, "f": 2}
    assert running.told_dropped(dropped) == "2,000 b; 4 of d; 3 of c; 3 by other rules"
    assert running.told_dropped({"a": 0}) == running.told_dropped({}) == ""


def test_what_is_given_twice_or_looks_like_a_number(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: the first of two values is dropped without a word; or a folder may not be called by a date."""
    said(capsys, "run", file, "--only", "corpus")
    corpus = tmp_path / "runs" / "mine" / "corpus"
    student = "{class_path: students.Encoder, init_args: {base: tests/data/encoder, length: 32}}"
    embed = ("embed", "--passages", corpus, "--model", student)
    assert said(capsys, *embed, "--model", student, "--out", "x", status=1) == (
        "embed: --model stands twice. Give its values after one.\n"
    )
    with contextlib.chdir(tmp_path):
        said(capsys, *embed[:3], "--model", student.replace("tests", str(ROOT / "tests")), "--out", "2024-01-01")
    assert artifact.is_done(tmp_path / "2024-01-01")


def test_a_changed_setting_refuses_its_step_and_the_others_run(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: rows of two recipes are mixed; or one refused step stops an overnight run of ten others."""
    said(capsys, "run", file, "--only", "corpus", "vectors")
    before = files(tmp_path / "runs" / "mine" / "vectors")
    changed = ("--set", "vectors.part_rows=10", "vectors.model.init_args.length=16")
    shown = said(capsys, "run", file, *changed, status=1)
    folder = tmp_path / "runs" / "mine" / "vectors"
    assert (
        f"{file}:9: step 'vectors' (embed): {folder} was made by another recipe. Give the step another name, "
        "delete the folder, or say --again vectors.\n"
        "  settings.model.init_args.length: 32 -> 16\n"
        "  settings.part_rows: 50000 -> 10\n"
    ) in shown
    assert [row(shown, step)[2] for step in STEPS] == ["done before", "refused", "done", "blocked", "blocked"]
    assert files(folder) == before
    shown = said(
        capsys, "run", file, *changed, "--again", "vectors", status=1
    )  # the other vectors are of another model
    assert [row(shown, step)[2] for step in STEPS] == ["done before", "done", "done before", "refused", "blocked"]
    assert "mine: passages are embedded by Encoder@" in shown


def test_a_verb_alone_and_a_step_know_each_others_work(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: what was made by hand is made again by the experiment, or refused, and the other way round."""
    runs = tmp_path / "runs" / "mine"
    said(capsys, "run", file, "--only", "corpus")
    student = "{class_path: students.Encoder, init_args: {base: tests/data/encoder, length: 32}}"
    said(capsys, "embed", "--passages", runs / "corpus", "--model", student, "--out", runs / "vectors")
    options = tmp_path / "asked.yaml"
    options.write_text(f"queries: {runs / 'corpus'}\nmodel: {student}\nout: {tmp_path}/elsewhere\npart_rows: 7\n")
    said(capsys, "embed", "--part_rows=50000", "--out", runs / "asked", "--config", options)
    assert not (tmp_path / "elsewhere").exists()
    before = files(runs)
    table = said(capsys, "run", file)
    assert [row(table, step)[2] for step in STEPS] == ["done before"] * 3 + ["done"] * 2
    assert before.items() <= files(runs).items()

    before = files(runs)
    said(capsys, "label", "--candidates", runs / "found", "--negatives", 2, "--out", runs / "examples")
    assert files(runs) == before
    shown = said(
        capsys, "label", "--candidates", runs / "found", "--negatives", 3, "--out", runs / "examples", status=1
    )
    assert "  settings.negatives: 2 -> 3\n" in shown


def test_keys_inside_and_lists_on_the_command_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: a verb alone cannot say what a step can."""
    runs = tmp_path / "runs" / "mine"
    said(capsys, "run", file)
    said(
        capsys, "train", "--model.class_path", "students.Encoder", "--model.init_args.base", "tests/data/encoder",
        "--model.init_args.layers", 1, 0, "--passages", runs / "corpus", "--examples", runs / "examples",
        runs / "corpus", "--kinds", "retrieval", "--schedule.steps", 1, "--schedule.queries", 4,
        "--schedule.learning_rate", "1e-4", "--objective.temperature", 0.05, "--out", tmp_path / "student",
    )  # fmt: skip
    made = artifact.read_json(tmp_path / "student" / "recipe.json")["settings"]
    assert made["model"]["init_args"]["layers"] == [1, 0]  # type: ignore[index]
    assert made["schedule"]["learning_rate"] == 1e-4  # type: ignore[index]
    assert made["objective"]["temperature"] == 0.05  # type: ignore[index]
    assert len(made["examples"]) == 2  # type: ignore[index]


WRONG = {
    "label: needs candidates.": ("label", "--out", "x"),
    "label: needs out, the folder to write: --out FOLDER.": ("label", "--candidates", "tests"),
    "label: nil does not exist.": ("label", "--candidates", "nil", "--out", "x"),
    "label: negatives: 'many'; needed: a whole number.": (
        "label", "--candidates", "tests", "--negatives", "many", "--out", "x"
    ),
    "label: has no argument 'negative'. Did you mean 'negatives'?": (
        "label", "--candidates", "tests", "--negative", "3", "--out", "x"
    ),
    "label: 'tests' belongs to no key; needed: --key value.": ("label", "tests"),
    "label: --candidates: no value; needed: --candidates VALUE.": ("label", "--candidates"),
    "label: --config: nil.yaml does not exist.": ("label", "--config", "nil.yaml", "--out", "x"),
    "label: --within: line 1: not YAML": ("label", "--within", "[", "--out", "x"),
    "label: --candidates.a: 'a' would lie inside a value that has no keys.": (
        "label", "--candidates", "tests", "--candidates.a", "3", "--out", "x"
    ),
    "nil.yaml does not exist.": ("run", "nil.yaml"),
    "configs cannot be read: Is a directory.": ("run", "configs"),
    "configs is not an artifact (it has no recipe.json).": ("show", "configs"),
}  # fmt: skip


@pytest.mark.parametrize("expected", WRONG)
def test_a_mistake_is_one_line_and_status_one(expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a mistake prints a traceback, or is not noticed by a script."""
    shown = said(capsys, *WRONG[expected], status=1)
    assert shown.startswith(expected)
    assert len(shown.splitlines()) == 1
    assert not Path("x").exists()


def test_a_package_is_allowed_by_the_person_not_by_the_file(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: there is no way to a class of one's own, or any file gives itself leave."""
    from distill import models

    monkeypatch.setattr(models, "allowed", list(models.allowed))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_models.py").write_text("from students import Encoder\nclass Own(Encoder):\n    pass\n")
    file.write_text(file.read_text().replace("students.Encoder", "own_models.Own"))
    assert "class own_models.Own is not in an allowed package" in said(capsys, "plan", file, status=1)
    assert row(said(capsys, "plan", file, "--allow", "own_models"), "vectors")[2] == "run"


def test_the_command_is_quick_to_help() -> None:
    """Harm: asking for help waits seconds for libraries; a shell completes by it."""
    code = (
        "import sys\nfrom distill.__main__ import main\nassert main(['--help']) == 0\n"
        "assert not {'torch', 'lightning', 'transformers', 'numpy'} & set(sys.modules), sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
