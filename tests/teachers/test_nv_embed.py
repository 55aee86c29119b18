"""A decoder embeds as NV-Embed does: both ways, without the instruction in the mean, whatever the batch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from shaking import shaken
from torch import Tensor

from distill import prompts
from distill.errors import Refused
from distill.interfaces import TokenRows, Tokens
from teachers import NVEmbed

pytestmark = pytest.mark.usefixtures("fp32")

TASK = "Find an answer"
TEXTS = ["how do owls fly", "Salt slows the yeast down, so dough without salt rises fast.", "fog", "where is the sea"]


@pytest.fixture(scope="module")
def embedder(decoder: Path) -> NVEmbed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("teachers.decoder.computes_bf16", lambda where: False)
        return shaken(NVEmbed(str(decoder), latents=8, heads=2, rank=4, length=40, seed=1))


@torch.inference_mode()
def vectors(model: NVEmbed, texts: list[str], tasks: list[str] | None = None) -> Tensor:
    found: Tensor = model(model.tokenize(texts, tasks).take(np.arange(len(texts))))
    return found


@torch.inference_mode()
def states(model: NVEmbed, tokens: Tokens) -> Tensor:
    found: Tensor = model.backbone(input_ids=tokens.ids, attention_mask=tokens.attend.long()).last_hidden_state
    return found


def test_a_late_token_changes_an_early_state(embedder: NVEmbed) -> None:
    """Harm: the causal mask stays on, and every token but the last knows half of its text."""
    tokens = embedder.tokenize(["one two three four five", "fog"]).take(np.arange(2))
    for training in (False, True):
        for module in embedder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        embedder.train(training)
        before = states(embedder, tokens)
        ids = tokens.ids.clone()
        last = int(tokens.attend[0].sum()) - 1
        ids[0, last] = 7
        after = states(embedder, Tokens(ids, tokens.attend, tokens.pool))
        assert (before[0, 0] - after[0, 0]).abs().max() > 1e-4
        assert torch.equal(before[1], after[1])
    embedder.eval()


def test_a_base_that_stays_causal_is_refused(tmp_path: Path, decoder: Path) -> None:
    """Harm: an architecture ignores the switch without a word, and the teacher is half as good."""
    transformers.AutoTokenizer.from_pretrained(decoder).save_pretrained(tmp_path)
    transformers.GPTNeoConfig(
        vocab_size=400, hidden_size=32, num_layers=2, num_heads=2, attention_types=[[["global"], 2]],
        max_position_embeddings=64, bos_token_id=2, eos_token_id=1,
    ).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(Refused, match="GPTNeoModel stays causal"):
        NVEmbed(str(tmp_path), latents=4, heads=1, rank=2)


def test_the_instruction_is_attended_to_and_not_pooled(embedder: NVEmbed) -> None:
    """Harm: all queries of a task look alike because they share the words of the instruction."""
    rows = embedder.tokenize(TEXTS, [TASK, "", TASK, "Say the same"])
    start = embedder.tokenizer.bos_token_id
    for number, task in enumerate([TASK, "", TASK, "Say the same"]):
        ids = rows.ids[rows.starts[number] : rows.starts[number + 1]].tolist()
        pooled = ids[rows.unpooled[number] :]
        assert ids[0] == start and pooled[-1] == embedder.tokenizer.eos_token_id
        before, text = embedder.tokenizer.decode(ids[1 : rows.unpooled[number]]), embedder.tokenizer.decode(pooled[:-1])
        # the last space of the instruction belongs to the text's first token, as byte-level tokenizers have it
        assert before == prompts.instruction(task).rstrip(" ")
        assert text.lstrip(" ") == TEXTS[number]
    other, same = vectors(embedder, TEXTS[:1], [TASK]), vectors(embedder, TEXTS[:1], ["Say the same"])
    assert (other - same).abs().max() > 1e-4  # attended to
    tokens = rows.take(np.array([0]))
    made = states(embedder, tokens)
    assert embedder.pooling is not None
    noise = torch.where(tokens.pool.unsqueeze(-1), made, torch.full_like(made, 50.0))
    with torch.inference_mode():
        assert torch.equal(embedder.pooling(made, tokens.pool), embedder.pooling(noise, tokens.pool))  # not pooled


def test_the_beginning_is_not_pooled_and_the_end_is(embedder: NVEmbed) -> None:
    """Harm: the first state, a sink of attention in most decoders, drowns the text; or a cut text loses its end."""
    long = "owls " * 100
    rows = embedder.tokenize(["fog", long, ""])
    assert rows.unpooled.tolist() == [1, 1, 1]
    assert rows.lengths[1] == embedder.length == 40
    for number in range(3):
        ids = rows.ids[rows.starts[number] : rows.starts[number + 1]]
        assert ids[0] == embedder.tokenizer.bos_token_id and ids[-1] == embedder.tokenizer.eos_token_id
    cut = embedder.tokenize([long], [TASK])
    assert cut.lengths[0] == 40 and cut.ids[-1] == embedder.tokenizer.eos_token_id
    assert rows.take(np.array([2])).pool.sum() == 1  # an empty text is its end alone


def test_a_text_that_is_all_instruction_is_refused_with_its_row(embedder: NVEmbed) -> None:
    """Harm: nothing is left to pool, and the vector is zero or not a number."""
    long = "Find " * 60
    for text in ("fog", ""):
        with pytest.raises(Refused, match=r"text 2 is all instruction: .* Shorten the task, or raise `length`"):
            embedder.tokenize(["a", "b", text], ["", TASK, long])
    edge = [count for count in range(1, 60) if _fits(embedder, "ab " * count)]
    assert edge == list(range(1, len(edge) + 1)) and len(edge) > 3
    vector = vectors(embedder, ["fog"], ["ab " * len(edge)])
    assert vector.isfinite().all() and vector.norm() == pytest.approx(1, abs=1e-5)


def _fits(embedder: NVEmbed, task: str) -> bool:
    try:
        rows = embedder.tokenize(["fog"], [task])
    except Refused:
        return False
    assert rows.unpooled[0] < rows.lengths[0] - 1  # a token of the text and the end
    return True


def test_vectors_do_not_depend_on_their_batch(embedder: NVEmbed) -> None:
    """Harm: a text's vector depends on who stands beside it, and mining with it on the day's batches."""
    tasks = [TASK, "", TASK, "Say the same"]
    together = vectors(embedder, TEXTS, tasks)
    for number in range(len(TEXTS)):
        alone = vectors(embedder, [TEXTS[number]], [tasks[number]])
        torch.testing.assert_close(alone[0], together[number], rtol=0, atol=1e-5)
    rows = embedder.tokenize(TEXTS, tasks)
    tokens = rows.take(np.arange(len(TEXTS)))
    wide = Tokens(*(torch.nn.functional.pad(part, (0, 9)) for part in (tokens.ids, tokens.attend, tokens.pool)))
    with torch.inference_mode():
        torch.testing.assert_close(embedder(wide), together, rtol=0, atol=1e-5)
        torch.testing.assert_close(embedder(rows.take(np.array([3, 1]))), together[[3, 1]], rtol=0, atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(len(TEXTS)))


def test_adapters_and_pooling_alone_are_trained(embedder: NVEmbed) -> None:
    """Harm: the whole base is trained, which no memory holds; or the pooling block is not."""
    names = {name for name, held in embedder.named_parameters() if held.requires_grad}
    assert all("lora_" in name or name.startswith("pooling.") for name in names)
    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert sum("lora_A" in name for name in names) == 2 * len(linear)
    assert embedder.pooling is not None
    assert sum(name.startswith("pooling.") for name in names) == len(list(embedder.pooling.parameters()))


@pytest.mark.parametrize("pooling", ["latent_attention", "mean"])
def test_what_is_saved_is_what_is_loaded(decoder: Path, tmp_path: Path, pooling: str) -> None:
    """Harm: adapters are saved under names that loading passes over, and the teacher is its base again."""
    settings = {"latents": 8, "heads": 2, "rank": 4, "length": 30, "dropout": 0.2}
    model = shaken(NVEmbed(str(decoder), pooling=pooling, seed=3, **settings))  # type: ignore[arg-type]
    model.save(tmp_path)
    torch.manual_seed(77)
    back = NVEmbed.load(tmp_path).eval()
    assert torch.equal(vectors(model, TEXTS, [TASK] * 4), vectors(back, TEXTS, [TASK] * 4))
    assert torch.equal(vectors(model, TEXTS), vectors(back, TEXTS))
    assert (vectors(model, TEXTS) - vectors(NVEmbed(str(decoder), seed=3, **settings).eval(), TEXTS)).abs().max() > 0.01
    assert json.loads((tmp_path / "decoder.json").read_bytes())["length"] == 30
    with safe_open(tmp_path / "adapters.safetensors", "pt") as held:
        assert all("lora_" in name for name in held.keys())  # noqa: SIM118 no mapping


def test_a_start_without_weights_follows_its_seed_alone(bare_decoder: Path, tmp_path: Path) -> None:
    """Harm: a saved teacher comes back over another random base."""
    state = torch.random.get_rng_state()
    made = [shaken(NVEmbed(str(bare_decoder), latents=4, heads=1, rank=2, seed=seed)) for seed in (1, 1, 2)]
    assert torch.equal(state, torch.random.get_rng_state())
    first, again, other = (vectors(model, TEXTS) for model in made)
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-2)
    made[2].save(tmp_path)
    assert torch.equal(vectors(NVEmbed.load(tmp_path).eval(), TEXTS), other)


def test_dropout_acts_while_training_alone(decoder: Path) -> None:
    """Harm: vectors are drawn at random, or training is without the regularisation that it says."""
    model = shaken(NVEmbed(str(decoder), latents=8, heads=2, rank=4, dropout=0.5))
    assert torch.equal(vectors(model, TEXTS), vectors(model, TEXTS))
    model.train()
    assert not torch.equal(vectors(model, TEXTS), vectors(model, TEXTS))


def test_a_tokenizer_without_an_end_is_refused(decoder: Path, tmp_path: Path) -> None:
    """Harm: the token that is pooled last is another one in each text."""
    shutil.copytree(decoder, tmp_path / "base")
    told = json.loads((tmp_path / "base" / "tokenizer_config.json").read_bytes())
    del told["eos_token"]
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(told))
    with pytest.raises(Refused, match="no end-of-sequence token"):
        NVEmbed(str(tmp_path / "base"))


def test_no_texts_are_no_error(embedder: NVEmbed) -> None:
    """Harm: an empty part of a table ends a run."""
    rows = embedder.tokenize([])
    assert isinstance(rows, TokenRows) and len(rows) == 0


def test_a_control_token_spelled_in_a_text_is_text(embedder: NVEmbed) -> None:
    """Harm: documentation about tokenizers is cut into sequences, and its vectors are of something else."""
    rows = embedder.tokenize(["before <eos> and <bos> after"], ["about <eos>"])
    assert rows.ids.tolist().count(embedder.tokenizer.eos_token_id) == 1
    assert rows.ids.tolist().count(embedder.tokenizer.bos_token_id) == 1
    assert "before <eos> and <bo" in embedder.tokenizer.decode(rows.ids.tolist()[1:-1])
