"""One training in several processes is the training of one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill import tables
from distill.fit import together
from distill.interfaces import Tokens
from distill.objective import LOSSES

ROOT = Path(__file__).parents[3]

FILE = """\
name: mine
output: {output}
runtime: {{devices: {devices}, strategy: {strategy}}}
steps:
  corpus:
    ingest:
      sources:
        - class_path: distill.readers.JSONL
          init_args: {{path: tests/data/questions.jsonl, kind: retrieval, task: Find the answer}}
        - class_path: distill.readers.CSV
          init_args: {{path: {pairs}, kind: sts, benchmark: true, task: Say the same}}
  passage_vectors:
    embed:
      model: &teacher {{class_path: students.Encoder, init_args: {{base: {encoder}, length: 24}}}}
      passages: corpus
  query_vectors:
    embed: {{model: *teacher, queries: corpus}}
  candidates:
    mine:
      passages: corpus
      queries: corpus
      passage_vectors: passage_vectors
      query_vectors: query_vectors
      depth: 8
  lists:
    label: {{candidates: candidates, negatives: 3, ceiling: 5.0}}
  first:
    train:
      model: {{class_path: students.Encoder, init_args: {{base: {encoder}, layers: [0, 2], length: 24}}}}
      passages: corpus
      examples: [corpus, lists]
      vectors: [passage_vectors, query_vectors]
      objective: {{learn_temperature: true, same_tower: true, widths: [4], {weights}}}
      schedule: &schedule {{steps: 6, queries: 7, learning_rate: 1e-3, warmup: 1, precision: fp32}}
  second:
    train: {{model: first, passages: corpus, examples: corpus, schedule: *schedule}}
"""


@pytest.mark.parametrize("texts", range(1, 10))
@pytest.mark.parametrize("processes", range(1, 5))
def test_shares_come_back_in_order(texts: int, processes: int) -> None:
    """Harm: a query is compared with another's passage, and the loss still falls."""
    ids = torch.arange(texts)[:, None]
    batch = Tokens(ids, ids >= 0, ids >= 0)
    shares = [batch.take(rows).ids.float() for rows in together.places(texts, processes)]
    assert len({len(share) for share in shares}) == 1
    assert together.joined(torch.stack(shares), texts)[:, 0].tolist() == list(range(texts))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the devices here are CPU processes")
def test_two_processes_train_the_same_model(encoder: Path, texts: list[str], tmp_path: Path) -> None:
    """Harm: more devices are another batch, another gradient, another model, or the same work done twice."""
    calm = {name: value for name, value in os.environ.items() if name not in together.LIGHTNINGS}
    held = {}
    pairs, rows = tmp_path / "pairs.csv", [f'"{texts[at]}","{texts[at + 20]}",{at % 6}' for at in range(12)]
    pairs.write_text("\n".join(["sentence1,sentence2,score", *rows]))
    named = {"pairs": pairs, "encoder": encoder, "weights": ", ".join(f"{loss}: 0.5" for loss in LOSSES)}
    for devices, strategy in ((1, "auto"), (2, "ddp")):
        file = tmp_path / f"{strategy}.yaml"
        text = FILE.format(output=tmp_path / strategy, devices=devices, strategy=strategy, **named)
        file.write_text(text)
        command = [sys.executable, "-m", "distill", "run", str(file)]
        done = subprocess.run(command, check=False, cwd=ROOT, env=calm, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("first: 6 of 6") == 1  # one process speaks
        held[strategy] = {
            step: (
                load_file(tmp_path / strategy / "mine" / step / "model" / "model.safetensors"),
                tables.read(tmp_path / strategy / "mine" / step, "curves")["value"].to_pylist(),
            )
            for step in ("first", "second")
        }
    told = {row["measure"] for row in tables.read(tmp_path / "ddp" / "mine" / "first", "curves").to_pylist()}
    assert told >= LOSSES.keys()
    for step, (weights, losses) in held["auto"].items():
        others, curve = held["ddp"][step]
        assert curve == pytest.approx(losses, abs=1e-4)
        for name, weight in weights.items():
            if name.endswith("key.bias"):  # a softmax does not feel it: its gradient is rounding, which Adam blows up
                continue
            assert torch.allclose(weight, others[name], atol=2e-4), (step, name)
