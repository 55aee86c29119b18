"""A checkpoint in the layout that NV-Embed's authors published is read whole, and gives the vectors of their code."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from reference import latent_attention
from safetensors.torch import save_file
from torch import Tensor

from distill import prompts
from distill.errors import Refused
from teachers import LatentAttention, NVEmbed

pytestmark = pytest.mark.usefixtures("fp32")

LATENTS, HEADS, WIDTH = 5, 3, 16
TASK = "Given a question, retrieve passages that answer the question"
TEXTS = ["are judo throws allowed in wrestling?", "Salt slows the yeast down.", "fog"]


def mistral() -> transformers.MistralModel:
    """Random weights, and a window shorter than the texts, which the published code does not apply."""
    config = transformers.MistralConfig(
        vocab_size=400, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=256, initializer_range=0.3, sliding_window=4,
        attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(21)
    return transformers.MistralModel(config).eval()


def block() -> LatentAttention:
    made = LatentAttention(WIDTH, LATENTS, HEADS)
    generator = torch.Generator().manual_seed(22)
    with torch.no_grad():
        for held in made.parameters():
            held.copy_(torch.randn(held.shape, generator=generator) * 0.4)
    return made


@pytest.fixture
def folder(decoder: Path, tmp_path: Path) -> Path:
    """As published: two shards and their index, prefixed names, and a configuration that leads to code."""
    out = tmp_path / "NV-Embed"
    out.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(decoder / name, out / name)
    model = mistral()
    weights = {f"latent_attention_model.{name}": held for name, held in block().state_dict().items()}
    weights |= {f"embedding_model.{name}": held for name, held in model.state_dict().items()}
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, held in shards.items():
        save_file({name: weights[name].contiguous() for name in held}, out / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))
    text = {name: held for name, held in model.config.to_dict().items() if name != "_attn_implementation_internal"}
    config = {
        "architectures": ["NVEmbedModel"],
        "auto_map": {"AutoModel": "modeling_nvembed.NVEmbedModel"},
        "model_type": "nvembed",
        "text_config": {**text, "model_type": "bidir_mistral", "auto_map": {"AutoModel": "x.Y"}},
        "latent_attention_config": {"model_type": "latent_attention"},
        "is_mask_instruction": True, "add_eos": True, "mask_type": "b", "padding_side": "right",
    }  # fmt: skip
    (out / "config.json").write_text(json.dumps(config))
    return out


@torch.inference_mode()
def as_published(model: NVEmbed, text: str, task: str) -> Tensor:
    """One text: every token sees every other, instruction and beginning out of the mean, or nothing if it has none."""
    instruction = prompts.instruction(task)
    tokenizer = model.tokenizer
    ids = [tokenizer.bos_token_id, *tokenizer(instruction + text, add_special_tokens=False)["input_ids"]]
    ids.append(tokenizer.eos_token_id)
    ours = model.tokenize([text], [task])
    assert ours.ids.tolist() == ids
    told = int(ours.unpooled[0])
    assert told == 0 if not task else tokenizer.decode(ids[1:told]) == instruction.rstrip()
    backbone = mistral()
    mask = torch.zeros(1, 1, len(ids), len(ids))  # added to the logits: all are seen
    states = backbone(input_ids=torch.tensor([ids]), attention_mask=mask).last_hidden_state
    pool = torch.arange(len(ids))[None] >= told
    vector = latent_attention(block().double().state_dict(), HEADS, states.double(), pool)[0]
    return vector / vector.norm()


def test_it_gives_the_published_vectors(folder: Path) -> None:
    """Harm: 15 GB are loaded with a part left at random, causal, windowed, or pooled otherwise, and look well."""
    model = NVEmbed.from_published(folder, length=128).eval()
    for tasks in (None, [TASK, "", TASK]):
        with torch.inference_mode():
            found = model(model.tokenize(TEXTS, tasks).take(np.arange(len(TEXTS))))
        for number, text in enumerate(TEXTS):
            wanted = as_published(model, text, tasks[number] if tasks else "")
            torch.testing.assert_close(found[number].double(), wanted, rtol=0, atol=2e-5)


def test_it_can_be_named_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    """Harm: a config cannot name it as a base; or what is trained from it comes back over another block."""
    model = NVEmbed.from_published(folder, length=64).eval()
    named = NVEmbed(str(folder), latents=LATENTS, heads=HEADS, length=64).eval()
    rows = model.tokenize(TEXTS, [TASK] * 3).take(np.arange(3))
    with torch.inference_mode():
        wanted = model(rows)
        assert torch.equal(named(rows), wanted)
        for trained in ("lora", "all"):
            (tmp_path / trained).mkdir()
            NVEmbed(str(folder), latents=LATENTS, heads=HEADS, length=64, trained=trained).save(tmp_path / trained)  # type: ignore[arg-type]
            back = NVEmbed.load(tmp_path / trained).eval()
            torch.testing.assert_close(back(rows), wanted, rtol=0, atol=1e-6)
            assert back.tokenize(["fog"]).unpooled[0] == 0  # the beginning is pooled, as the published code does


def test_another_folder_is_refused(folder: Path, decoder: Path) -> None:
    """Harm: a traceback from deep inside, or a model with another's block."""
    with pytest.raises(Refused, match="no published NV-Embed"):
        NVEmbed.from_published(decoder)
    with pytest.raises(Refused, match="has 5 latents and 3 heads, not 512 and 8"):
        NVEmbed(str(folder))
    held = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**held, "text_config": {"model_type": "bert"}}))
    with pytest.raises(Refused, match="not of a Mistral"):
        NVEmbed.from_published(folder)
    (folder / "config.json").write_text(json.dumps(held))
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(Refused):
        NVEmbed.from_published(folder)


def test_code_beside_it_is_still_refused(folder: Path) -> None:
    """Harm: what is read by our own code becomes the way in for somebody else's."""
    told = json.loads((folder / "tokenizer_config.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "auto_map": {"AutoTokenizer": ["x.Y", None]}}))
    with pytest.raises(Refused, match="auto_map"):
        NVEmbed.from_published(folder)
