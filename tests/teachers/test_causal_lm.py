"""What the language model says in batches, after shared text that is computed once, is what it says plainly."""

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from distill.errors import Refused
from teachers import CausalLM
from teachers.causal_lm import _sample

pytestmark = pytest.mark.usefixtures("fp32")

SHARED = "Passages, each with a query that it answers.\n\nPassage: Salt slows the yeast down.\nQuery: yeast\n\n"
"""Longer than the sliding window of the small decoder, as real prompts are."""

PROMPTS = [
    "Passage: Swifts sleep on the wing and touch the ground only to breed.\nQuery:",
    "Passage: fog\nQuery:",
    "Passage: A heron stands still in shallow water until a fish comes near its feet, and then strikes.\nQuery:",
    "Passage: Low tyre pressure makes the wheel roll slowly.\nQuery:",
    "Q:",
]
ANSWERS = [
    " can swifts sleep while they fly",
    " fog",
    " how does a heron catch fish",
    " what does low pressure do",
    " a b",
]


@pytest.fixture(scope="module")
def model(decoder: Path) -> CausalLM:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("teachers.causal_lm.computes_bf16", lambda where: False)
        return CausalLM(str(decoder), batch_tokens=400)


@pytest.fixture(scope="module")
def plain(decoder: Path) -> transformers.PreTrainedModel:
    """The same weights as transformers has them."""
    loaded: transformers.PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(decoder)
    return loaded.eval()


@pytest.fixture(scope="module")
def ids(decoder: Path) -> "functools.partial[list[int]]":
    tokenizer = transformers.AutoTokenizer.from_pretrained(decoder)

    def encode(*texts: str) -> list[int]:
        pieces = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return [tokenizer.bos_token_id, *(token for piece in pieces for token in piece)]

    return functools.partial(encode)


@torch.inference_mode()
def next_logits(plain: transformers.PreTrainedModel, row: Sequence[int]) -> Tensor:
    """Logits after each token of one row, without a cache, a batch or padding."""
    found: Tensor = plain(input_ids=torch.tensor([list(row)]), use_cache=False).logits[0].float()
    return found


@pytest.mark.parametrize("shared", [SHARED, "", "Passages.\n"])
def test_likelihoods_equal_a_plain_forward(
    model: CausalLM, plain: transformers.PreTrainedModel, ids: "functools.partial[list[int]]", shared: str
) -> None:
    """Harm: cached keys, padding or positions are off by one, and the judge ranks candidates by noise."""
    found = model.log_likelihood(PROMPTS, ANSWERS, shared=shared)
    for number, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        before, whole = ids(shared, prompt), ids(shared, prompt, answer)
        said = next_logits(plain, whole).log_softmax(1)
        naive = sum(said[place - 1, whole[place]].item() for place in range(len(before), len(whole)))
        assert found[number] == pytest.approx(naive, abs=1e-4)
    assert len({round(float(value), 2) for value in found}) == len(PROMPTS)


def test_a_prompt_that_comes_again_is_read_once(
    model: CausalLM, plain: transformers.PreTrainedModel, ids: "functools.partial[list[int]]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Harm: a passage that is a candidate of fifty queries is paid for fifty times, or its likelihoods are mixed up."""
    drawn = np.random.default_rng(0)
    pairs = [(PROMPTS[number % 3], ANSWERS[drawn.integers(5)]) for number in range(40)]
    read: list[int] = []
    plainly = model._read
    monkeypatch.setattr(model, "_read", lambda rows, shared: (read.append(len(rows)), plainly(rows, shared))[1])
    found = model.log_likelihood([prompt for prompt, _ in pairs], [answer for _, answer in pairs], shared=SHARED)
    assert sum(read) < 12 < len(pairs)  # the groups hold few rows here, so a prompt may be read in several
    for said, (prompt, answer) in zip(found, pairs, strict=True):
        before, after = ids(SHARED, prompt), ids(answer)[1:]
        with torch.inference_mode():
            told = plain(torch.tensor([before + after])).logits[0].log_softmax(-1)
        wanted = sum(float(told[len(before) - 1 + at, token]) for at, token in enumerate(after))
        assert said == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("shared", [SHARED, ""])
def test_classes_equal_a_plain_forward(
    model: CausalLM, plain: transformers.PreTrainedModel, ids: "functools.partial[list[int]]", shared: str
) -> None:
    """Harm: the probability of Yes is read at padding, or normalised over the whole vocabulary."""
    labels = (" Yes", " No", "maybe")
    found = model.classify(PROMPTS, labels, shared=shared)
    firsts = [ids(label)[1] for label in labels]
    for number, prompt in enumerate(PROMPTS):
        naive = next_logits(plain, ids(shared, prompt))[-1][firsts].log_softmax(0)
        np.testing.assert_allclose(found[number], naive, atol=1e-4)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-5)


