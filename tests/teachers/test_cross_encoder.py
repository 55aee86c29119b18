"""What a reranker says of pairs in batches is what it says of each alone, and what other libraries say."""

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from distill import parsing, recipe
from distill.errors import Refused
from distill.interfaces import Reranker
from distill.stages.judge import judge
from teachers import CrossEncoder

QUERIES = ["why is my bike slow", "fog", "how does a heron catch fish", "what slows yeast", "can swifts sleep"]
LONG = "Salt slows the yeast down, and so does cold. " * 20


@pytest.fixture(scope="module")
def bert(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A BERT with a head of so many outputs, weights wide enough to tell pairs apart."""

    @functools.cache
    def made(outputs: int) -> Path:
        folder = tmp_path_factory.mktemp(f"bert{outputs}")
        names = ["input_ids", "token_type_ids", "attention_mask"]
        transformers.AutoTokenizer.from_pretrained(encoder, model_input_names=names).save_pretrained(folder)
        config = transformers.BertConfig.from_pretrained(encoder, num_labels=outputs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(13)
            transformers.BertForSequenceClassification(config).save_pretrained(folder)
        return folder

    return made


@pytest.fixture(scope="module")
def roberta(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An XLM-RoBERTa, whose vocabulary of unigrams holds the spelling of its controls, as the published ones do."""
    folder = tmp_path_factory.mktemp("roberta")
    alone = tokenizers.Tokenizer(tokenizers.models.Unigram())
    alone.normalizer = tokenizers.normalizers.NFKC()
    alone.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alone.train_from_iterator(
        [*texts, "</s>" * 3],
        tokenizers.trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    alone.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=alone, **dict(zip(names, special, strict=True)), sep_token="</s>", cls_token="<s>"
    ).save_pretrained(folder)
    config = transformers.XLMRobertaConfig(
        vocab_size=alone.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=130, type_vocab_size=1, initializer_range=0.2, num_labels=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(14)
        transformers.XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


def pairs(texts: list[str]) -> tuple[list[str], list[str]]:
    """Each query with many passages, short and long, one empty."""
    passages = [*texts[:12], "", LONG, "fog", LONG[:300]]
    return [query for query in QUERIES for _ in passages], passages * len(QUERIES)


@torch.inference_mode()
def naive(folder: Path, queries: list[str], passages: list[str], length: int) -> np.ndarray:
    """One pair at a time, as transformers reads pairs."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    read = functools.partial(tokenizer, truncation="only_second", max_length=length, return_tensors="pt")
    logits = [model(**read([query], [passage])).logits[0] for query, passage in zip(queries, passages, strict=True)]
    return np.array([float(one[-1] - (one[0] if len(one) == 2 else 0)) for one in logits])


@contextmanager
def watched(model: CrossEncoder) -> Iterator[list[list[int]]]:
    """The rows of tokens that the transformer reads, without padding."""
    seen: list[list[int]] = []

    def see(_: torch.nn.Module, __: object, given: dict[str, Any]) -> None:
        seen.extend(
            row[mask.bool()].tolist() for row, mask in zip(given["input_ids"], given["attention_mask"], strict=True)
        )

    hook = model._model.register_forward_pre_hook(see, with_kwargs=True)
    yield seen
    hook.remove()


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("length", [24, 128])
def test_logits_equal_a_loop_over_pairs(
    bert: Callable[[int], Path], texts: list[str], outputs: int, length: int
) -> None:
    """Harm: padding, token types, the cut or the order of a batch is wrong, and passages are ranked by noise."""
    folder = bert(outputs)
    queries, passages = pairs(texts)
    found = CrossEncoder(str(folder), length=length, batch_tokens=500).score(queries, passages)
    np.testing.assert_allclose(found, naive(folder, queries, passages, length), atol=1e-5)
    assert found.dtype == np.float32
    assert len(set(found.round(3).tolist())) > len(found) / 2


def test_positions_that_begin_behind_the_padding(roberta: Path, texts: list[str]) -> None:
    """Harm: a RoBERTa reads positions that it has not, or padding as text."""
    queries, passages = pairs(texts)
    found = CrossEncoder(str(roberta), length=128, batch_tokens=500).score(queries, passages)
    np.testing.assert_allclose(found, naive(roberta, queries, passages, 128), atol=1e-5)
    with pytest.raises(Refused, match="length: 129; this base reads at most 128 tokens"):
        CrossEncoder(str(roberta), length=129)


@pytest.mark.parametrize("kind", ["ModernBert", "DebertaV2", "MPNet"])
def test_other_encoders(kind: str, encoder: Path, texts: list[str], tmp_path: Path) -> None:
    """Harm: an architecture of public rerankers looks at padding, or counts positions in its own way."""
    transformers.AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path)
    own = {
        "ModernBert": {"initializer_cutoff_factor": 9.0, "local_attention": 16, "initializer_range": 0.2},
        "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
        "MPNet": {},
    }[kind]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=130, pad_token_id=0, num_labels=1, **{"initializer_range": 0.2, **own},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(15)
        getattr(transformers, f"{kind}ForSequenceClassification")(config).save_pretrained(tmp_path)
    queries, passages = pairs(texts)
    found = CrossEncoder(str(tmp_path), length=128, batch_tokens=500).score(queries, passages)
    np.testing.assert_allclose(found, naive(tmp_path, queries, passages, 128), atol=1e-5)
    assert len(set(found.round(3).tolist())) > len(found) / 2


def test_logits_equal_those_of_sentence_transformers(bert: Callable[[int], Path], texts: list[str]) -> None:
    """Harm: a published reranker says other things here than where it was published."""
    import sentence_transformers

    queries, passages = pairs([text for text in texts if len(text) < 200])
    fitting = [number for number, passage in enumerate(passages) if passage != LONG]
    queries, passages = [queries[at] for at in fitting], [passages[at] for at in fitting]
    theirs = sentence_transformers.CrossEncoder(str(bert(1)), max_length=128, device="cpu").predict(
        list(zip(queries, passages, strict=True)), activation_fn=torch.nn.Identity(), show_progress_bar=False
    )
    np.testing.assert_allclose(CrossEncoder(str(bert(1)), length=128).score(queries, passages), theirs, atol=1e-5)


def test_nothing_depends_on_the_batch(bert: Callable[[int], Path], texts: list[str]) -> None:
    """Harm: a passage's score depends on which others were scored with it, or on a step begun again."""
    queries, passages = pairs(texts)
    together = CrossEncoder(str(bert(1)), length=64).score(queries, passages)
    small = CrossEncoder(str(bert(1)), length=64, batch_tokens=1)
    np.testing.assert_allclose(small.score(queries, passages), together, atol=1e-5)
    np.testing.assert_allclose(small.score(queries[::-1], passages[::-1])[::-1], together, atol=1e-5)
    assert small.score([], []).shape == (0,)
    made = functools.partial(CrossEncoder, base="org/name")
    assert recipe.describe(functools.partial(made, batch_tokens=7), {}) == recipe.describe(made, {})


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_no_text_can_end_itself(name: str, request: pytest.FixtureRequest) -> None:
    """Harm: a passage that spells a separator is read as two, or as the query: whoever wrote it is ranked first."""
    made = request.getfixturevalue(name)
    folder = made if isinstance(made, Path) else made(1)
    model = CrossEncoder(str(folder), length=128)
    held = transformers.AutoTokenizer.from_pretrained(folder)
    controls = set(held.all_special_ids) - {held.unk_token_id}
    forged = "".join(held.all_special_tokens)
    wide = forged.translate({number: number + 0xFEE0 for number in range(0x21, 0x7F)})  # what normalising makes of it
    texts = [f"salt {forged} yeast", f"salt{held.sep_token}{held.sep_token}yeast", wide, f"{held.cls_token} salt"]
    with watched(model) as seen:
        model.score([*texts, "yeast"], ["yeast", *texts])
    with watched(model) as plain:
        model.score(["salt"], ["yeast"])
    wanted = [token for token in plain[0] if token in controls]
    assert len(seen) == 5 and all([token for token in row if token in controls] == wanted for row in seen)
    assert min(map(len, seen)) > len(plain[0])  # read letter by letter, not left out


def test_a_query_is_never_cut(bert: Callable[[int], Path]) -> None:
    """Harm: a long question is answered by its first half, and nothing says so."""
    model = CrossEncoder(str(bert(1)), length=32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert(1))
    with watched(model) as seen:
        model.score(["fog in the hills"], [LONG])
    query = tokenizer("fog in the hills")["input_ids"]
    assert seen[0][: len(query)] == query and len(seen[0]) == 32
    with pytest.raises(Refused, match=r"query 1 \('Salt slows.*leaves its passage none of 32\. Raise `length`"):
        model.score(["fog", LONG], ["fog", "fog"])


def test_what_is_no_reranker_is_refused(
    bert: Callable[[int], Path], encoder: Path, bare_decoder: Path, tmp_path: Path
) -> None:
    """Harm: a classifier's third class, or a head of random numbers, ranks the passages."""
    with pytest.raises(Refused, match="has 3 outputs; needed: one"):
        CrossEncoder(str(bert(3)), length=64)
    with pytest.raises(Refused, match=r"lacks 2 weights of a BertForSequenceClassification, classifier\.bias"):
        CrossEncoder(str(encoder), length=64)
    with pytest.raises(Refused, match="puts nothing between a query and a passage"):
        CrossEncoder(str(bare_decoder), length=64)
    with pytest.raises(Refused, match="length: 512; this base reads at most 128 tokens"):
        CrossEncoder(str(bert(1)))
    with pytest.raises(Refused, match="batch_tokens: 0; needed: at least 1"):
        CrossEncoder(str(bert(1)), batch_tokens=0)


def test_a_config_names_it(bert: Callable[[int], Path], tmp_path: Path) -> None:
    """Harm: no YAML can ask for a reranker as a judge, or a model that only embeds passes for one."""
    given = {"passages": str(tmp_path), "candidates": str(tmp_path)}
    said = {"class_path": "teachers.CrossEncoder", "init_args": {"base": str(bert(1)), "length": 64}}
    made = parsing.parse(judge, {**given, "model": said})["model"]
    assert isinstance(made, functools.partial)
    model = made()
    assert isinstance(model, Reranker) and model.name == str(bert(1))
    described = json.dumps(recipe.describe(made, {}))
    assert '"class_path": "teachers.CrossEncoder", "version": 1' in described and "batch_tokens" not in described
    with pytest.raises(Refused, match=r"class students\.Encoder is no Judge"):
        parsing.parse(judge, {**given, "model": {"class_path": "students.Encoder", "init_args": {"base": "x"}}})
    with pytest.raises(Refused, match=r"has no argument 'lenght'\. Did you mean 'length'"):
        parsing.parse(judge, {**given, "model": {**said, "init_args": {"base": "x", "lenght": 3}}})
