"""Fewer tokens, the same reading: of what is kept exactly, of everything else without a gap."""

import json
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from distill import vocabulary
from distill.errors import Refused

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def wordpiece(texts: Sequence[str]) -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=500, special_tokens=SPECIAL))
    return made


def byte_level(texts: Sequence[str]) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return made


def bytes_below(texts: Sequence[str]) -> Tokenizer:
    """BPE that falls back to bytes, and can build a token in several ways, as Llama's and Gemma's."""
    alone = byte_level(texts)
    alone.pre_tokenizer = pre_tokenizers.Whitespace()
    held = json.loads(alone.to_str())["model"]
    tokens = [
        *SPECIAL,
        *(f"<0x{number:02X}>" for number in range(256)),
        *(t for t in held["vocab"] if t not in SPECIAL),
    ]
    names = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    pairs = [
        (token[:cut], token[cut:])
        for token in sorted(names, key=lambda token: names[token])
        if token not in SPECIAL and not token.startswith("<0x")
        for cut in range(1, len(token))
        if token[:cut] in names and token[cut:] in names
    ]
    made = Tokenizer(models.BPE(names, pairs, unk_token="[UNK]", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(SPECIAL)
    return made


def unigram(texts: Sequence[str]) -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False)
    )
    return made


KINDS = (wordpiece, byte_level, bytes_below, unigram)


def wrapped(alone: Tokenizer) -> transformers.PreTrainedTokenizerBase:
    ends = [(name, alone.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    alone.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=alone, **names)


def pruned(whole: transformers.PreTrainedTokenizerBase, kept: list[str]) -> vocabulary.Pruned:
    return vocabulary.prune(whole, lambda: [kept[:7], kept[7:]])


def read(tokenizer: transformers.PreTrainedTokenizerBase, text: str) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]))


@pytest.mark.parametrize("make", KINDS)
def test_kept_texts_are_read_as_before(make: Callable[[Sequence[str]], Tokenizer], texts: list[str]) -> None:
    """Harm: a student reads its own corpus otherwise than its base does, and begins further back than it need."""
    whole = wrapped(make(texts))
    small = pruned(whole, texts[:20])
    assert small.texts == 20
    assert len(small.ids) < 0.9 * len(whole)
    assert (np.diff(small.ids) > 0).all()
    for text in texts[:20]:
        before, after = whole(text)["input_ids"], small.tokenizer(text)["input_ids"]
        assert small.ids[after].tolist() == before
        assert read(whole, text) == read(small.tokenizer, text)


@pytest.mark.parametrize("make", KINDS)
def test_so_are_parts_and_mixtures_of_their_words(make: Callable[[Sequence[str]], Tokenizer], texts: list[str]) -> None:
    """Harm: the check over the corpus passes by luck of its own order, and words in another order are cut anew."""
    whole = wrapped(make(texts))
    small = pruned(whole, texts[:20])
    words = " ".join(texts[:20]).split()
    drawn = random.Random(5)
    for _ in range(100):
        text = " ".join([texts[0].split()[0], *drawn.sample(words, 6)])  # byte-level: the first has no space before it
        assert read(whole, text) == read(small.tokenizer, text)


@pytest.mark.parametrize("make", KINDS)
def test_other_texts_are_still_read(make: Callable[[Sequence[str]], Tokenizer], texts: list[str]) -> None:
    """Harm: a word outside the corpus is one unknown token, and all such queries are the same vector."""
    whole = wrapped(make(texts))
    small = pruned(whole, texts[:5])
    for text in texts[5:]:
        known = "[UNK]" in read(whole, text)
        assert ("[UNK]" in read(small.tokenizer, text)) == known
        if make in (byte_level, bytes_below, unigram):
            assert small.tokenizer.decode(small.tokenizer(text, add_special_tokens=False)["input_ids"]) is not None
    assert len({tuple(small.tokenizer(text)["input_ids"]) for text in texts}) == len(set(texts))


def test_counts_are_those_of_the_texts(texts: list[str]) -> None:
    """Harm: a static table is weighted by the frequencies of other tokens."""
    whole = wrapped(wordpiece(texts))
    small = pruned(whole, texts[:20])
    said = [i for text in texts[:20] for i in whole(text)["input_ids"]]
    assert small.counts.tolist() == [said.count(old) for old in small.ids]


@pytest.mark.parametrize("processor", ["roberta", "bert", "sequence"])
def test_what_is_put_around_a_text_is_renumbered(processor: str, texts: list[str]) -> None:
    """Harm: the beginning of a text is another token than before, at whatever depth its id stands in the file."""
    tokens = ["word", "other", "[CLS]", "[SEP]", "[UNK]", "[PAD]", "w", "o", "r", "##d", "zebra"]
    held = {token: number for number, token in enumerate(tokens)}
    alone = Tokenizer(models.WordPiece({**held, "never": 11, "last": 12}, unk_token="[UNK]"))
    alone.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    sep, cls = ("[SEP]", 3), ("[CLS]", 2)
    alone.post_processor = {
        "roberta": processors.RobertaProcessing(sep, cls),
        "bert": processors.BertProcessing(sep, cls),
        "sequence": processors.Sequence([
            processors.ByteLevel(), processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[sep, cls])
        ]),
    }[processor]  # fmt: skip
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    whole = transformers.PreTrainedTokenizerFast(tokenizer_object=alone, **names)
    small = vocabulary.prune(whole, lambda: [["last"]])
    assert read(small.tokenizer, "last") == ["[CLS]", "last", "[SEP]"]
    assert small.ids.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 12]
    assert small.tokenizer.cls_token_id == 0 and small.tokenizer.pad_token_id == 3


def test_a_difference_is_refused(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    """Harm: the proof has a gap for some tokenizer, and nobody looks."""
    monkeypatch.setattr(vocabulary, "_kept_pieces", lambda model, used: {i for i in used if i % 3} | {0, 1, 2, 3})
    with pytest.raises(Refused, match="is read otherwise"):
        pruned(wrapped(wordpiece(texts)), texts[:20])


def test_what_cannot_be_shown_is_refused(texts: list[str]) -> None:
    """Harm: a word-level tokenizer loses words, which then are all the same unknown one."""
    alone = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4}, unk_token="[UNK]"))
    with pytest.raises(Refused, match="of WordLevel tokenizers it cannot be shown"):
        vocabulary.prune(wrapped(alone), lambda: [["a"]])
    marked = byte_level(texts)
    held = json.loads(marked.to_str())
    held["model"]["dropout"] = 0.1
    with pytest.raises(Refused, match="with dropout"):
        vocabulary.prune(wrapped(Tokenizer.from_str(json.dumps(held))), lambda: [texts])
    with pytest.raises(Refused, match="there are no texts"):
        vocabulary.prune(wrapped(wordpiece(texts)), list)