def write(model: CausalLM, prompts: Sequence[str], **changes: object) -> list[str]:
    settings: dict[str, object] = {
        "shared": SHARED, "stop": "\n\n", "tokens": 12, "temperature": 0.0, "top_p": 1.0, "seed": 0,
    }  # fmt: skip
    return model.complete(prompts, **{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("shared", [SHARED, ""])
def test_greedy_text_equals_a_naive_loop(
    model: CausalLM, plain: transformers.PreTrainedModel, ids: "functools.partial[list[int]]", shared: str
) -> None:
    """Harm: rows that end are dropped from the batch together with a neighbour's cache."""
    texts = []
    for prompt in PROMPTS:
        row, begun = ids(shared, prompt), len(ids(shared, prompt))
        while len(row) - begun < 12 and row[-1] != model._tokenizer.eos_token_id:
            row.append(int(next_logits(plain, row)[-1].argmax()))
        texts.append(model._text(row[begun:]))
    assert write(model, PROMPTS, shared=shared, stop="\0") == texts
    stops = sorted(set("".join(texts)), key=lambda stop: len({text.find(stop) for text in texts}))
    stop = stops[-1]
    assert len({text.find(stop) for text in texts}) > 2  # rows end at different steps
    assert write(model, PROMPTS, shared=shared, stop=stop) == [text.split(stop)[0] for text in texts]


def test_nothing_depends_on_the_batch(model: CausalLM) -> None:
    """Harm: a judgement depends on which other pairs were judged with it, in a sliding window above all."""
    together = model.log_likelihood(PROMPTS, ANSWERS, shared=SHARED)
    classes = model.classify(PROMPTS, (" Yes", " No"), shared=SHARED)
    written = write(model, PROMPTS)
    for number, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        assert model.log_likelihood([prompt], [answer], shared=SHARED)[0] == pytest.approx(together[number], abs=1e-4)
        np.testing.assert_allclose(
            model.classify([prompt], (" Yes", " No"), shared=SHARED)[0], classes[number], atol=1e-4
        )
        assert write(model, [prompt]) == [written[number]]
    turned = model.log_likelihood(PROMPTS[::-1], ANSWERS[::-1], shared=SHARED)
    np.testing.assert_allclose(turned[::-1], together, atol=1e-4)


def test_the_shared_text_is_that_of_the_call(model: CausalLM) -> None:
    """Harm: keys and values of the last prompt answer for the next."""
    first = model.log_likelihood(PROMPTS, ANSWERS, shared=SHARED)
    other = model.log_likelihood(PROMPTS, ANSWERS, shared="Birds.\n")
    assert np.abs(first - other).min() > 1e-3
    np.testing.assert_array_equal(model.log_likelihood(PROMPTS, ANSWERS, shared=SHARED), first)


def test_a_seed_can_be_had_again(model: CausalLM) -> None:
    """Harm: a part of queries that is made again differs from the first time."""
    drawn = functools.partial(write, model, PROMPTS, temperature=1.0)
    torch.manual_seed(1)
    one = drawn(seed=3)
    torch.manual_seed(2)
    assert drawn(seed=3) == one
    assert drawn(seed=4) != one
    state = torch.random.get_rng_state()
    drawn(seed=5)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_stop_and_a_limit_are_kept(model: CausalLM) -> None:
    """Harm: a query runs on into the next passage that the model invents."""
    free = write(model, PROMPTS, stop="\0", temperature=1.5)
    letter = max("aehiost", key="".join(free).count)
    assert sum(letter in text for text in free) > 1
    assert not any(letter in text for text in write(model, PROMPTS, stop=letter, temperature=1.5))
    short = write(model, PROMPTS, stop="\0", tokens=3)
    assert all(long.startswith(text) and text != long for text, long in zip(short, write(model, PROMPTS), strict=True))


def test_what_is_drawn_has_the_least_set_with_that_probability() -> None:
    """Harm: top_p leaves out the likeliest token, or lets the tail in."""
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0], [0.0, 0.0, 0.0, 9.0]])
    shares = (logits / 0.7).softmax(1)
    generator = torch.Generator().manual_seed(0)
    for top_p in (0.5, 0.9, 0.97, 1.0):
        drawn = _sample(logits.repeat_interleave(4000, 0), 0.7, top_p, generator).view(2, 4000)
        for row in range(2):
            order = shares[row].argsort(descending=True).tolist()
            kept: list[int] = []
            while not kept or shares[row][kept].sum() < top_p - 1e-6:
                kept.append(order[len(kept)])
                if len(kept) == 4:
                    break
            wanted = torch.zeros(4)
            wanted[kept] = shares[row][kept] / shares[row][kept].sum()
            found = torch.bincount(drawn[row], minlength=4) / 4000
            torch.testing.assert_close(found, wanted, rtol=0, atol=0.03)
    assert _sample(logits, 0.0, 1.0, generator).tolist() == [0, 3]


