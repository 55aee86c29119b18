"""The LightningModule: one forward pass over a batch, a weighted sum of losses."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from jaxtyping import Bool, Float, Int
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchmetrics.functional.classification import multiclass_accuracy

from distill import encode, losses
from distill.batches import Batch
from distill.errors import Refused
from distill.fit import together
from distill.interfaces import Embedder, Tokens
from distill.objective import LEAST_TEMPERATURE, LOSSES, Objective, Schedule

ACCURACY, TEMPERATURE = "accuracy", "temperature"
MEASURES = (ACCURACY, TEMPERATURE)
"""Share of queries whose positive comes first, which unlike losses compares from one temperature to another; and the
temperature, where it is learned."""

TEMPERATURE_RATE = 1e-2
"""At which a temperature's logarithm is learned: at a model's own rate it would not move."""

Side = tuple[Tensor, Tensor | None]
"""Vectors of a batch's texts and, if it has any, queries, at one width."""

GROUPS, LEAST = 8, 8
"""A batch is read in at most so many groups, of at least so many texts; smaller ones leave a GPU waiting."""


class Training(lightning.LightningModule):
    """An embedder being trained, with the projector into the teacher's space.

    Args:
        embedder: What is trained: its parameters that require gradients.
        objective: The losses and their weights.
        schedule: Steps, rate, warm-up.
        projector: From the student's space to the teacher's, when the objective has regression. The student is
            projected up, never the teacher down, which collapses (jina-v5, arXiv 2602.15547).
        chunk: Texts whose activations are held at once; all if None.
        chunk_tokens: The same in tokens, padding included.
    """

    measured: Mapping[str, Tensor]
    """By the last step: its losses, and the queries' accuracy where there is one."""
    mean_cosine: float | None = None
    """Of two vectors of the last batch, of queries or texts, whichever lie farther apart: near 1, all are one."""

    def __init__(
        self,
        embedder: Embedder,
        objective: Objective,
        schedule: Schedule,
        projector: nn.Linear | None = None,
        chunk: int | None = None,
        chunk_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self._chunk, self._chunk_tokens = chunk, chunk_tokens
        self.measured = {}
        self.log_temperature = None
        if objective.learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(objective.temperature)))
        self.embedder = embedder
        self.objective = objective
        self.schedule = schedule
        self.projector = projector
        self.strict_loading = False  # a checkpoint holds what is trained, not a frozen base

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """The weighted sum of the losses; each part is logged by itself."""
        self.mean_cosine = None
        parts = self.parts(batch)
        total = self.total(parts)
        measures = {"loss": total, **parts} if len(parts.keys() - set(MEASURES)) > 1 else parts
        self.measured = {name: value.detach() for name, value in measures.items()}
        self.log_dict(self.measured, batch_size=len(batch.texts.ids))
        return total

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the losses among the parts."""
        weighted = [getattr(self.objective, name) * value for name, value in parts.items() if name not in MEASURES]
        return torch.stack(weighted).sum()

    def parts(self, batch: Batch) -> dict[str, Tensor]:
        """Each loss whose weight is not zero, and the queries' accuracy, from one forward pass."""
        told = self.objective
        texts = self._vectors(batch.texts)
        queries = None if batch.queries is None else self._vectors(batch.queries)
        sides = _sides(texts, queries, told.widths)
        found, *shorter = [self._losses(*side, batch) for side in sides]
        for name in found.keys() - set(MEASURES):
            found[name] = torch.stack([found[name], *(parts[name] for parts in shorter)]).mean()
        if told.matrix:
            found["matrix"] = self._matrix(sides, batch)
        if told.relational:
            found["relational"] = self._relational(sides, batch)
        if told.regression:
            found["regression"] = self._regression(texts, queries, batch)
        if absent := {name for name in LOSSES if getattr(told, name)} - found.keys():
            raise Refused(f"train: objective.{min(absent)} has a weight, and nothing computes it. See Training.parts.")
        return found

    def _losses(
        self, texts: Float[Tensor, "texts dim"], queries: Float[Tensor, "queries dim"] | None, batch: Batch
    ) -> dict[str, Tensor]:
        """The losses that are of the student's vectors, of any width, and of scores that were given."""
        found = {} if queries is None else self._compared(queries, texts, batch)
        if self.objective.spread:
            found["spread"] = losses.spread(texts) + (0.0 if queries is None else losses.spread(queries))
        return found

    def _compared(
        self, queries: Float[Tensor, "queries dim"], texts: Float[Tensor, "texts dim"], batch: Batch
    ) -> dict[str, Tensor]:
        """The losses that compare queries with passages."""
        told, found = self.objective, {}
        assert batch.listed is not None and batch.allowed is not None
        allowed, positive = batch.allowed if told.in_batch else own(batch), batch.listed[:, 0]
        scores = losses.all_scores(queries, texts)
        present = batch.listed >= 0
        if told.cosent:
            assert batch.scores is not None
            graded = (present.sum(1) == 1) & batch.scores[:, 0].isfinite()
            own_scores = scores.gather(1, positive[:, None])[:, 0]
            found["cosent"] = losses.cosent(own_scores[graded], batch.scores[graded, 0], told.student_temperature)
        if told.contrastive:
            found["contrastive"] = self._contrastive(queries, scores, positive, allowed, batch)
        if self.log_temperature is not None:
            found[TEMPERATURE] = torch.as_tensor(self._temperature())
        if told.kl or told.margin_mse:
            assert batch.scores is not None and isinstance(told.teacher_temperature, float)
            listed = losses.listed_scores(queries, texts, batch.listed)
            known, targets = present & batch.scores.isfinite(), batch.scores.nan_to_num()
            if told.kl:
                found["kl"] = losses.kl(listed, targets, known, told.student_temperature, told.teacher_temperature)
            if told.margin_mse:
                found["margin_mse"] = losses.margin_mse(listed, targets, known, told.margin_scale)
        if (useful := _useful(allowed, positive)).any():
            found[ACCURACY] = _accuracy(scores.detach()[useful], positive[useful], allowed[useful])
        return found

    def _contrastive(
        self,
        queries: Float[Tensor, "queries dim"],
        scores: Float[Tensor, "queries texts"],
        positive: Int[Tensor, "queries"],
        allowed: Bool[Tensor, "queries texts"],
        batch: Batch,
    ) -> Float[Tensor, ""]:
        """InfoNCE over passages, and over the other queries where they count; false negatives left out."""
        told = self.objective
        if told.same_tower:
            assert batch.rivals is not None
            scores = torch.cat([scores, losses.all_scores(queries, queries)], 1)
            allowed = torch.cat([allowed, batch.rivals & bool(told.in_batch)], 1)
        useful = _useful(allowed, positive)
        if not useful.any():
            return scores.sum() * 0.0
        scores, positive, allowed = scores[useful], positive[useful], allowed[useful]
        if told.margin is not None:
            allowed = losses.true_negatives(scores.detach(), positive, allowed, told.margin)
        return losses.contrastive(scores, positive, allowed, self._temperature(), told.hardness)

    def _temperature(self) -> float | Float[Tensor, ""]:
        """Of the contrastive part: fixed, or learned and kept from zero, where one passage is all that counts."""
        if self.log_temperature is None:
            return self.objective.temperature
        with torch.no_grad():
            self.log_temperature.clamp_(min=math.log(LEAST_TEMPERATURE))
        return self.log_temperature.exp()

    def _vectors(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """Vectors of all texts of a batch; how far apart they lie is noted."""
        made = self._gathered(tokens)
        if len(made) > 1:
            cosine = float(_mean_cosine(made.detach()))
            self.mean_cosine = cosine if self.mean_cosine is None else min(self.mean_cosine, cosine)
        return made

    def _gathered(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """Vectors of all texts of a batch; of several processes each embeds its share.

        Each then has the loss of the whole batch. What comes back through `all_gather` is the sum over the
        processes and what they agree on is the mean, so the gradient is that of one process with the batch.
        """
        processes = self.trainer.world_size if self._trainer else 1
        if processes == 1:
            return self._read(tokens)
        rows = together.places(len(tokens.ids), processes)[self.trainer.global_rank]
        share = self._read(tokens.take(rows.to(tokens.ids.device)))
        gathered = self.all_gather(share, sync_grads=True)
        assert isinstance(gathered, Tensor)
        return together.joined(gathered, len(tokens.ids))

    def _read(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """Vectors of texts, read in groups of like length: of texts as they come, a quarter is padding.

        With a chunk, a group's activations are dropped, and computed again, with the same dropout, when its gradient
        has arrived: cached gradients (arXiv 2101.06983), whatever the losses are.
        """
        groups = self._groups(tokens.attend.sum(1))
        made = torch.cat([self._group(tokens.take(rows)) for rows in groups])
        return made[torch.cat(groups).argsort()]

    def _groups(self, lengths: Int[Tensor, "texts"]) -> list[Int[Tensor, "_"]]:
        """Texts that are read together: so many, or so many tokens, padding included."""
        if self._chunk_tokens:
            budgeted = encode.batches(lengths.cpu().numpy(), self._chunk_tokens)
            return [torch.from_numpy(rows).to(lengths.device) for rows in budgeted]
        count = -(-len(lengths) // self._chunk) if self._chunk else min(GROUPS, max(1, len(lengths) // LEAST))
        return list(lengths.argsort(stable=True).chunk(count))

    def _group(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        held_twice = self._chunk or self._chunk_tokens
        made = checkpoint(self.embedder, tokens, use_reentrant=False) if held_twice else self.embedder(tokens)
        assert isinstance(made, Tensor)
        return made

    def _matrix(self, sides: Sequence[Side], batch: Batch) -> Float[Tensor, ""]:
        """KL over all passages of the batch, the mean over widths; the teacher's cosines are computed once."""
        told = self.objective
        assert isinstance(told.matrix_temperature, float)
        assert batch.query_targets is not None and batch.text_targets is not None
        targets = losses.all_scores(_unit(batch.query_targets), _unit(batch.text_targets))
        known, targets = targets.isfinite(), targets.nan_to_num()
        temperature = told.matrix_temperature
        each = []
        for texts, queries in sides:
            assert queries is not None
            each.append(losses.kl(losses.all_scores(queries, texts), targets, known, temperature, temperature))
        return torch.stack(each).mean()

    def _relational(self, sides: Sequence[Side], batch: Batch) -> Float[Tensor, ""]:
        """Of passages and queries together, the mean over widths; the teacher's cosines are computed once."""
        targets = _unit(_taught(*sides[0], batch)[1])
        goal = losses.all_scores(targets, targets)
        known, each = goal.isfinite(), []
        for side in sides:
            vectors, _ = _taught(*side, batch)
            each.append(losses.relational(losses.all_scores(vectors, vectors), goal, known))
        return torch.stack(each).mean()

    def _regression(self, texts: Float[Tensor, "t d"], queries: Float[Tensor, "q d"] | None, batch: Batch) -> Tensor:
        """Of passages, positives and negatives alike, and of queries."""
        assert self.projector is not None
        vectors, targets = _taught(texts, queries, batch)
        known = targets.isfinite().all(1)
        if not known.any():  # the mean of nothing is NaN
            return vectors.sum() * 0.0
        return losses.regression(self.projector(vectors[known]), targets[known], self.objective.distance)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 Lightning's type is a union of ten
        """AdamW, linear warm-up, linear decay to zero."""
        trained = [p for p in self.parameters() if p.requires_grad]
        own = self.log_temperature
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.schedule.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1 and p is not own], "weight_decay": 0.0},
            *([{"params": [own], "weight_decay": 0.0, "lr": TEMPERATURE_RATE}] if own is not None else []),
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.schedule.learning_rate, fused=self._fuses(trained))
        steps = self.schedule.steps
        warmup = max(1, min(self.schedule.warmup, steps // 10))
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def _fuses(self, trained: Sequence[nn.Parameter]) -> bool:
        """Whether a step may be one pass over the weights: with whole gradients, in the scale of the loss."""
        if self._trainer and not (
            isinstance(self.trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
            and getattr(self.trainer.precision_plugin, "scaler", None) is None
        ):
            return False
        return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in trained)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning clips, which refuses a fused optimizer where a scaler might be, and none is here (`_fuses`)."""
        if optimizer.defaults.get("fused") and gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(trained, gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen base out: it is loaded from where it came."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {name: held for name, held in checkpoint["state_dict"].items() if name in trained}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Lightning does not look into our dataclass."""
        return batch.to(device)


def _mean_cosine(vectors: Float[Tensor, "texts dim"]) -> Float[Tensor, ""]:
    """The mean cosine of two different ones of some unit vectors."""
    count = len(vectors)
    return (vectors.sum(0).square().sum() - count) / (count * (count - 1))


def _sides(texts: Float[Tensor, "t d"], queries: Float[Tensor, "q d"] | None, widths: Sequence[int]) -> list[Side]:
    """The whole vectors, and the first numbers of each as unit vectors, at each width."""
    shorter = [(_unit(texts[:, :width]), None if queries is None else _unit(queries[:, :width])) for width in widths]
    return [(texts, queries), *shorter]


def _unit(vectors: Float[Tensor, "texts dim"]) -> Float[Tensor, "texts dim"]:
    return nn.functional.normalize(vectors, dim=-1)


def _taught(
    texts: Float[Tensor, "t d"], queries: Float[Tensor, "q d"] | None, batch: Batch
) -> tuple[Float[Tensor, "some d"], Float[Tensor, "some teacher_dim"]]:
    """Vectors of the tables of which there are a teacher's vectors, passages first, with those.

    Raises:
        Refused: There are none.
    """
    pairs = [(texts, batch.text_targets), (queries, batch.query_targets)]
    there = [(made, wanted) for made, wanted in pairs if made is not None and wanted is not None]
    if not there:
        raise Refused("train: none of `vectors` embeds these passages or queries. Name one that does.")
    return torch.cat([made for made, _ in there]), torch.cat([wanted for _, wanted in there])


def own(batch: Batch) -> Tensor:
    """Each query's own passages alone: no batch-mate's is a negative."""
    assert batch.listed is not None
    mask = torch.zeros(len(batch.listed), len(batch.texts.ids) + 1, dtype=torch.bool, device=batch.listed.device)
    return mask.scatter_(1, torch.where(batch.listed >= 0, batch.listed, mask.shape[1] - 1), True)[:, :-1]


def _useful(allowed: Bool[Tensor, "queries passages"], positive: Int[Tensor, "queries"]) -> Bool[Tensor, "queries"]:
    """Queries that have something to be told from; scored pairs, for CoSENT, stand alone."""
    return allowed.scatter(1, positive[:, None], False).any(1)


def _accuracy(
    scores: Float[Tensor, "queries passages"],
    positive: Int[Tensor, "queries"],
    allowed: Bool[Tensor, "queries passages"],
) -> Float[Tensor, ""]:
    """Share of queries whose positive comes before all passages that count against them."""
    kept = scores.masked_fill(~allowed.scatter(1, positive[:, None], True), float("-inf"))
    return multiclass_accuracy(kept, positive, num_classes=scores.shape[1], average="micro")
