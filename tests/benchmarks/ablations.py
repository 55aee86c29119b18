"""Ablations as we measure them, beside the paper's: a table of runs of one config of configs/ablations, one a seed.

python tests/benchmarks/ablations.py runs/ablations_1 runs/ablations_2 runs/ablations_3     (variants.yaml: NV-Embed)
python tests/benchmarks/ablations.py runs/labels_1 runs/labels_2 runs/labels_3              (labels.yaml: Gecko)
python tests/benchmarks/ablations.py runs/students_1 runs/students_2 runs/students_3        (students.yaml: peers)
"""

import argparse
import json
from pathlib import Path
from statistics import mean

MEASURES = {"ndcg@10": "retrieval", "spearman": "STS", "accuracy": "classification", "v_measure": "clustering"}

COMPARED = {
    # arXiv 2405.17428, tables 2 and 3: retrieval of v1 after stage 2, STS of v1 after stage 1
    ("both ways", "causal", "latent attention"): ("both_latent", "causal_latent", {"retrieval": 1.03, "STS": 0.42}),
    ("both ways", "causal", "mean"): ("both_mean", "causal_mean", {"retrieval": 0.83, "STS": 3.87}),
    ("both ways", "causal", "last token"): ("both_last", "causal_last", {"retrieval": 1.80, "STS": 1.51}),
    ("latent attention", "mean", "both ways"): ("both_latent", "both_mean", {"retrieval": 0.65, "STS": 1.60}),
    ("latent attention", "last token", "both ways"): ("both_latent", "both_last", {"retrieval": 0.97, "STS": 4.11}),
    # table 4, v2
    ("two stages", "one, in-batch off", ""): (
        "two_stages",
        "one_stage",
        {"retrieval": 1.28, "STS": -0.19, "classification": 0.17, "clustering": 0.15},
    ),
    ("one stage, in-batch off", "on for all rows", ""): (
        "one_stage",
        "one_stage_in_batch",
        {"retrieval": 0.12, "STS": 0.8, "classification": 3.6, "clustering": 0.64},
    ),
    ("one stage, in-batch by row", "on for all rows", ""): ("one_stage_in_batch_rows", "one_stage_in_batch", {}),
    ("positive: an example of the class", "the label's text", ""): (
        "example_texts",
        "label_texts",
        {"STS": 0.06, "classification": 1.20, "clustering": 5.42},
    ),
    # arXiv 2407.15831: an encoder with 4 hard negatives
    ("negatives under 95 % of the positive", "naive", ""): ("both_latent", "naive_negatives", {"retrieval": 4.49}),
    # arXiv 2403.20327, table 3, FRet
    ("positive: relabelled", "seed", "no hard negative"): ("judged_none", "seed_none", {"retrieval": 0.74}),
    ("positive: relabelled", "seed", "a random one"): ("judged_random", "seed_random", {"retrieval": 1.23}),
    ("positive: relabelled", "seed", "the last one"): ("judged_last", "seed_last", {"retrieval": 1.43}),
    ("positive: relabelled", "seed", "one under 95 %"): ("judged_near", "seed_near", {}),
    ("the last negative", "none", "relabelled"): ("judged_last", "judged_none", {"retrieval": 0.32}),
    ("a random negative", "none", "relabelled"): ("judged_random", "judged_none", {"retrieval": -0.47}),
    ("a negative under 95 %", "none", "relabelled"): ("judged_near", "judged_none", {}),
    ("judges agree", "all queries", "one under 95 %"): ("agreed_near", "judged_near", {}),
    # sentence-transformers 6.2, of the same lists
    ("our matrix", "its contrastive loss", ""): ("matrix", "peer_contrastive", {}),
    ("our matrix", "its KL", ""): ("matrix", "peer_kl", {}),
    ("our matrix", "its regression", ""): ("matrix", "peer_regression", {}),
    ("contrastive: ours", "its", ""): ("contrastive", "peer_contrastive", {}),
    ("KL: ours", "its", ""): ("kl", "peer_kl", {}),
    ("regression: ours", "its", ""): ("regression", "peer_regression", {}),
}
"""What is set against what; the steps; the paper's difference in points."""


def main() -> None:
    """Print values and differences of all runs as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, one a seed")
    runs = parser.parse_args().runs
    if absent := [run for run in runs if not (run / "evaluation" / "metrics.json").is_file()]:
        parser.error(f"{absent[0]} has no finished evaluation. Run its config.")
    held = [json.loads((run / "evaluation" / "metrics.json").read_text())["measures"] for run in runs]
    print("| | " + " | ".join(MEASURES.values()) + " |\n|---|" + "---|" * len(MEASURES))
    for model in held[0]["ndcg@10"]:
        cells = [_values([measures.get(name, {}).get(model) for measures in held]) for name in MEASURES]
        print(f"| {model} | {' | '.join(cells)} |")
    print(
        "\n| difference in points | measure | paper | ours | "
        + " | ".join(f"seed {i + 1}" for i in range(len(held)))
        + " |"
    )
    print("|---|---|---|---|" + "---|" * len(held))
    for (one, other, where), (better, worse, paper) in COMPARED.items():
        title = f"{one} - {other}" + (f" ({where})" if where else "")
        for name, measure in MEASURES.items():
            if not {better, worse} <= held[0].get(name, {}).keys():
                continue
            found = [measures[name][better]["above"][worse] for measures in held]
            told = f"{paper[measure]:+.2f}" if measure in paper else ""
            cells = [f"{100 * f['value']:+.1f} [{100 * f['low']:+.1f}, {100 * f['high']:+.1f}]" for f in found]
            print(
                f"| {title} | {measure} | {told} | {100 * mean(f['value'] for f in found):+.1f} | {' | '.join(cells)} |"
            )
            title = ""


def _values(held: list[dict[str, float] | None]) -> str:
    values = [100 * each["value"] for each in held if each]
    return f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else ""


if __name__ == "__main__":
    main()
