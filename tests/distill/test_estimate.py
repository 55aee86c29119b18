"""What a plan says steps would cost: arithmetic that a reader can redo, and never an error."""

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from distill import artifact, estimate, experiment, readers, running, stages, tables
from distill.errors import Refused
from distill.estimate import Cost, machine, sizes, work
from distill.estimate.machine import Machine
from distill.runtime import cores
from teachers import poolings

KNOWN = Machine("a known machine", 1e12, False)
COMPUTING = 22_713_216 - 11_917_824  # MiniLM's parameters outside its lookup tables
MINILM = '{class_path: students.Encoder, init_args: {base: "package:all-MiniLM-L6-v2", length: 100}}'
GEMMA = '{class_path: teachers.NVEmbed, init_args: {base: "package:gemma-3-270m", length: 100, latents: 64, heads: 4}}'
WRITER = '{class_path: teachers.CausalLM, init_args: {base: "package:gemma-3-270m"}}'


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Seconds that can be redone by hand; packaged models unpacked; nothing of another test in the way."""
    monkeypatch.setattr(machine, "here", lambda: KNOWN)
    monkeypatch.setattr(machine, "processor", lambda: KNOWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    for name in ("gemma-3-270m", "all-MiniLM-L6-v2"):
        (tmp_path / "cache" / "models" / name).mkdir(parents=True)


def planned(steps: str, only: Sequence[str] = (), wide: str = "") -> dict[str, Cost]:
    """Costs of the steps of an experiment."""
    file = Path("plan.yaml")
    file.write_text(f"name: here\n{wide}\nsteps:\n{steps}")
    held = experiment.load(file).steps
    return estimate.costs(held, only or list(held))


def corpus(folder: Path, rows: int) -> Path:
    """A finished artifact of passages."""
    made = {"verb": "ingest", "version": 1, "settings": {"rows": rows}}
    columns: Mapping[str, object] = {name: ["a few words of text"] * rows for name in tables.PASSAGES.names}
    with artifact.claim(folder, made, {}, {}):
        tables.write(folder / "passages", tables.PASSAGES, columns)
        artifact.finish(folder, {"passages": rows})
    return folder


def test_every_verb_has_an_estimate() -> None:
    """A new verb without one would end every plan in a KeyError."""
    assert set(work.VERBS) == set(stages.VERBS)


@pytest.mark.parametrize("length", [200, 1000])
def test_a_folder_is_reckoned_in_the_passages_that_it_is_cut_into(length: int) -> None:
    """Harm: a plan says 3 minutes for a folder that is cut into ten times as many passages as it reckoned with."""
    docs = Path(__file__).parents[2] / "docs"
    cut = sum(1 for _ in readers.TextFolder(path=docs, length=length).read())
    source = f"{{class_path: distill.readers.TextFolder, init_args: {{path: {docs}, length: {length}}}}}"
    reckoned = planned(f"  corpus: {{ingest: {{sources: [{source}]}}}}\n")["corpus"].rows
    assert 0.8 * cut < reckoned < 1.25 * cut


def test_what_is_judged_alone_is_reckoned(tmp_path: Path) -> None:
    """Harm: a plan foretells hours for a large set of which a hundredth is read."""
    (tmp_path / "set" / "qrels").mkdir(parents=True)
    texts, asked = (f'{{"_id": "{side}", "text": "{"x" * size}"}}\n' for side, size in (("p", 380), ("q", 80)))
    (tmp_path / "set" / "corpus.jsonl").write_text(texts * 1000)
    (tmp_path / "set" / "queries.jsonl").write_text(asked * 100)
    (tmp_path / "set" / "qrels" / "train.tsv").write_text("query-0001\tpassage-01\t1\n" * 200)
    given = f"path: {tmp_path}/set, task: find it, split: train, benchmark: false, limit: 50"
    for judged, wanted in (("true", 100), ("false", 1000)):
        source = f"{{class_path: distill.readers.BEIR, init_args: {{{given}, only_judged: {judged}}}}}"
        rows = planned(f"  corpus: {{ingest: {{sources: [{source}]}}}}\n")["corpus"].rows
        assert 0.7 * wanted < rows < 1.5 * wanted


def test_embedding_costs_two_operations_a_parameter_and_token() -> None:
    """A factor that is off here is off in every step."""
    corpus(Path("corpus"), 2000)
    cost = planned(f"  vectors:\n    embed: {{passages: corpus, model: {MINILM}}}\n")["vectors"]
    read = tables.notes(Path("corpus/passages"))[0]["bytes"]
    tokens = min(int(str(read)) / sizes.BYTES_A_TOKEN, 2000 * sizes.CUT * 100)
    assert cost.rows == 2000
    assert cost.tokens == round(tokens)
    assert cost.bytes == 2 * 2000 * 384  # fp16
    assert cost.seconds is not None
    known = sizes.IMPORT + sizes.START + 22_713_216 / sizes.WEIGHTS_A_SECOND
    text = tokens / (work.TOKENS_A_SECOND * cores())
    assert cost.seconds - known - text == pytest.approx(2 * COMPUTING * tokens / (1e12 * machine.SHARES["embed"].cpu))
    assert cost.machine == KNOWN.name


def test_frozen_bases_train_cheaper_and_save_little() -> None:
    """Six operations for a model of which a hundredth learns would scare people away from LoRA."""
    corpus(Path("corpus"), 500)
    training = "examples: corpus, schedule: {steps: 10, queries: 8, negatives: 2}"
    steps = "".join(
        f"  {name}:\n    train: {{passages: corpus, model: {model}, {training}}}\n"
        for name, model in (("lora", GEMMA), ("full", MINILM))
    )
    with pytest.raises(sizes.Unknown):  # the corpus holds no examples
        sizes.Plan({}).texts(Path("corpus"), "examples")
    file = Path("plan.yaml")
    file.write_text(f"name: here\nsteps:\n{steps}")
    plan = sizes.Plan(experiment.load(file).steps)
    lora, full = (plan.weights(step.settings["model"]) for step in experiment.load(file).steps.values())
    assert lora is not None and full is not None
    assert full.training == 6 * COMPUTING
    assert lora.training == 4 * (268_098_176 - 167_772_160) + 6 * lora.block
    assert full.trained == 22_713_216
    assert lora.trained < 0.07 * lora.parameters


def test_looks_at_a_benchmark_are_reckoned() -> None:
    """Harm: a training of an hour looks at its benchmark for three, and the plan says an hour."""
    data = Path(__file__).parents[1] / "data" / "questions.jsonl"
    source = f'{{class_path: distill.readers.JSONL, init_args: {{path: "{data}", kind: retrieval, task: find}}}}'
    training = f"passages: corpus, examples: corpus, model: {MINILM}"
    steps = f"  corpus:\n    ingest: {{sources: [{source}]}}\n"
    for name, more in (("libraries", ""), ("none", ""), ("few", ", dev_steps: 40"), ("many", ", dev_steps: 5")):
        dev = ", dev: corpus" if more else ""
        steps += f"  {name}:\n    train: {{{training}{dev}, schedule: {{steps: 100, queries: 8{more}}}}}\n"
    costs = {name: cost.seconds for name, cost in planned(steps).items()}
    none, few, many = (costs[name] for name in ("none", "few", "many"))
    assert none is not None and few is not None and many is not None
    assert few > none
    assert (many - none) / (few - none) == pytest.approx(21 / 4)  # looks: the first, every so many steps, the last


def test_activations_computed_again_are_reckoned() -> None:
    """Harm: a plan says three days for a batch of cached gradients that takes four."""
    data = Path(__file__).parents[1] / "data" / "questions.jsonl"
    source = f'{{class_path: distill.readers.JSONL, init_args: {{path: "{data}", kind: retrieval, task: find}}}}'
    training = f"passages: corpus, examples: corpus, model: {MINILM}, schedule: {{steps: 100, queries: 8}}"
    steps = f"  corpus:\n    ingest: {{sources: [{source}]}}\n  libraries:\n    train: {{{training}}}\n"
    for name, runtime in (
        ("plain", ""),
        ("model", "recompute: true"),
        ("chunk", "chunk: 4"),
        ("tokens", "chunk_tokens: 90"),
    ):
        steps += f"  {name}:\n    train: {{{training}, runtime: {{{runtime}}}}}\n"
    steps += f"  both:\n    train: {{{training}, runtime: {{chunk: 4, recompute: true}}}}\n"
    seconds = {name: cost.seconds or 0.0 for name, cost in planned(steps).items()}
    again = {name: seconds[name] - seconds["plain"] for name in ("model", "chunk", "tokens", "both")}
    assert 0 < again["model"] == pytest.approx(again["chunk"]) == pytest.approx(again["tokens"])
    assert again["both"] == pytest.approx(2 * again["chunk"])


@pytest.mark.parametrize("pooling", ["latent_attention", "folded_latent_attention", "self_attention"])
def test_the_pooling_block_is_reckoned_as_it_is_built(pooling: poolings.Pooling) -> None:
    """At 4096 wide it holds ten times as many trained parameters as the adapters, and its moments fill a disk."""
    built = poolings.make(pooling, width=640, layers=18, causal=False, latents=64, heads=4)
    given = {"base": "package:gemma-3-270m", "latents": 64, "heads": 4, "rank": 16}
    reckoned = sizes.described(given | {"pooling": pooling})
    mean = sizes.described(given | {"pooling": "mean"})
    whole = sizes.described(given | {"pooling": "mean", "trained": "all"})
    assert reckoned is not None and mean is not None and whole is not None
    true = sum(parameter.numel() for parameter in built.parameters())
    assert reckoned.trained - mean.trained == pytest.approx(true, rel=0.01)
    assert mean.trained == pytest.approx(3_796_992, rel=0.05)  # as PEFT counts Gemma's adapters of rank 16
    assert mean.frozen and not whole.frozen and whole.trained == whole.parameters


def test_rows_follow_from_steps_that_are_not_made_yet() -> None:
    """A plan is asked for before anything runs: every row count must come from the settings."""
    Path("texts.jsonl").write_text('{"text": "' + "x" * 380 + '"}\n')
    costs = planned(
        f"""\
  corpus:
    ingest: {{sources: [{{class_path: distill.readers.PythonDocs, init_args: {{split: train, limit: 1000}}}}]}}
  more:
    ingest: {{sources: [{{class_path: distill.readers.JSONL, init_args: {{path: texts.jsonl}}}}]}}
  queries:
    generate: {{passages: corpus, model: {WRITER}, limit: 200}}
  passage_vectors:
    embed: {{passages: corpus, model: {MINILM}}}
  query_vectors:
    embed: {{queries: queries, model: {MINILM}}}
  candidates:
    mine: {{passages: corpus, queries: queries, passage_vectors: passage_vectors, query_vectors: query_vectors}}
  judgements:
    judge: {{passages: corpus, candidates: candidates, model: {WRITER}, depth: 5}}
  examples:
    label: {{candidates: judgements}}
  student:
    train:
      model: {MINILM}
      passages: corpus
      examples: examples
      schedule: {{steps: 10, queries: 32}}
  tuned:
    train:
      model: student
      passages: corpus
      queries: queries
      vectors: [passage_vectors, query_vectors]
      objective: {{contrastive: 0, regression: 1}}
      schedule: {{steps: 10, queries: 64}}
  edge:
    export: {{model: tuned, passages: corpus}}
  evaluation:
    evaluate:
      passages: corpus
      examples: corpus
      teacher: ''
      models: {{tuned: tuned, small: {{class_path: students.Exported, init_args: {{folder: edge}}}}}}
