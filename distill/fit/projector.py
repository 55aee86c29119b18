"""The map from the student's space up to the teacher's, where it should start."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill import encode
from distill.batches import Batches
from distill.interfaces import Embedder
from distill.runtime import autocast, device

TEXTS = 8192
"""Pairs of vectors the map is solved from. A map of 384 numbers to 768 that is solved from 2,048 fits those, at 0.22
(one minus the cosine), and other texts at 0.35; from 8,192 it is 0.27 and 0.30 (docs/log.md)."""

TOKENS = 8192
"""Read at once, padding included."""


@torch.no_grad()
def solved(embedder: Embedder, batches: Batches, teacher_dim: int, precision: str = "auto") -> nn.Linear:
    """A linear map that already takes the student's vectors to the teacher's as well as any can (ridge regression).

    From a random map the first steps would bend the student towards a random rotation of the teacher, and
    above all towards the teacher's mean vector: measured, a start of 0.70 nDCG@10 fell to 0.15 (docs/log.md).

    Args:
        embedder: The student before training.
        batches: Their passages and queries and the targets of both are used, from the first batch on.
        teacher_dim: Width of the teacher's vectors.
        precision: Arithmetic in which the student reads, as of `Schedule`.
    """
    embedder.eval()
    vectors: list[Tensor] = []
    targets: list[Tensor] = []
    step = seen = 0
    while sum(len(part) for part in vectors) < min(TEXTS, batches.texts) and seen < 4 * TEXTS:  # few may have a target
        batch = batches.batch(step).to(device(embedder))
        step, seen = step + 1, seen + len(batch.texts.ids)
        for tokens, wanted in ((batch.texts, batch.text_targets), (batch.queries, batch.query_targets)):
            if tokens is None or wanted is None:
                continue
            known = wanted.isfinite().all(1)
            for rows in encode.batches(tokens.attend[known].sum(1).cpu().numpy(), TOKENS):
                chosen = known.nonzero()[:, 0][torch.from_numpy(rows).to(known.device)]
                with autocast(device(embedder), precision):
                    vectors.append(embedder(tokens.take(chosen)).float())
                targets.append(wanted[chosen])
    made = nn.Linear(embedder.dim, teacher_dim)
    if any(len(part) for part in vectors):
        weight, bias = ridge(torch.cat(vectors), torch.cat(targets))
        made.weight.copy_(weight)
        made.bias.copy_(bias)
    return made.to(device(embedder))


def ridge(
    vectors: Float[Tensor, "texts dim"], targets: Float[Tensor, "texts teacher_dim"], share: float = 0.03
) -> tuple[Float[Tensor, "teacher_dim dim"], Float[Tensor, " teacher_dim"]]:
    """Weight and bias of the linear map of least squared error, shrunk by a share of the mean variance."""
    mean, goal = vectors.mean(0), targets.mean(0)
    centred = (vectors - mean).double()
    spread = centred.T @ centred
    spread += share * spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
    weight = torch.linalg.solve(spread, centred.T @ (targets - goal).double()).T.float()
    return weight, goal - weight @ mean
