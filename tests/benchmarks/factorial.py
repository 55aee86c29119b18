"""What each factor of configs/ablations/factorial.yaml adds: the mean over all couples of models that differ in it.

python tests/benchmarks/factorial.py runs/factorial_1 runs/factorial_2 runs/factorial_3
"""

import argparse
import json
from itertools import product
from pathlib import Path
from statistics import mean

FACTORS = {"c": "contrastive", "k": "kl", "r": "regression", "s": "spread"}
"""The letter of a loss in a model's name."""


def main() -> None:
    """Print all models, and what each factor adds, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, one a seed")
    runs = parser.parse_args().runs
    if absent := [run for run in runs if not (run / "evaluation" / "metrics.json").is_file()]:
        parser.error(f"{absent[0]} has no finished evaluation. Run its config.")
    held = [json.loads((run / "evaluation" / "metrics.json").read_text())["measures"]["ndcg@10"] for run in runs]
    values = [{model: 100 * found["value"] for model, found in each.items()} for each in held]
    print("| nDCG@10 | seed | relabelled |\n|---|---|---|")
    for losses in [model.removeprefix("seed_") for model in values[0] if model.startswith("seed_")]:
        cells = [_spread([each[f"{lists}_{losses}"] for each in values], "") for lists in ("seed", "judged")]
        print(f"| {' + '.join(FACTORS[letter] for letter in losses)} | {' | '.join(cells)} |")
    others = [model for model in values[0] if not model.startswith(("seed_", "judged_"))]
    print("\n| nDCG@10 | |\n|---|---|")
    for model in others:
        print(f"| {model} | {_spread([each[model] for each in values], '')} |")
    print("\n| with it, less without it | couples | mean | least and most of a couple |\n|---|---|---|---|")
    for title, couples in _couples(values[0]).items():
        seeds = [mean(each[with_it] - each[without] for with_it, without in couples) for each in values]
        each_couple = [mean(each[a] - each[b] for each in values) for a, b in couples]
        print(
            f"| {title} | {len(couples)} | {_spread(seeds, '+')} | {min(each_couple):+.1f} to {max(each_couple):+.1f} |"
        )


def _couples(models: dict[str, float]) -> dict[str, list[tuple[str, str]]]:
    """For each factor the models with it, each with the one that is as it but for that."""
    found: dict[str, list[tuple[str, str]]] = {}
    for (letter, title), model in product(FACTORS.items(), models):
        lists, _, losses = model.partition("_")
        without = f"{lists}_{losses.replace(letter, '')}"
        if lists in ("seed", "judged") and letter in losses and without in models:
            found.setdefault(title, []).append((model, without))
    relabelled = [(model, "seed" + model.removeprefix("judged")) for model in models if model.startswith("judged_")]
    return found | {"relabelled positives": relabelled}


def _spread(values: list[float], sign: str) -> str:
    """Their mean; least and most, if there are several."""
    told = f"{mean(values):{sign}.1f}"
    return told if len(values) == 1 else f"{told} ({min(values):{sign}.1f} to {max(values):{sign}.1f})"


if __name__ == "__main__":
    main()