"""
    )
    kept = round(200 * sizes.KEPT)
    rows = {name: cost.rows for name, cost in costs.items()}
    assert rows["corpus"] == 1000
    assert rows["more"] == 1
    assert rows["queries"] == 200
    assert [rows[name] for name in ("query_vectors", "candidates", "judgements", "examples")] == [kept] * 4
    assert (rows["student"], rows["tuned"]) == (320, 640)
    assert all(cost.seconds is not None and cost.seconds >= 0 and cost.bytes >= 0 for cost in costs.values())
    assert costs["judgements"].tokens is not None and costs["judgements"].tokens > 2 * 5 * kept * 20


def test_committed_parts_cost_nothing_again() -> None:
    """A resumed run that is said to take as long as a new one is stopped by people who need not stop it."""
    corpus(Path("corpus"), 100)
    step = f"  vectors:\n    embed: {{passages: corpus, model: {MINILM}, part_rows: 10}}\n"
    whole = planned(step)["vectors"]
    for part in range(5):
        columns = {"vector": torch.zeros(10, 384).half().numpy()}
        tables.write(Path("runs/here/vectors/vectors"), tables.vectors(384), columns, part=part)
    half = planned(step)["vectors"]
    assert half.tokens == pytest.approx(whole.tokens / 2, abs=1)
    assert half.bytes == whole.bytes / 2


def test_an_unknown_model_is_no_error() -> None:
    """A plan must show the rest when one model is neither here nor in the table."""
    corpus(Path("corpus"), 100)
    other = f"{{class_path: students.Encoder, init_args: {{base: nobody/nothing, revision: {'b' * 40}}}}}"
    costs = planned(f"  vectors:\n    embed: {{passages: corpus, model: {other}}}\n")
    assert costs["vectors"].rows == 100
    assert costs["vectors"].seconds is None
    assert estimate.shown(costs["vectors"])[2] == "?"
    assert "without vectors" in estimate.sentence(costs)


def test_an_unknown_number_of_rows_is_no_error() -> None:
    """A hub's data set without a limit could be of any size; asking the hub is not for a plan."""
    costs = planned(
        f"""\
  corpus:
    ingest:
      sources:
        - class_path: distill.readers.Datasets
          init_args: {{name: some/set, revision: {"a" * 40}}}
  vectors:
    embed: {{passages: corpus, model: {MINILM}}}
"""
    )
    assert [cost.rows for cost in costs.values()] == [None, None]
    assert estimate.shown(costs["vectors"]) == ("?", "?", "?", "< 0.1 MB")
    assert "corpus, vectors" in estimate.sentence(costs)


