"""What a decoder is trained by, saved as and asked with; and the presets, which are it with other papers' choices."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from shaking import shaken
from torch import Tensor

from distill.errors import Refused
from teachers import Decoder, E5Mistral, GTEQwen2, LlamaEmbedNemotron, NVEmbed

pytestmark = pytest.mark.usefixtures("fp32")

TEXTS = ["how do owls fly", "Salt slows the yeast down, so dough without salt rises fast.", "fog"]
TASK = "Find an answer"
PRESETS = (NVEmbed, E5Mistral, GTEQwen2, LlamaEmbedNemotron)


@torch.inference_mode()
def vectors(model: Decoder, tasks: list[str] | None = None) -> Tensor:
    found: Tensor = model(model.tokenize(TEXTS, tasks).take(np.arange(len(TEXTS))))
    return found


@pytest.mark.parametrize("pooling", ["latent_attention", "multi_layer", "last_token"])
def test_every_weight_can_be_trained_and_comes_back(decoder: Path, tmp_path: Path, pooling: str) -> None:
    """Harm: a teacher that was trained whole is saved as its base, and days are lost without a word."""
    model = shaken(Decoder(str(decoder), trained="all", pooling=pooling, latents=4, heads=2, length=40))  # type: ignore[arg-type]
    assert all(held.requires_grad for held in model.parameters())
    model.save(tmp_path)
    assert torch.equal(vectors(Decoder.load(tmp_path).eval(), [TASK] * 3), vectors(model, [TASK] * 3))


@pytest.mark.parametrize("preset", [Decoder, *PRESETS])
def test_merged_it_is_the_same_model(decoder: Path, tmp_path: Path, preset: type[Decoder]) -> None:
    """Harm: adapters are merged at another scale, or twice, and what is shipped is not what was measured."""
    model = shaken(preset(str(decoder), trained="lora", rank=2, length=40))
    wanted = vectors(model, [TASK] * 3)
    assert (wanted - vectors(preset(str(decoder), rank=2, length=40).eval(), [TASK] * 3)).abs().max() > 1e-3
    model.merge()
    torch.testing.assert_close(vectors(model, [TASK] * 3), wanted, rtol=0, atol=1e-5)
    assert not any("lora" in name for name, _ in model.named_parameters())
    model.save(tmp_path)
    back = preset.load(tmp_path).eval()
    assert type(back) is preset
    torch.testing.assert_close(vectors(back, [TASK] * 3), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_saved_and_loaded(decoder: Path, tmp_path: Path, preset: type[Decoder]) -> None:
    """Harm: a preset comes back with the choices of another paper."""
    model = shaken(preset(str(decoder), trained="lora", rank=2, length=30))
    model.save(tmp_path)
    assert torch.equal(vectors(preset.load(tmp_path).eval(), [TASK] * 3), vectors(model, [TASK] * 3))
    assert set(model.settings) == set(inspect.signature(preset).parameters)


def test_presets_attend_and_pool_as_their_papers_say(decoder: Path) -> None:
    """Harm: E5 sees ahead, GTE does not, or Nemotron leaves its instruction out: each still gives vectors."""
    made = {
        preset: preset(str(decoder), trained="lora", length=60).eval()
        for preset in (E5Mistral, GTEQwen2, LlamaEmbedNemotron)
    }
    for preset, model in made.items():
        tokens = model.tokenize(TEXTS[:1], [TASK]).take(np.arange(1))
        changed = tokens.ids.clone()
        changed[0, -1] = 9
        with torch.inference_mode():
            mask = tokens.attend.long()
            states = [
                model.backbone(input_ids=ids, attention_mask=mask).last_hidden_state for ids in (tokens.ids, changed)
            ]
            vector = model(tokens)[0]
        assert torch.equal(states[0][0, 0], states[1][0, 0]) is (preset is E5Mistral)
        pooled = states[0][0].mean(0) if preset is LlamaEmbedNemotron else states[0][0, -1]
        torch.testing.assert_close(vector, torch.nn.functional.normalize(pooled, dim=0), rtol=0, atol=1e-6)


def test_the_template_is_what_stands_before_a_query(decoder: Path) -> None:
    """Harm: Qwen3-Embedding is asked with a space that its authors leave out, and nothing says why scores fall."""
    model = Decoder(str(decoder), template="Instruct: {task}\nQuery:", rank=2, length=60)
    rows = model.tokenize(["fog"], [TASK])
    assert model.tokenizer.decode(rows.ids.tolist()[1:-1]) == f"Instruct: {TASK}\nQuery:fog"
    assert model.tokenizer.decode(rows.ids.tolist()[rows.unpooled[0] : -1]) == "fog"
    with pytest.raises(Refused, match="no place for the instruction"):
        Decoder(str(decoder), template="query: ")


def test_four_bits_need_a_gpu(decoder: Path) -> None:
    """Harm: a missing library is found out in the middle of loading 15 GB."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(Refused, match="qlora needs a GPU and the package bitsandbytes"):
        Decoder(str(decoder), trained="qlora")


@pytest.mark.parametrize("kind", [Decoder, NVEmbed, E5Mistral])
@pytest.mark.parametrize("trained", ["lora", "all"])
def test_some_layers_of_a_base(decoder: Path, tmp_path: Path, trained: str, kind: type[Decoder]) -> None:
    """Harm: what was trained with six layers comes back with eighteen, or with six others."""
    settings = {"rank": 2, "length": 40, "trained": trained}
    model = shaken(kind(str(decoder), layers=(1,), **settings))  # type: ignore[arg-type]
    whole = kind(str(decoder), **settings).eval()  # type: ignore[arg-type]
    assert sum("input_layernorm" in name for name, _ in model.named_parameters()) == 1
    assert not torch.allclose(vectors(model), vectors(whole), atol=1e-3)
    model.save(tmp_path)
    assert torch.equal(vectors(kind.load(tmp_path).eval()), vectors(model))


@pytest.mark.parametrize("kind", [Decoder, E5Mistral])
def test_an_encoder_is_told_from_a_decoder(encoder: Path, kind: type[Decoder]) -> None:
    """Harm: whoever names a BERT reads of a token at the end of a sequence, and looks for another tokenizer."""
    said = r"a BertModel is an encoder, which sees both ways by itself\. Say class_path: students\.Encoder"
    with pytest.raises(Refused, match=said):
        kind(str(encoder))


def test_a_causal_model_over_a_base_that_was_bidirectional_is_causal(decoder: Path, tmp_path: Path) -> None:
    """Harm: the switch is stored with the weights, and whoever goes on from them cannot turn it back."""
    Decoder(str(decoder), trained="all", length=20).save(tmp_path)
    model = Decoder(str(tmp_path / "base"), attention="causal", rank=2, length=20).eval()
    ids = torch.tensor([[2, 5, 6, 7], [2, 5, 6, 8]])
    with torch.inference_mode():
        states = model.backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert torch.equal(states[0, :3], states[1, :3])
