"""What a person gets wrong in a file, on the command line or in the data: one message each, which says what to do."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from distill import stages, tables
from distill.__main__ import main
from distill.errors import Refused
from distill.objective import Objective

ROOT = Path(__file__).parents[2]

CORPUS = """
  corpus:
    ingest:
      sources:
        - class_path: distill.readers.JSONL
          init_args: {path: tests/data/passages.jsonl}
"""
STUDENT = "{class_path: students.Encoder, init_args: {base: tests/data/encoder, length: 32}}"
TEACHER = "{class_path: teachers.NVEmbed, init_args: {base: tests/data/decoder, length: 32}}"
WRITER = "{class_path: teachers.CausalLM, init_args: {base: tests/data/decoder}}"


def steps(text: str) -> str:
    return "steps:\n" + text


def second(text: str) -> str:
    """An experiment whose step after the corpus is `e`."""
    return steps(f"{CORPUS}  e:\n    {text}\n")


def embed(model: str) -> str:
    return second(f"embed: {{passages: corpus, model: {model}}}")


def train(more: str) -> str:
    return second(f"train: {{model: {STUDENT}, passages: corpus, examples: corpus, {more}}}")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command line says on standard error when it refuses."""
    capsys.readouterr()
    assert main(list(arguments)) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


FILES = {
    "an unknown key": ("step: {}\n" + steps(CORPUS), "{file}: key 'step' is not known. Did you mean 'steps'?"),
    "an unknown argument": (
        second(f"embed: {{passages: corpus, model: {STUDENT}, part_row: 3}}"),
        "{file}:8: step 'e' (embed): has no argument 'part_row'. Did you mean 'part_rows'?",
    ),
    "an unknown key inside": (
        train("objective: {regresion: 1}"),
        "{file}:8: step 'e' (train): objective: Objective has no argument 'regresion'. Did you mean 'regression'?",
    ),
    "an unknown key inside that is like none": (
        train("objective: {zorn: 1}"),
        "{file}:8: step 'e' (train): objective: Objective has no argument 'zorn'. There are: "
        + ", ".join(field.name for field in dataclasses.fields(Objective))
        + ".",
    ),
    "an unknown key of all steps": (
        "runtime: {precison: fp32}\n" + steps(CORPUS),
        "{file}: runtime: Runtime has no argument 'precison'. Did you mean 'precision'?",
    ),
    "a word for a number": (train("seed: many"), "{file}:8: step 'e' (train): seed: 'many'; needed: a whole number."),
    "a fraction for a whole number": (
        train("schedule: {steps: 1.5}"),
        "{file}:8: step 'e' (train): schedule.steps: 1.5; needed: a whole number.",
    ),
    "yes for a number": (
        train("schedule: {steps: true}"),
        "{file}:8: step 'e' (train): schedule.steps: True; needed: a whole number.",
    ),
    "no number": (
        train("schedule: {learning_rate: .nan}"),
        "{file}:8: step 'e' (train): schedule.learning_rate: nan; needed: a number.",
    ),
    "a word for yes or no": (
        train("objective: {in_batch: perhaps}"),
        "{file}:8: step 'e' (train): objective.in_batch: 'perhaps'; needed: true or false or all.",
    ),
    "a number or a word": (
        train("objective: {teacher_temperature: otto}"),
        "{file}:8: step 'e' (train): objective.teacher_temperature: 'otto'; needed: a number or auto.",
    ),
    "a number for settings": (
        train("schedule: 3"),
        "{file}:8: step 'e' (train): schedule: 3; needed: settings among steps, queries, by_task, balance, ",
    ),
    "nothing for settings": (train("schedule: "), "{file}:8: step 'e' (train): schedule: None; needed: settings among"),
    "a word that is none of the choice": (
        train("schedule: {precision: fp16}"),
        "{file}:8: step 'e' (train): schedule.precision: 'fp16'; needed: auto, bf16 or fp32. Did you mean 'bf16'?",
    ),
    "a kind that is not there": (
        train("kinds: retrieva"),
        "needed: retrieval, classification, clustering or sts. Did you mean 'retrieval'?",
    ),
    "a number out of range": (
        train("schedule: {steps: 0}"),
        "{file}:8: step 'e' (train): schedule.steps: 0; needed: at least 1.",
    ),
    "a rate that never learns": (
        train("schedule: {learning_rate: 0}"),
        "{file}:8: step 'e' (train): schedule.learning_rate: 0.0; needed: more than 0.",
    ),
    "a word for a seed of all": ("seed: x\n" + steps(CORPUS), "{file}: seed: 'x'; needed: a whole number."),
    "an argument that is missing": (second("label: {negatives: 3}"), "{file}:8: step 'e' (label): needs candidates."),
    "a verb misspelt": (
        second("lable: {candidates: corpus}"),
        "{file}:8: step 'e': no verb 'lable'. Did you mean 'label'?",
    ),
    "two verbs": (second("{label: {}, mine: {}}"), "{file}:8: step 'e' (label): label, mine; needed: exactly one verb"),
    "a verb alone": (second("label"), "{file}:8: step 'e': 'label'; needed: exactly one verb with its arguments."),
    "a verb without arguments": (second("label: corpus"), "{file}:8: step 'e' (label): 'corpus'; needed: arguments"),
    "a folder of its own": (
        second("label: {candidates: corpus, out: x}"),
        "{file}:8: step 'e' (label): `out` is not written in a file; the step's folder is",
    ),
    "a step's name": (steps("  Big-Step: {label: {}}\n"), "{file}:2: step 'Big-Step' (label): this is no name for a"),
    "a run's name": ("name: a/b\n" + steps(CORPUS), "{file}: name: 'a/b'; needed: letters, digits, '_', '-', '.'."),
    "an output that is no path": ("output: [a]\n" + steps(CORPUS), "{file}: output: ['a']; needed: text."),
    "an earlier step misspelt": (
        second("label: {candidates: corpsu}"),
        "{file}:8: step 'e' (label): corpsu does not exist, and no earlier step has that name. Did you mean 'corpus'?",
    ),
    "a later step": (
        steps("  e:\n    label: {candidates: corpus}\n" + CORPUS),
        "{file}:2: step 'e' (label): reads step 'corpus', which comes later. Steps run from top to bottom.",
    ),
    "itself": (second("label: {candidates: e}"), "{file}:8: step 'e' (label): reads 'e', which is the step itself."),
    "a step that is a file too": (
        steps(CORPUS.replace("corpus:", "tests:") + "  e:\n    label: {candidates: tests}\n"),
        "{file}:8: step 'e' (label): tests is both an earlier step and a file here. Rename one of them.",
    ),
    "a file that is not there": (
        steps(CORPUS.replace("passages.jsonl", "pasages.jsonl")),
        "{file}:3: step 'corpus' (ingest): tests/data/pasages.jsonl does not exist",
    ),
    "a class that is not allowed": (
        embed("{class_path: os.system, init_args: {command: ls}}"),
        "{file}:8: step 'e' (embed): model: class os.system is not in an allowed package (teachers., students.",
    ),
    "a class that is not there": (
        embed("{class_path: students.Encodre, init_args: {base: x}}"),
        "{file}:8: step 'e' (embed): model: class students.Encodre: students has no class Encodre. "
        "Did you mean 'students.Encoder'?",
    ),
    "a class without its package": (
        embed("{class_path: Encoder, init_args: {base: x}}"),
        "{file}:8: step 'e' (embed): model: class Encoder has no package before its name. "
        "Did you mean 'students.Encoder'?",
    ),
    "a reader without its package": (
        steps(CORPUS.replace("distill.readers.JSONL", "CSV")),
        "sources[0]: class CSV has no package before its name. Did you mean 'distill.readers.CSV'?",
    ),
    "a model of a hub without its commit": (
        embed("{class_path: students.Encoder, init_args: {base: org/name}}"),
        "{file}:8: step 'e' (embed): org/name: revision is None; needed the full commit, 40 hexadecimal digits",
    ),
    "a commit of what is no hub's": (
        embed("{class_path: students.Encoder, init_args: {base: tests/data/encoder, revision: main}}"),
        "{file}:8: step 'e' (embed): tests/data/encoder: revision 'main' is of a hub name, and this is none.",
    ),
    "a base that is not there": (
        embed("{class_path: students.Encoder, init_args: {base: tests/data/encodre}}").replace("encodre", "a/encodre"),
        "{file}:8: step 'e' (embed): 'tests/data/a/encodre' is no model: needed a folder that exists, a hub name",
    ),
    "a package of no model": (
        second(
            "generate: {passages: corpus, model: {class_path: teachers.CausalLM, init_args: "
            '{base: "package:gema-3-270m"}}}'
        ),
        "{file}:8: step 'e' (generate): package:gema-3-270m is unknown; needed one of package:gemma-3-270m, "
        "package:all-MiniLM-L6-v2, package:all-mpnet-base-v2. Did you mean 'package:gemma-3-270m'?",
    ),
    "layers that a packaged base has not": (
        embed('{class_path: teachers.NVEmbed, init_args: {base: "package:gemma-3-270m", layers: [0, 18]}}'),
        "{file}:8: step 'e' (embed): layers: [0, 18]; needed: different numbers from 0 to 17,",
    ),
    "layers that a folder's base has not, of one model among others": (
        second(
            "evaluate: {passages: corpus, examples: corpus, models: {teacher: "
            + STUDENT
            + ", small: "
            + STUDENT.replace("length: 32", "layers: [2]")
            + "}}"
        ),
        "{file}:8: step 'e' (evaluate): layers: [2]; needed: different numbers from 0 to 1,",
    ),
    "a width that cuts a head": (
        train("schedule: {steps: 1}").replace("length: 32", "width: 20"),
        "{file}:8: step 'e' (train): width: 20; needed: a multiple of 16 (a head, which is kept whole) below 32.",
    ),
    "more tokens than a base reads": (
        embed(STUDENT.replace("length: 32", "length: 4096")),
        "{file}:8: step 'e' (embed): length: 4096; this base reads at most 128 tokens. Lower `length`.",
    ),
    "wider vectors than the model's": (
        train("objective: {widths: [16, 32]}"),
        "{file}:8: step 'e' (train): objective.widths: 32; needed: from 1 to 31, for the model's is whole.",
    ),
    "a teacher shipped as a student": (
        train("").replace(STUDENT, TEACHER) + "  f:\n    export: {model: e, precision: fp32}\n",
        "{file}:10: step 'f' (export): model: e is an NVEmbed, which cannot be written as a mean-pooled "
        "transformer. Export a student such as students.Encoder.",
    ),
    "a soup of two kinds": (
        train("")
        + train("").partition(CORPUS)[2].replace("  e:", "  f:").replace(STUDENT, TEACHER)
        + "  g:\n    train: {model: f, passages: corpus, examples: corpus}\n  h:\n    average: {models: [e, g]}\n",
        "{file}:14: step 'h' (average): models: e is an Encoder, g an NVEmbed. Average alike.",
    ),
    "a module that is not there": (embed("{class_path: students.x.Encoder}"), "No module named 'students.x'."),
    "a class of another kind": (
        embed(WRITER),
        "{file}:8: step 'e' (embed): model: class teachers.CausalLM is no Embedder; needed: class_path and init_args "
        "of a subclass of Embedder.",
    ),
    "a class argument misspelt": (
        embed("{class_path: students.Encoder, init_args: {base: tests/data/encoder, lenght: 3}}"),
        "{file}:8: step 'e' (embed): model.init_args: Encoder has no argument 'lenght'. Did you mean 'length'?",
    ),
    "a class argument of another type": (
        embed("{class_path: students.Encoder, init_args: {base: tests/data/encoder, length: long}}"),
        "{file}:8: step 'e' (embed): model.init_args.length: 'long'; needed: a whole number.",
    ),
    "a list in a class argument": (
        embed("{class_path: students.Encoder, init_args: {base: tests/data/encoder, layers: x}}"),
        "model.init_args.layers: 'x'; needed: a whole number,",
    ),
    "a class argument that is missing": (
        embed("{class_path: students.Encoder}"),
        "base: '', model: None; needed: one of the two. A student begins as one model.",
    ),
    "a key beside class_path": (
        embed("{class_path: students.Encoder, init_arg: {base: tests/data/encoder}}"),
        "model: no key 'init_arg' beside class_path. Did you mean 'init_args'?",
    ),
    "a class without class_path": (embed("students.Encoder"), "To name a class, write class_path:."),
    "a function where a class is wanted": (
        second("generate: {passages: corpus, model: this.s}"),
        "{file}:8: step 'e' (generate): model: 'this.s'; needed: class_path and init_args of a subclass of "
        "LanguageModel.",
    ),
    "one of several models": (
        second("evaluate: {passages: corpus, examples: corpus, models: {teacher: {class_path: students.Encoder}}}"),
        "{file}:8: step 'e' (evaluate): base: '', model: None; needed: one of the two.",
    ),
    "a reader's argument misspelt": (
        steps(CORPUS.replace("path: tests", "paht: tests")),
        "{file}:3: step 'corpus' (ingest): sources[0].init_args: JSONL has no argument 'paht'. Did you mean 'path'?",
    ),
    "a reader's kind": (
        steps(CORPUS.replace(".jsonl}", ".jsonl, kind: retreival}")),
        "sources[0].init_args.kind: 'retreival'; needed: passages, retrieval, classification, clustering, sts or nli. "
        "Did you mean 'retrieval'?",
    ),
    "a reader without its task": (
        steps(CORPUS.replace(".jsonl}", ".jsonl, kind: classification}")),
        "{file}:3: step 'corpus' (ingest): task: classification needs the instruction",
    ),
    "no YAML": ("steps: [a: b: c\n", "{file}: line 1: not YAML: while parsing a flow sequence expected ',' or ']'"),
    "a tab": ("name: a\n\tsteps: 3\n", "{file}: line 2: not YAML: while scanning for the next token found character"),
    "a tag": ("steps: !!python/object/apply:os.system [ls]\n", "{file}: line 1: not YAML: could not determine"),
    "two documents": ("name: a\n---\nname: b\n", "{file}: line 2: not YAML: expected a single document"),
    "a key twice": ("name: a\nname: b\n" + steps(CORPUS), "{file}: line 2: key 'name' stands twice. Keep one."),
    "a step twice": (steps(CORPUS + CORPUS), "{file}: line 9: key 'corpus' stands twice. Keep one."),
    "a merge key": (
        second("label: {<<: {negatives: 3}, candidates: corpus}"),
        "{file}: line 9: merge keys (<<) are not read. Write the settings at the step.",
    ),
    "a key that is no text": (steps("  1: {label: {}}\n"), "{file}: line 2: key 1 is no text. Write it in quotes."),
    "a list as a key": (steps("  ? [a]\n  : {label: {}}\n"), "{file}: line 2: key ['a'] is no text."),
    "an alias of nothing": (second("label: *x"), "{file}: line 9: not YAML: found undefined alias 'x'."),
    "an alias inside itself": ("steps: &a {e: {label: *a}}\n", "{file}: not YAML: nested too deeply, or an alias"),
    "too deep": ("steps: " + "[" * 5000, "{file}: not YAML: nested too deeply"),
    "aliases of aliases": (
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
        "{file}: more than 100,000 values, aliases counted as often as they are used.",
    ),
    "a list": ("- a\n- b\n", "{file} holds no keys; needed: keys with values."),
    "nothing": ("", "{file} is empty; needed: keys with values."),
    "no steps": ("name: x\n", "{file}: no steps; needed: `steps:` with a verb for each name."),
}