def test_packaged_weights_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run of the quickstart unpacks half a gigabyte; the second step of it does not."""
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "empty"))
    corpus(Path("corpus"), 100)
    steps = "".join(f"  {name}:\n    embed: {{passages: corpus, model: {GEMMA}}}\n" for name in ("one", "two"))
    costs = planned(steps)
    assert costs["one"].bytes - costs["two"].bytes == pytest.approx(2 * 268_098_176, rel=0.01)
    assert costs["one"].seconds is not None and costs["two"].seconds is not None
    assert 5 < costs["one"].seconds - costs["two"].seconds - sizes.IMPORT < 30


def test_more_devices_than_are_here_are_assumed_and_said_to_be() -> None:
    """A time for another machine that passes for this one's is a promise nobody made."""
    corpus(Path("corpus"), 100_000)
    step = f"  vectors:\n    embed: {{passages: corpus, model: {GEMMA}}}\n"
    several = planned(step, wide="runtime: {devices: 8}")
    shared = planned(step, wide="runtime: {devices: 8, engine: ray}")
    said = estimate.sentence(several)
    assert "8 x H100" in said and "assumed" in said
    assert several["vectors"].seconds is not None and shared["vectors"].seconds is not None
    assert shared["vectors"].seconds < several["vectors"].seconds  # the local engine works on one device


