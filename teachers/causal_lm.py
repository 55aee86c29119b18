"""A language model in this process: completes text, gives log-likelihoods, in batches sorted by length."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from distill import hub
from distill.encode import batches
from distill.errors import Refused
from distill.interfaces import LanguageModel
from distill.prompts import begun
from distill.runtime import best_device, computes_bf16

MESSAGE = "MESSAGE"
"""Stands for a user's message while a template is read."""

LOGITS = 128
"""Tokens whose logits over the vocabulary are held at once: 134 MB with Gemma's 262,144 words."""


class CausalLM(LanguageModel):
    """A causal transformer as the language model that writes and judges.

    Text that all prompts share is computed once and its keys and values are reused; so is a prompt after which several
    continuations are scored, as of a passage that is a candidate of several queries.

    Args:
        base: A hub name, a folder, or `package:NAME` for weights that a Python package carries.
        revision: Full commit of a hub name.
        chat: Whether what is asked is put to the model as a user's message, in the form of its own template. Prompts
            are made to be continued, which models that were taught to chat can mostly do too: try both.
        batch_tokens: Tokens that are read at once, padding included.
        seed: Of the initial weights, when the base has none.
    """

    def __init__(
        self, base: str, revision: str | None = None, chat: bool = False, batch_tokens: int = 4096, seed: int = 0
    ) -> None:
        folder = hub.locate(base, revision)
        device = best_device()
        dtype = torch.bfloat16 if computes_bf16(device) else torch.float32
        self._name = f"{base}@{revision}" if revision else base
        self._model = hub.pretrained(AutoModelForCausalLM, folder, seed=seed, dtype=dtype).eval().to(device)
        self._tokenizer = hub.tokenizer(folder, self._model)
        self._batch_tokens = batch_tokens
        self._head = self._model.get_output_embeddings()
        self._cached: tuple[str, list[int], DynamicCache] | None = None
        self._chat = chat
        self._before, self._after = self._frame(base) if chat else (self._start(), [])
        check_head(self._model)

    @property
    def name(self) -> str:
        """Base and revision."""
        return self._name

    def _ids(self, text: str) -> list[int]:
        # A passage that spells a control token is data, and commands nothing.
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def _start(self) -> list[int]:
        start = self._tokenizer.bos_token_id
        return [start] if start is not None else []

    def _frame(self, base: str) -> tuple[list[int], list[int]]:
        """What the model's template puts before a user's message, and between it and the answer."""
        if not self._tokenizer.chat_template:
            raise Refused(f"chat: {base} has no chat template, so it was not taught to chat. Leave `chat` out.")
        said = [{"role": "user", "content": MESSAGE}]
        form = str(
            self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        )
        parts = [self._tokenizer(part, add_special_tokens=False)["input_ids"] for part in form.split(MESSAGE)]
        if len(parts) != 2:
            raise Refused(f"chat: the template of {base} says a message {len(parts) - 1} times. Leave `chat` out.")
        return list(parts[0]), list(parts[1])

    def _answer(self, text: str) -> str:
        """What is expected of the model, as it would begin: an answer has no space before it."""
        return text.lstrip() if self._chat else text

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _rows(self, prompts: Sequence[str]) -> list[list[int]]:
        rows = [self._ids(prompt) for prompt in prompts]
        if empty := [number for number, ids in enumerate(rows) if not ids]:
            raise Refused(f"prompt {empty[0]} is empty; needed: text to go on from.")
        return [row + self._after for row in rows]

    @torch.inference_mode()
    def _shared(self, text: str) -> tuple[list[int], DynamicCache]:
        """Tokens of the text before every prompt, and their keys and values, of one row."""
        if self._cached is None or self._cached[0] != text:
            ids = self._before + self._ids(text)
            cache = DynamicCache()  # told of a sliding window, it would forget what `_read` moves back into it
            if ids:
                place = torch.tensor([ids], device=self._model.device)
                self._model.base_model(input_ids=place, past_key_values=cache, use_cache=True)
            self._cached = (text, ids, cache)
        return self._cached[1], self._cached[2]

    def _read(
        self, rows: Sequence[list[int]], shared: str
    ) -> tuple[Float[Tensor, "rows tokens width"], Bool[Tensor, "rows all_tokens"], DynamicCache]:
        """Last states of some rows after the shared text, padded on the left, so that the last place is real.

        The padding stands before the shared text, not behind it: a sliding window counts places, so a row's
        numbers would depend on its batch. A shorter row therefore reads the end of the shared text again.
        """
        before, held = self._shared(shared)
        longest = max(len(row) for row in rows)
        total = len(before) + longest
        device = self._model.device
        padding = torch.tensor([[longest - len(row)] for row in rows], device=device)
        ids = torch.tensor([([0] * longest + before + row)[-longest:] for row in rows], device=device)
        places = torch.arange(total, device=device) - padding
        mask = places >= 0
        places = places.clamp(min=0)
        cache = DynamicCache()
        for number, layer in enumerate(held.layers):
            assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
            keys, values = (kept[0][:, places[:, : len(before)]].transpose(0, 1) for kept in (layer.keys, layer.values))
            cache.update(keys, values, number)
        states = self._model.base_model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=places[:, len(before) :],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return states, mask, cache

    def _groups(self, lengths: Sequence[int], shared: str) -> Iterator[Int[np.ndarray, "chosen"]]:
        """Rows of like length, as many as the budget holds; the shared text is attended to by each."""
        yield from batches(np.asarray(lengths, np.int64), self._batch_tokens)

    @torch.inference_mode()
    def complete(
        self,
        prompts: Sequence[str],
        *,
        shared: str = "",
        stop: str,
        tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
    ) -> list[str]:
        """Continue each prompt."""
        rows = self._rows(prompts)
        found = [""] * len(rows)
        generator = torch.Generator(self._model.device).manual_seed(seed)
        for chosen in self._groups([len(row) + tokens for row in rows], shared):
            written = self._write([rows[i] for i in chosen], shared, stop, tokens, temperature, top_p, generator)
            for row, text in zip(chosen, written, strict=True):
                found[row] = begun(text, prompts[row]) if self._chat else text
        return found

    def _write(
        self,
        rows: Sequence[list[int]],
        shared: str,
        stop: str,
        tokens: int,
        temperature: float,
        top_p: float,
        generator: torch.Generator,
    ) -> list[str]:
        states, mask, cache = self._read(rows, shared)
        last = states[:, -1]
        alive = list(range(len(rows)))
        written: list[list[int]] = [[] for _ in rows]
        ends = self._model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        for _ in range(tokens):
            chosen = _sample(self._head(last).float(), temperature, top_p, generator)
            going = []
            for place, (row, token) in enumerate(zip(alive, chosen.tolist(), strict=True)):
                written[row].append(token)
                if token not in ends and stop not in self._text(written[row][-8:]):
                    going.append(place)
            if not going:
                break
            if len(going) < len(alive):  # a finished row costs as much as another: drop it
                keep = torch.tensor(going, device=mask.device)
                cache.batch_select_indices(keep)
                mask, chosen, alive = mask[keep], chosen[keep], [alive[place] for place in going]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], 1)
            last = self._model.base_model(
                input_ids=chosen[:, None],
                attention_mask=mask.long(),
                position_ids=(mask.sum(1) - 1)[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
        return [self._text(row).split(stop)[0] for row in written]

    @torch.inference_mode()
    def log_likelihood(
        self, prompts: Sequence[str], continuations: Sequence[str], *, shared: str = ""
    ) -> Float[np.ndarray, "prompts"]:
        """Log-probability of each continuation after its prompt, summed over its tokens, in nats."""
        before = self._rows(prompts)
        after = [self._ids(self._answer(text)) for text in continuations]
        if empty := [number for number, ids in enumerate(after) if not ids]:
            raise Refused(f"continuation {empty[0]} is empty; needed: text to score.")
        found = np.empty(len(prompts), np.float32)
        longest = max(map(len, after), default=0)
        # Equal prompts have one length here, and so come into one group or the next, where each is read once.
        for chosen in self._groups([len(ids) + longest for ids in before], shared):
            places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts[row] for row in chosen))}
            firsts = {prompts[row]: before[row] for row in chosen}
            rows = torch.tensor([places[prompts[row]] for row in chosen], device=self._model.device)
            said = self._continued([firsts[prompt] for prompt in places], rows, [after[row] for row in chosen], shared)
            found[chosen] = said.cpu().numpy()
        return found

    def _continued(
        self, prompts: Sequence[list[int]], rows: Int[Tensor, "texts"], texts: Sequence[list[int]], shared: str
    ) -> Float[Tensor, "texts"]:
        """Log-probability of each text after its prompt; `rows` says which prompt."""
        states, mask, cache = self._read(prompts, shared)
        told = states[rows, -1:]
        width = max(map(len, texts)) - 1
        if width:  # the last token of a text is told and never read
            cache.batch_select_indices(rows)
            mask = mask[rows]
            ids = torch.tensor([(text[:-1] + [0] * width)[:width] for text in texts], device=rows.device)
            inside = torch.arange(width, device=rows.device) < torch.tensor([[len(t) - 1] for t in texts]).to(rows)
            more = self._model.base_model(
                input_ids=ids,
                attention_mask=torch.cat([mask, inside], 1).long(),
                position_ids=mask.sum(1, keepdim=True) + torch.arange(width, device=rows.device),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            told = torch.cat([told, more], 1)
        real = torch.cat([told[place, : len(text)] for place, text in enumerate(texts)])
        wanted = torch.tensor([token for text in texts for token in text], device=rows.device)
        said = self._said(real, wanted).split([len(text) for text in texts])
        return torch.stack([each.sum() for each in said])

    def _said(self, states: Float[Tensor, "tokens width"], wanted: Int[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
        """Log-probability of each token; many at a time, for each reads the vocabulary's table from memory."""
        parts = []
        for state, token in zip(states.split(LOGITS), wanted.split(LOGITS), strict=True):
            logits = self._head(state).float()
            parts.append(logits.gather(1, token[:, None])[:, 0] - logits.logsumexp(1))
        return torch.cat(parts)

    @torch.inference_mode()
    def classify(
        self, prompts: Sequence[str], labels: Sequence[str], *, shared: str = ""
    ) -> Float[np.ndarray, "prompts labels"]:
        """Log-probability of each label's first token after each prompt, normalised over the labels, in nats."""
        firsts = [self._ids(self._answer(label))[0] for label in labels]
        if len(set(firsts)) < len(firsts):
            raise Refused(f"labels {list(labels)} begin with the same token; needed: labels that do not.")
        rows = self._rows(prompts)
        found = np.empty((len(rows), len(labels)), np.float32)
        head = self._head.weight[firsts].float()
        for chosen in self._groups([len(row) for row in rows], shared):
            states, _, _ = self._read([rows[i] for i in chosen], shared)
            found[chosen] = (states[:, -1].float() @ head.T).log_softmax(1).cpu().numpy()
        return found


@torch.inference_mode()
def check_head(model: PreTrainedModel) -> None:
    """Make sure that logits are the head's product with the last states, which is all that is computed here.

    Raises:
        Refused: The architecture caps or scales its logits.
    """
    ids = torch.tensor([[1, 2]], device=model.device)
    made = model.get_output_embeddings()(model.base_model(input_ids=ids).last_hidden_state)
    if not torch.allclose(model(input_ids=ids).logits, made, rtol=0.02, atol=0.02):
        raise Refused(
            f"{type(model).__name__} caps or scales its logits, so its likelihoods would be wrong here. "
            "Use a plain decoder (Mistral, Llama, Qwen2, Qwen3, Gemma3, Phi3)."
        )


def _sample(
    logits: Float[Tensor, "rows vocabulary"], temperature: float, top_p: float, generator: torch.Generator
) -> Int[Tensor, "rows"]:
    """One token a row: the likeliest at temperature 0, else drawn from the least set with probability `top_p`."""
    if temperature == 0:
        return logits.argmax(1)
    # The least set lies within the likeliest few hundred; sorting the whole vocabulary would cost more than the model.
    values, tokens = (logits / temperature).softmax(1).topk(min(256, logits.shape[1]), dim=1)
    kept = values.cumsum(1) - values < top_p
    drawn = torch.multinomial(values * kept, 1, generator=generator)
    return tokens.gather(1, drawn)[:, 0]