@pytest.mark.parametrize("fault", FILES)
def test_a_faulty_file_is_refused_with_one_message(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: a slip in the file is found after hours, or told in the words of a library three layers down."""
    text, expected = FILES[fault]
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    said = complaint(capsys, "plan", str(file))
    assert expected.replace("{file}", str(file)) in said
    assert len(said.splitlines()) == 1


def test_a_student_that_begins_as_a_step_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: the base that stands in no such file is looked for, and a right experiment is refused."""
    file = tmp_path / "mine.yaml"
    start = "{class_path: students.Encoder, init_args: {model: e, layers: 1, length: 16}}"
    file.write_text(train("") + f"  f:\n    train: {{model: {start}, passages: corpus, examples: corpus}}\n")
    assert main(["plan", str(file)]) == 0, capsys.readouterr().err


def test_every_faulty_step_is_told_at_once_and_no_step_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: a file with three slips is tried four times; or one slip is buried under what follows from it."""
    file = tmp_path / "mine.yaml"
    file.write_text(second("label: {candidates: corpus, negatves: 3}") + "  f:\n    label: {candidates: e, within: x}\n"
                    "  g:\n    mine: {passages: e, queries: e, passage_vectors: e, query_vectors: e}\n")  # fmt: skip
    said = complaint(capsys, "run", str(file)).splitlines()
    assert [line.partition(": ")[2].partition(" (")[0] for line in said] == ["step 'e'", "step 'f'"]


def test_no_module_is_imported_that_the_file_may_not_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: a file from a stranger runs code by naming any module that lies about."""
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for number, model in enumerate(("stranger.thing", "{class_path: stranger.Thing}", "[stranger.thing]")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(second(f"generate: {{passages: corpus, model: {model}}}"))
        complaint(capsys, "plan", str(file))
        file.write_text(f"model: {model}\nallow: [stranger]\n")
        complaint(capsys, "generate", "--config", str(file), "--passages", "tests", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "ran").exists()


ASSIGNMENTS = {
    "corpus": "--set corpus: no '='; needed: STEP.key=value.",
    "corpsu.negatives=3": "--set corpsu.negatives=3: no step 'corpsu'. Did you mean 'corpus'?",
    "corpus.negatives=[": "--set corpus.negatives=[: line 1: not YAML",
    "corpus=3": "--set corpus=3: names no setting; needed: the key of one.",
    "corpus..x=3": "--set corpus..x=3: names no setting; needed: the key of one.",
    "name.x=3": "--set name.x=3: 'x' would lie inside a value that has no keys.",
    "corpus.negatvies=3": "step 'corpus' (ingest): has no argument 'negatvies'. Did you mean 'negatives'?",
    "runtime.devices=0": "step 'e' (embed): runtime.devices: 0; needed: at least 1.",
}


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_a_faulty_assignment_is_refused(assignment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a --set that changes nothing is believed to have changed something."""
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\n" + embed(STUDENT))
    said = complaint(capsys, "plan", str(file), "--set", assignment)
    assert ASSIGNMENTS[assignment] in said
    assert len(said.splitlines()) == 1


def test_an_assignment_changes_one_step_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a value that two steps share by an anchor is changed in both, and a finished step is refused."""
    from distill import experiment

    file = tmp_path / "mine.yaml"
    file.write_text(
        steps(CORPUS) + f"  e:\n    embed: {{passages: corpus, model: &m {STUDENT}}}\n"
        "  f:\n    embed: {passages: corpus, model: *m}\n"
    )
    plain, changed = (experiment.load(file, changes) for changes in ([], ["e.model.init_args.length=16"]))
    differs = [name for name in plain.steps if plain.steps[name].recipe != changed.steps[name].recipe]
    assert differs == ["e"]


# ------------------------------------------------------------------------------------------------------- the data


def ingested(tmp_path: Path, lines: str | bytes, settings: str = "") -> list[str]:
    """Arguments of `ingest` for a file with this content."""
    data = tmp_path / "data.jsonl"
    data.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    source = f"{{class_path: distill.readers.JSONL, init_args: {{path: {data}{settings}}}}}"
    return ["ingest", "--sources", source, "--out", str(tmp_path / "out")]


DATA: dict[str, tuple[str | bytes, str, str]] = {
    "an empty file": ("", "", "data.jsonl: no rows. Check the file, the split and the limit."),
    "a row without text": ('{"text": "a"}\n{"key": "b"}\n', "", "data.jsonl, line 2: no column 'text'; there are: key"),
    "a row with null": ('{"text": null}\n', "", "data.jsonl, line 1: nothing in column 'text'."),
    "a row with a number": ('{"text": 3}\n', "", "data.jsonl, line 1: 3 in column 'text'. Needed: text."),
    "only blank texts": ('{"text": " "}\n', "", "no passage is left; dropped: {'passage empty': 1}."),
    "an id of two texts": (
        '{"key": "a", "text": "one"}\n{"key": "a", "text": "two"}\n',
        "",
        "data.jsonl, line 2: id 'a' came before with another text. Give each text its own id.",
    ),
    "bytes that are no UTF-8": (b'{"text": "a"}\n{"text": "\xff"}\n', "", "data.jsonl, line 2: not UTF-8"),
    "half a line": ('{"text": "a"}\n{"text": "b', "", "data.jsonl, line 2: not JSON"),
    "no object": ("[1, 2]\n", "", "data.jsonl, line 1: a JSON list. Needed: one JSON object a line."),
    "a query without an answer": (
        '{"query": "a", "positive": []}\n',
        ", kind: retrieval, task: t",
        "data.jsonl, line 1: nothing in column 'positive'.",
    ),
    "one class": (
        '{"text": "a", "label": "x"}\n{"text": "b", "label": "x"}\n',
        ", kind: classification, task: Sort",
        "classification 'Sort': ",
    ),
    "a score off its scale": (
        '{"sentence1": "a", "sentence2": "b", "score": 7}\n',
        ", kind: sts, task: t",
        "data.jsonl, line 1: score 7. Needed: a number from 0 to 5.0 (see scale).",
    ),
    "another name of a column": (
        '{"body": "a"}\n',
        ", columns: {txt: body}",
        "columns: 'txt' means nothing to passages; it has text, key, title.",
    ),
}


@pytest.mark.parametrize("fault", DATA)
def test_faulty_data_is_refused_with_its_place(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: one bad row of a million spoils the corpus, or stops it without saying which row it was."""
    lines, settings, expected = DATA[fault]
    said = complaint(capsys, *ingested(tmp_path, lines, settings))
    assert expected in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out" / "done.json").exists()


def test_what_was_refused_is_done_once_it_is_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: the folder of a refused step stands in the way of the mended one."""
    complaint(capsys, *ingested(tmp_path, '{"text": 3}\n'))
    assert main(ingested(tmp_path, '{"text": "three"}\n')) == 0
    assert (tmp_path / "out" / "done.json").exists()


# ------------------------------------------------------------------------------------------- steps that do not fit


@pytest.fixture
def embedded(corpus: Path, encoder: Path, tmp_path: Path) -> Path:
    """Vectors of the small corpus' passages."""
    from functools import partial

    from distill.stages.embed import embed
    from students import Encoder

    embed(passages=corpus, model=partial(Encoder, str(encoder)), out=tmp_path / "vectors")
    return tmp_path / "vectors"


def test_inputs_that_do_not_fit_are_refused(
    corpus: Path, embedded: Path, encoder: Path, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: a step works for hours on the wrong table, or dies inside a library."""
    student = f"{{class_path: students.Encoder, init_args: {{base: {encoder}}}}}"
    teacher = f"{{class_path: teachers.NVEmbed, init_args: {{base: {decoder}, latents: 8, heads: 2, length: 6}}}}"
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "recipe.json").write_text(json.dumps({"verb": "mine"}))
    out = ("--out", str(tmp_path / "out"))
    mine = ("mine", "--passages", str(corpus), "--queries", str(corpus), "--passage_vectors", str(embedded))
    cases = {
        f"{begun} is not finished. Run step 'begun' again: it goes on where it stopped.": (
            "label", "--candidates", str(begun)
        ),
        f"{corpus} holds examples, passages, queries; needed judgements or candidates.": (
            "label", "--candidates", str(corpus)
        ),
        f"{encoder} is not an artifact (it has no recipe.json). Run the step that makes it.": (
            "embed", "--passages", str(encoder), "--model", student
        ),
        "mine: depth: 0; needed: at least 1.": (*mine, "--query_vectors", str(embedded), "--depth", "0"),
        f"mine: {embedded} does not embed the queries of {corpus}. Give the vectors that do.": (
            *mine, "--query_vectors", str(embedded)
        ),
        "text 0 is all instruction: ": ("embed", "--queries", str(corpus), "--model", teacher),
        f"{corpus} holds examples, passages, queries; needed model.": (
            "embed", "--queries", str(corpus), "--model", str(corpus)
        ),
        "embed: name one table, `passages` or `queries`.": ("embed", "--model", student),
        "train: objective.kl needs lists of passages with scores, and no example has two that are read. `label` ": (
            "train", "--passages", str(corpus), "--examples", str(corpus), "--model", student, "--objective.kl", "1"
        ),
        "train: nothing to minimise.": (
            "train", "--passages", str(corpus), "--vectors", str(embedded), "--model", student
        ),
        "runtime.strategy: Lightning has no 'dpp'. Did you mean 'ddp'?": (
            "train", "--passages", str(corpus), "--examples", str(corpus), "--model", student,
            "--runtime.strategy", "dpp"
        ),
        "heads: 0; needed: at least 1.": ("embed", "--passages", str(corpus), "--model", teacher.replace("2", "0")),
        "length: 2; needed: at least 3.": (
            "embed", "--passages", str(corpus), "--model", student.replace("}}", ", length: 2}}")
        ),
        "'nil' is no model: needed a folder that exists, a hub name": (
            "embed", "--passages", str(corpus), "--model", "{class_path: students.Encoder, init_args: {base: nil}}"
        ),
        "org/name: revision is None; needed the full commit": (
            "embed", "--passages", str(corpus), "--model", "{class_path: students.Encoder, init_args: {base: org/name}}"
        ),
    }  # fmt: skip
    for expected, arguments in cases.items():
        said = complaint(capsys, *arguments, *out)
        assert expected in said
        assert len(said.splitlines()) == 1
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.json"))


def test_a_call_from_python_is_held_to_the_same_ranges(corpus: Path, tmp_path: Path) -> None:
    """Harm: a notebook's slip runs for hours, or silently does nothing."""
    from distill.objective import Schedule
    from distill.stages.label import label
    from distill.stages.train import train

    with pytest.raises(Refused, match=r"^label: negatives: -1; needed: at least 0\.\nlabel: ceiling: 0; needed: more"):
        label(candidates=corpus, negatives=-1, ceiling=0, out=tmp_path / "out")
    with pytest.raises(Refused, match=r"^train: schedule\.steps: 0; needed: at least 1\.$"):
        train(model=corpus, passages=corpus, schedule=Schedule(steps=0), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_range_is_of_a_setting_that_there_is() -> None:
    """Harm: an argument is renamed, and its range guards nothing."""
    there = set()
    for verb in stages.VERBS:
        for name, parameter in inspect.signature(stages.verb(verb)).parameters.items():
            default = parameter.default
            inside = dataclasses.fields(default) if dataclasses.is_dataclass(default) else ()
            there |= {name, *(f"{name}.{field.name}" for field in inside)}
    assert {*stages.AT_LEAST, *stages.ABOVE} <= there


def test_a_depth_beyond_the_corpus_is_refused_by_its_name(
    corpus: Path, embedded: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: the lists are filled up with passages that are not there, or the message names a variable of ours."""
    model = f"{{class_path: students.Encoder, init_args: {{base: {encoder}}}}}"
    asked = tmp_path / "asked"
    assert main(["embed", "--queries", str(corpus), "--model", model, "--out", str(asked)]) == 0
    said = complaint(
        capsys, "mine", "--passages", str(corpus), "--queries", str(corpus), "--passage_vectors", str(embedded),
        "--query_vectors", str(asked), "--depth", "1000", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    there = tables.describe(corpus)["passages"]
    assert said == f"mine: depth: 1000, with {there} passages to find. Lower `depth` to as many or fewer.\n"
