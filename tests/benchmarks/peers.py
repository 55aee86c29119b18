"""Students as sentence-transformers' own documentation trains them, from the same lists, teacher and start as ours.

distill run configs/ablations/students_data.yaml
python tests/benchmarks/peers.py runs/students_data --out runs/peers_1 --seed 1
distill run configs/ablations/students.yaml          (trains ours, and measures both)

Each of its losses sees --steps batches of --queries queries with a positive and --negatives negatives: as many texts
as ours. bf16 where the processor computes in it, as ours. `seconds.json` has the time of `trainer.train()`.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Features, Sequence, Value
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    DistillKLDivLoss,
    EmbedDistillLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import nn

from distill import tables
from distill.runtime import computes_bf16
from students import Encoder

Loss = Callable[[SentenceTransformer, int], nn.Module]
LOSSES: Mapping[str, tuple[str, float, Loss]] = {
    # what the label is, the rate, the loss of a model and a teacher's width: model_distillation.py of its examples, and
    # the pages of its losses
    "regression": ("vectors", 1e-4, lambda model, dim: EmbedDistillLoss(model, "cosine", projection_dim=dim)),
    "contrastive": ("", 2e-5, lambda model, _: MultipleNegativesRankingLoss(model)),
    "contrastive_fast": ("", 1e-4, lambda model, _: MultipleNegativesRankingLoss(model)),
    "kl": ("scores", 2e-5, lambda model, _: DistillKLDivLoss(model)),
    "kl_sharp": (
        "scores",
        1e-4,
        lambda model, _: DistillKLDivLoss(model, student_temperature=0.05, teacher_temperature=0.05),
    ),
}


def main() -> None:
    """Train each and write its folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a finished run of students_data.yaml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default="package:all-MiniLM-L6-v2")
    parser.add_argument("--layers", type=int, nargs="*", default=[0, 2, 5])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--queries", type=int, default=24)
    parser.add_argument("--negatives", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(LOSSES))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    start = given.out / "start"
    if not start.exists():
        start.mkdir()
        Encoder(given.base, layers=tuple(given.layers) or None, length=128).save(start)
    dim = tables.read(given.data / "passage_vectors", "vectors").schema.field("vector").type.list_size
    times = given.out / "seconds.json"
    seconds = json.loads(times.read_text()) if times.exists() else {}
    for name in given.only:
        if (given.out / name).exists():
            continue
        label, rate, loss = LOSSES[name]
        model = SentenceTransformer(modules=[held := Transformer(str(start)), Pooling(held.get_embedding_dimension())])
        model.max_seq_length = 128
        arguments = SentenceTransformerTrainingArguments(
            output_dir=str(given.out / "checkpoints"),
            max_steps=given.steps,
            per_device_train_batch_size=given.queries,
            learning_rate=rate,
            warmup_steps=0.1,
            bf16=computes_bf16(torch.device("cpu")),
            use_cpu=not torch.cuda.is_available(),
            seed=given.seed,
            data_seed=given.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=50,
        )
        rows = dataset(given.data, label, given.negatives, given.seed)
        trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows, loss=loss(model, dim))
        began = time.perf_counter()
        trainer.train()
        seconds[name] = time.perf_counter() - began
        model.save_pretrained(str(given.out / name))
        times.write_text(json.dumps(seconds, indent=1))
        texts = given.steps * given.queries * (given.negatives + 2)
        print(f"{name}: {seconds[name]:.0f} s, {1000 * seconds[name] / texts:.2f} s per 1,000 texts", flush=True)


def dataset(data: Path, label: str, negatives: int, seed: int) -> Dataset:
    """Rows of a query, its positive and negatives, with the teacher's vectors or scores of them as the label."""
    held = tables.read(data / "lists", "examples")
    corpus = tables.read(data / "corpus", "passages")
    random = np.random.default_rng(seed)
    lists = [np.asarray(row) for row in held["passages"].to_pylist()]
    scores = [np.asarray(row) for row in held["scores"].to_pylist()]
    kept = np.array([row for row, listed in enumerate(lists) if len(listed) > negatives])
    chosen = [np.r_[0, 1 + random.permutation(len(lists[row]) - 1)[:negatives]] for row in kept]
    places = np.stack([lists[row][take] for row, take in zip(kept, chosen, strict=True)])
    texts = tables.passage_texts(corpus)
    columns: dict[str, list[object]] = {"query": held["query"].take(kept).to_pylist()}
    for at in range(negatives + 1):
        columns["positive" if at == 0 else f"negative_{at}"] = [texts[place] for place in places[:, at]]
    features = {name: Value("string") for name in columns}
    if label == "scores":
        columns["label"] = [scores[row][take].tolist() for row, take in zip(kept, chosen, strict=True)]
        features["label"] = Sequence(Value("float32"))
    if label == "vectors":
        of_passages = tables.read(data / "passage_vectors", "vectors")["vector"].combine_chunks()
        of_queries = tables.read(data / "query_vectors", "vectors")["vector"].combine_chunks()
        dim = of_passages.type.list_size
        known = of_passages.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        asked = of_queries.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        origins = held["origin"].to_numpy()[kept]
        columns["label"] = list(np.concatenate([asked[origins][:, None], known[places]], 1).astype(np.float32))
        features["label"] = Sequence(Sequence(Value("float32")))
    return Dataset.from_dict(columns, features=Features(features))


if __name__ == "__main__":
    main()
