"""A training that is killed and resumed ends in the same bits as one that is not."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill import artifact, files, fit, tables
from distill.stages.embed import embed
from distill.stages.label import label
from distill.stages.mine import mine
from students import Encoder

STEPS = 9

CUTS = [("during", 1), ("after", 2), ("before", 3), ("during", 5), ("after", 5), ("after", 6), ("after", STEPS)]
"""Kills in a row, of one training: while the checkpoint of a step is written, after it, before it."""

EARLY = 6
"""Step at which the training with everything ends, of more: two looks after the best."""

CASES = {"plain": CUTS, "everything": [("during", 2), ("after", 3), ("before", 4), ("after", 4), ("after", EARLY)]}

ZYGOTE = """
import functools, json, os, signal, sys
from pathlib import Path

import torch

torch.set_num_threads(1)  # before the first computation: threads do not survive a fork
from distill import files, fit
from distill.fit import callbacks, checkpoint, dev
from distill.objective import Objective, Schedule
from distill.stages.train import train
from students import Encoder

told = json.loads(sys.argv[1])
run = Path(told["run"])
fit.CHECKPOINT_SECONDS = 0.0


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(when, at):
    ended, saved = callbacks.Checkpoint.on_train_batch_end, torch.save

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

    callbacks.Checkpoint.on_train_batch_end = end
    checkpoint.torch.save = save


EVERYTHING = dict(
    examples=(run / "examples",),
    vectors=(run / "vectors", run / "query_vectors"),
    objective=Objective(
        contrastive=1.0, kl=1.0, regression=1.0, spread=0.1, same_tower=True, learn_temperature=True, widths=(8,)
    ),
    schedule=Schedule(
        steps=20, queries=6, negatives=2, near=12, learning_rate=1e-3, precision="fp32",
        dev_steps=2, dev_queries=8, dev_passages=20, patience=2,
    ),
    dev=Path(told["corpus"]),
)
PLAIN = dict(
    examples=(Path(told["corpus"]),),
    vectors=(run / "vectors",),
    objective=Objective(contrastive=1.0, regression=1.0),
    schedule=Schedule(steps=told["steps"], queries=6, negatives=2, learning_rate=1e-3, precision="fp32"),
)

looked = dev.Best._look
dev.Best._look = lambda self, trainer, module: looked(self, trainer, module) - trainer.global_step  # worse and worse


def work(out, case):
    train(
        model=functools.partial(Encoder, base=told["base"], length=24, dropout=0.1),
        passages=Path(told["corpus"]),
        seed=5,
        out=out,
        **(EVERYTHING if case == "everything" else PLAIN),
    )


def child(case, name, cut):
    pid = os.fork()
    if pid == 0:
        try:
            if cut:
                arm(*cut)
            work(run / case / name, case)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


ends = []
for case, cuts in told["cases"].items():
    ends += [child(case, "whole", None), *(child(case, "cut", cut) for cut in cuts), child(case, "cut", None)]
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def runs(corpus: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each case a training that was left alone and one that was killed at each of its cuts."""
    folder = tmp_path_factory.mktemp("run")
    teacher = functools.partial(Encoder, base=str(encoder), length=24)
    embed(model=teacher, passages=corpus, out=folder / "vectors")
    embed(model=teacher, queries=corpus, out=folder / "query_vectors")
    vectors = {"passage_vectors": (folder / "vectors",), "query_vectors": (folder / "query_vectors",)}
    mine(passages=corpus, queries=corpus, depth=10, out=folder / "candidates", **vectors)
    label(candidates=folder / "candidates", negatives=4, ceiling=5.0, out=folder / "examples")
    told = {"run": str(folder), "base": str(encoder), "corpus": str(corpus), "steps": STEPS, "cases": CASES}
    done = subprocess.run(
        [sys.executable, "-c", ZYGOTE, json.dumps(told)], check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    wanted = [end for cuts in CASES.values() for end in (0, *[-9] * len(cuts), 0)]
    assert json.loads(done.stdout.splitlines()[-1]) == wanted, done.stderr
    return folder


@pytest.fixture(params=CASES)
def run(runs: Path, request: pytest.FixtureRequest) -> Path:
    """One case of them."""
    return runs / request.param


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
    last = STEPS if run.name == "plain" else EARLY
    assert sorted({row["step"] for row in whole.to_pylist()} - {0}) == list(range(1, last + 1))


def test_everything_was_on(runs: Path) -> None:
    """Harm: the tests above pass because what must be remembered from one run to the next was never there."""
    facts = artifact.facts(runs / "everything" / "cut")
    last, seen = facts["last"], facts["dev"]
    assert isinstance(last, dict) and isinstance(seen, dict)
    assert last.keys() == {
        "loss", "contrastive", "kl", "regression", "spread", "temperature", "accuracy", fit.MEASURE,
    }  # fmt: skip
    assert last["temperature"] != 0.02
    assert seen["ended"] == EARLY


def test_the_artifacts_hold_the_same_bytes(run: Path) -> None:
    """Harm: what is made from a resumed model counts as made from another."""
    assert artifact.version(run / "whole") == artifact.version(run / "cut")
