"""A million passages through embed, mine and label with a toy model: time and peak memory of each, each in a process.

python tests/benchmarks/million.py --passages 1000000 --queries 100000 --out runs/million
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from distill.readers import Reader
from distill.readers.rows import Passage, Retrieval, Row
from distill.stages.embed import embed
from distill.stages.ingest import ingest
from distill.stages.label import label
from distill.stages.mine import mine
from students import Encoder

ROOT = Path(__file__).parents[2]
STEPS = ("corpus", "passage_vectors", "query_vectors", "mined", "examples")


@dataclass(frozen=True, kw_only=True)
class Made(Reader):
    """Passages of twelve words of a vocabulary with a long tail; of the first, six of the words ask for each."""

    passages: int
    queries: int

    def read(self) -> Iterator[Row]:
        """The questions' passages first."""
        drawn = np.random.default_rng(0)
        vocabulary = [f"w{number:x}" for number in range(50_000)]
        for start in range(0, self.passages, 10_000):
            words = np.minimum(drawn.zipf(1.3, (10_000, 12)), len(vocabulary)) - 1
            for number, row in enumerate(words.tolist(), start):
                said = [vocabulary[word] for word in row]
                passage = Passage("made", str(number), "", f"{' '.join(said)} {number}", f"passage {number}")
                if number < self.queries:
                    yield Retrieval("Find it.", " ".join(said[::2]), (passage,), (), (), f"passage {number}")
                elif number < self.passages:
                    yield passage


def step(name: str, given: argparse.Namespace) -> None:
    """One step in this process."""
    out = given.out
    model = partial(Encoder, base=str(ROOT / "tests" / "data" / "encoder"), layers=(0,), length=16)
    if name == "corpus":
        ingest(sources=(Made(passages=given.passages, queries=given.queries),), out=out / name)
    elif name == "passage_vectors":
        embed(passages=out / "corpus", model=model, out=out / name)
    elif name == "query_vectors":
        embed(queries=out / "corpus", model=model, out=out / name)
    elif name == "mined":
        vectors = {side: (out / side,) for side in ("passage_vectors", "query_vectors")}
        mine(passages=out / "corpus", queries=out / "corpus", out=out / name, **vectors)
    else:
        label(candidates=out / "mined", out=out / name)


def main() -> None:
    """Run each step in a process of its own, print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        step(given.step, given)
        return
    print("| step | seconds | peak memory, MB | on disk, MB |\n|---|---|---|---|")
    for name in STEPS:
        began = time.perf_counter()
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--step", name], check=True, stdout=subprocess.DEVNULL)
        facts = json.loads((given.out / name / "done.json").read_bytes())
        size = sum(file.stat().st_size for file in (given.out / name).rglob("*") if file.is_file())
        peak = facts["peak_memory_bytes"] / 1e6
        print(f"| {name} | {time.perf_counter() - began:,.0f} | {peak:,.0f} | {size / 1e6:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
