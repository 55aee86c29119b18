"""A training that is killed and resumed ends in the same bits as one that is not."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill import artifact, files, tables
from distill.stages.embed import embed
from students import Encoder

STEPS = 9

CUTS = [("during", 1), ("after", 2), ("before", 3), ("during", 5), ("after", 5), ("after", 6), ("after", STEPS)]
"""Kills in a row, of one training: while the checkpoint of a step is written, after it, before it."""

ZYGOTE = """
import functools, json, os, signal, sys
from pathlib import Path

import torch

torch.set_num_threads(1)  # before the first computation: threads do not survive a fork
from distill import files, fit
from distill.fit import callbacks, checkpoint
from distill.objective import Objective, Schedule
from distill.stages.train import train
from students import Encoder

told = json.loads(sys.argv[1])
run = Path(told["run"])
fit.CHECKPOINT_SECONDS = 0.0


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(when, at):
    ended, saved = callbacks.Resume.on_train_batch_end, torch.save

    def end(self, trainer, *rest):
        if when == "before" and trainer.global_step == at:
            kill()
        ended(self, trainer, *rest)
        if when == "after" and trainer.global_step == at:
            kill()

    def save(held, file):
        saved(held, file)
        if when == "during" and held["global_step"] == at:
            with open(file, "r+b") as stream:
                stream.truncate(os.path.getsize(file) // 2)
            kill()

    callbacks.Resume.on_train_batch_end = end
    checkpoint.torch.save = save


def work(out):
    train(
        model=functools.partial(Encoder, base=told["base"], length=24),
        passages=Path(told["corpus"]),
        examples=(Path(told["corpus"]),),
        vectors=(run / "vectors",),
        objective=Objective(contrastive=1.0, regression=1.0),
        schedule=Schedule(steps=told["steps"], queries=6, negatives=2, learning_rate=1e-3, precision="fp32"),
        seed=5,
        out=out,
    )


def child(out, cut):
    pid = os.fork()
    if pid == 0:
        try:
            if cut:
                arm(*cut)
            work(out)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


ends = [child(run / "whole", None)]
ends += [child(run / "cut", cut) for cut in told["cuts"]]
ends += [child(run / "cut", None)]
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def run(corpus: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a training that was left alone and one that was killed at each of `CUTS`."""
    folder = tmp_path_factory.mktemp("run")
    embed(model=functools.partial(Encoder, base=str(encoder)), passages=corpus, out=folder / "vectors")
    told = {"run": str(folder), "base": str(encoder), "corpus": str(corpus), "steps": STEPS, "cuts": CUTS}
    done = subprocess.run(
        [sys.executable, "-c", ZYGOTE, json.dumps(told)], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, *[-9] * len(CUTS), 0], done.stderr
    return folder


def test_dropout_was_on(run: Path, encoder: Path) -> None:
    """Harm: the test below passes because nothing was drawn at random."""
    config = json.loads((run / "whole" / "model" / "config.json").read_bytes())
    assert config["hidden_dropout_prob"] == 0.1


def test_weights_are_bitwise_the_same(run: Path) -> None:
    """Harm: a resumed training repeats or drops batches, or draws other dropout: nobody can repeat its numbers."""
    weights = [run / name / "model" / "model.safetensors" for name in ("whole", "cut")]
    assert files.digest(weights[0]) == files.digest(weights[1])


def test_curves_are_the_same(run: Path) -> None:
    """Harm: the figure of a resumed training has a hole, a step twice, or another end."""
    whole, cut = (tables.read(run / name, "curves") for name in ("whole", "cut"))
    assert cut.equals(whole)
    assert sorted({row["step"] for row in whole.to_pylist()}) == list(range(1, STEPS + 1))


def test_the_artifacts_hold_the_same_bytes(run: Path) -> None:
    """Harm: what is made from a resumed model counts as made from another."""
    assert artifact.version(run / "whole") == artifact.version(run / "cut")