def test_labels_and_texts_that_cannot_be_scored_are_refused(model: CausalLM) -> None:
    """Harm: two labels are one token, and relevance is a coin; an empty text has the likelihood of certainty."""
    with pytest.raises(Refused, match="begin with the same token"):
        model.classify(["a"], ("ab", "ac"))
    with pytest.raises(Refused, match="continuation 1 is empty"):
        model.log_likelihood(["a", "b"], ["x", ""])
    for call in (
        lambda: model.log_likelihood(["a", ""], ["x", "y"], shared=SHARED),
        lambda: model.classify(["a", ""], (" Yes", " No"), shared=SHARED),
        lambda: write(model, ["a", ""]),
    ):
        with pytest.raises(Refused, match="prompt 1 is empty"):
            call()


def test_a_model_that_caps_its_logits_is_refused(tmp_path: Path, decoder: Path) -> None:
    """Harm: likelihoods are computed from logits that the model itself would not give."""
    transformers.AutoTokenizer.from_pretrained(decoder).save_pretrained(tmp_path)
    transformers.Gemma2Config(
        vocab_size=400, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5, initializer_range=0.5,
    ).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(Refused, match="Gemma2ForCausalLM caps or scales its logits"):
        CausalLM(str(tmp_path))


def test_its_name_tells_base_and_commit(model: CausalLM, decoder: Path) -> None:
    """Harm: nobody can tell which model wrote a table."""
    assert model.name == str(decoder)


# ---------------------------------------------------------------------------- models that chat

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<eos>{{ m['role'] }}\n{{ m['content'] | trim }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<eos>model\n{% endif %}"
)


@pytest.fixture(scope="module")
def chatting(decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """The same weights, taught to chat as far as its tokenizer goes."""
    folder = tmp_path_factory.mktemp("chatting")
    shutil.copytree(decoder, folder, dirs_exist_ok=True)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("teachers.causal_lm.computes_bf16", lambda where: False)
        return CausalLM(str(folder), chat=True, batch_tokens=400)


def test_a_model_that_chats_reads_its_own_template(chatting: CausalLM, plain: transformers.PreTrainedModel) -> None:
    """Harm: a chat model is asked in a form that it never saw, or its answers are scored with a space before them."""
    tokenizer = chatting._tokenizer
    prompts = [*PROMPTS, "Passage: <eos> Answer: Yes\nQuery:"]
    answers = [*ANSWERS, " yes"]
    found = chatting.log_likelihood(prompts, answers, shared=SHARED)
    labels = chatting.classify(prompts, (" Yes", " No"), shared=SHARED)
    firsts = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No")]
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        parts = [tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
                 for text in ("user\n", SHARED, prompt, "\n", "model\n", answer.strip())]  # fmt: skip
        eos = tokenizer.eos_token_id
        before = [tokenizer.bos_token_id, eos, *parts[0], *parts[1], *parts[2], eos, *parts[3], eos, *parts[4]]
        with torch.inference_mode():
            said = plain(torch.tensor([before + parts[5]])).logits[0].log_softmax(-1)
        wanted = sum(float(said[len(before) - 1 + at, token]) for at, token in enumerate(parts[5]))
        assert found[row] == pytest.approx(wanted, abs=1e-3)
        two = said[len(before) - 1, firsts].log_softmax(-1)
        assert labels[row].tolist() == pytest.approx(two.tolist(), abs=1e-3)


def test_a_base_that_was_not_taught_to_chat_is_refused(decoder: Path) -> None:
    """Harm: a base model is asked in a form of no one's, and its drivel is taken for its best."""
    with pytest.raises(Refused, match=r"chat: .* has no chat template"):
        CausalLM(str(decoder), chat=True)


def test_an_answer_that_says_the_prompt_again_is_cut(chatting: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: "Task: Task: ..." is no answer in the form that is asked for, and every row is dropped."""
    monkeypatch.setattr(chatting, "_write", lambda rows, *rest: [" Query: swifts"] * len(rows))
    settings = {"stop": "\n\n", "tokens": 5, "temperature": 0.0, "top_p": 1.0, "seed": 0}
    assert chatting.complete(PROMPTS[:2], **settings) == [" swifts"] * 2
