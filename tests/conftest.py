"""Small random models on disk and a small corpus, seeded, made once a session without a network."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from distill.console import console
from distill.readers import JSONL
from distill.stages.ingest import ingest

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    """A terminal of one width, whoever runs the tests."""
    before, console.width = console.width, 120
    yield
    console.width = before


def sentences() -> list[str]:
    """The texts of the small corpus."""
    return [json.loads(line)["text"] for line in (DATA / "passages.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Sixty sentences of our own."""
    return sentences()


@pytest.fixture(scope="session")
def bare_decoder() -> Path:
    """A decoder's configuration and tokenizer without weights, as configs/tiny.yaml uses it."""
    return DATA / "decoder"


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma3 decoder: weights wide enough to tell texts apart, and a sliding window shorter than a prompt."""
    folder = tmp_path_factory.mktemp("decoder")
    alone = tokenizers.Tokenizer(tokenizers.models.BPE())
    alone.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alone.decoder = tokenizers.decoders.ByteLevel()
    special = ["<pad>", "<eos>", "<bos>"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    alone.train_from_iterator([*sentences(), *["Answer: Yes", "Answer: No"] * 20], trainer)
    names = dict(zip(("pad_token", "eos_token", "bos_token"), special, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=alone, **names).save_pretrained(folder)
    config = transformers.Gemma3TextConfig(
        vocab_size=alone.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16, sliding_window=16,
        layer_types=["sliding_attention", "full_attention"], max_position_embeddings=512, initializer_range=0.3,
        pad_token_id=0, eos_token_id=1, bos_token_id=2, tie_word_embeddings=False,  # tied, it repeats one token
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        transformers.Gemma3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of three layers with weights, dropout and a WordPiece tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    transformers.AutoTokenizer.from_pretrained(DATA / "encoder").save_pretrained(folder)
    config = transformers.BertConfig.from_pretrained(DATA / "encoder", num_hidden_layers=3, initializer_range=0.2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of sixty passages with questions about them and classes."""
    out = tmp_path_factory.mktemp("run") / "corpus"
    asked = JSONL(path=DATA / "questions.jsonl", kind="retrieval", task="Given a question, find its answer")
    named = JSONL(path=DATA / "passages.jsonl", kind="classification", task="Identify the topic of the text")
    ingest(sources=(JSONL(path=DATA / "passages.jsonl"), asked, named), negatives=3, out=out)
    return out


@pytest.fixture
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teachers in fp32 where the processor has bf16 too: what is compared here differs by less than bf16 rounds."""
    for module in ("teachers.decoder", "teachers.causal_lm"):
        monkeypatch.setattr(f"{module}.computes_bf16", lambda where: False)


def pytest_collection_finish() -> None:
    """Every working stage collects garbage: what the libraries hold for good need not be walked each time."""
    gc.collect()
    gc.freeze()