def test_says_so_when_nothing_is_left() -> None:
    """Zero seconds would read as an estimate."""
    assert estimate.sentence({}) == "everything is done"


def test_the_sentence_sums() -> None:
    """The one line that people read before they start a run."""
    costs = {
        "one": Cost(5000, 2_100_000, 300.0, 400_000_000, "2 cores"),
        "two": Cost(0, 0, 200.0, 200_000_000, "2 cores"),
    }
    assert estimate.sentence(costs) == "about 9 min, 0.6 GB on disk, on 2 cores"
    assert estimate.shown(costs["one"]) == ("5,000", "2.1M", "5 min 00 s", "0.4 GB")
    assert estimate.shown(costs["two"]) == ("", "", "3 min 20 s", "0.2 GB")


def test_a_disk_that_is_too_small_is_refused_before_work_begins(tmp_path: Path) -> None:
    """A full disk after six hours, instead of a sentence before them."""
    folder = tmp_path / "not" / "there" / "yet"
    estimate.check_disk({"one": Cost(1, 1, 1.0, 1000)}, folder)
    with pytest.raises(Refused, match=r"free, about 1000\.0 TB needed"):
        estimate.check_disk({"one": Cost(1, 1, 1.0, 10**15)}, folder)


def test_this_machine_is_measured_quickly() -> None:
    """A plan that takes seconds to measure the machine is not asked for twice."""
    began = time.perf_counter()
    peak = machine.product(torch.device("cpu"), 256)
    assert time.perf_counter() - began < 2
    assert 1e8 < peak < 1e15


def test_the_reference_is_planned_without_a_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The costliest experiment of all is the one whose cost must be seen before anything is fetched."""

    def refuse(*_: object) -> None:
        raise AssertionError("a plan asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    held = experiment.load(Path(__file__).parents[2] / "configs" / "reference.yaml")
    running.plan(held)
    assert "8 x H100" in " ".join(capsys.readouterr().out.split())
    costs = estimate.costs(held.steps, list(held.steps))
    assert [name for name, cost in costs.items() if cost.rows is None or cost.seconds is None] == []
    assert costs["teacher_1"].rows == 20_000 * 128
    assert not held.folder.exists()
