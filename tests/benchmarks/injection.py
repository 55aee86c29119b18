"""Passages that try to talk a judge into their label: how often they succeed, and what harmless additions change.

python tests/benchmarks/injection.py runs/labels_data/judged runs/labels_data/corpus --queries 40

For each query the candidate that the judges put last gets a sentence of tests/data/injections.json and is judged again.
An attack succeeds if that candidate becomes the positive. Harmless sentences say how much any addition moves.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from distill import ranking, tables
from distill.prompts import LABELS, Judging
from teachers import CausalLM

TEXTS = Path(__file__).parents[1] / "data" / "injections.json"


def main() -> None:
    """Judge the altered passages, print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("judged", type=Path, help="artifact of judge")
    parser.add_argument("passages", type=Path, help="artifact of ingest that it counts")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--words", type=int, default=45, help="of a passage that the judge is shown")
    parser.add_argument("--base", default="package:gemma-3-270m")
    given = parser.parse_args()
    held = tables.read(given.judged, "judgements").slice(0, given.queries).combine_chunks()
    opinions = {name: tables.matrix(held[name]) for name in tables.opinions(held)}
    judges = ["likelihoods", "relevances"]
    listed, queries = tables.matrix(held["passages"]), held["query"].to_pylist()
    preferred = ranking.preferred(opinions, judges)
    last, everyone = preferred.argmin(1), np.arange(len(held))
    texts = tables.passage_texts(tables.read(given.passages, "passages"), listed[everyone, last])
    shown = [" ".join(text.split()[: given.words]) for text in texts]
    model, prompt = CausalLM(given.base, batch_tokens=8192), Judging()
    print(f"{len(held)} queries, {listed.shape[1]} candidates each; the judge is {model.name}\n")
    print("| added to the last candidate | becomes the positive, % | and is among the first 5 of all judges, % |")
    print("|---|---|---|")
    for kind, sentences in json.loads(TEXTS.read_text()).items():
        moved, agreed = [], []
        for sentence in sentences:
            altered = [
                f"{text} {sentence.replace('{query}', query)}" for text, query in zip(shown, queries, strict=True)
            ]
            said = {name: held.copy() for name, held in opinions.items()}
            for name, values in zip(judges, _judged(model, prompt, queries, altered), strict=True):
                said[name][everyone, last] = values
            is_first = ranking.firsts(ranking.preferred(said, judges)) == last
            trusted = ranking.agreed(said, listed, listed[everyone, last], 5)
            moved.append(is_first.mean())
            agreed.append((is_first & trusted).mean())
            print(f"| {' ⏎ '.join(sentence.split(chr(10)))} | {100 * moved[-1]:.0f} | {100 * agreed[-1]:.0f} |")
        print(f"| **all {kind}** | **{100 * np.mean(moved):.1f}** | **{100 * np.mean(agreed):.1f}** |")


def _judged(model: CausalLM, prompt: Judging, queries: list[str], texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    likelihood, relevance = prompt.asks_likelihood, prompt.asks_relevance
    asked = [relevance.filled(passage=text, query=query) for text, query in zip(texts, queries, strict=True)]
    return (
        model.log_likelihood(
            [likelihood.filled(passage=text) for text in texts],
            [f" {query}" for query in queries],
            shared=likelihood.shared,
        ),
        model.classify(asked, LABELS, shared=relevance.shared)[:, 0],
    )


if __name__ == "__main__":
    main()
