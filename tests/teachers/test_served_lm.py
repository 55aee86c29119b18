"""A model behind a server says what it says here, each row once and in its place, whatever the server does."""

import asyncio
import functools
import http.server
import json
import logging
import os
import pickle
import random
import re
import signal
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from distill import recipe, tables
from distill.errors import Refused
from distill.stages.generate import generate
from teachers import CausalLM, ServedLM
from teachers import server as requests
from teachers.served_lm import first_piece

SHARED = "Passages, each with a query that it answers.\n\nPassage: Salt slows the yeast down.\nQuery: yeast\n\n"
PROMPTS = [
    "Passage: Swifts sleep on the wing and touch the ground only to breed.\nQuery:",
    "Passage: fog\nQuery:",
    "Passage: A heron stands still in shallow water until a fish comes near its feet.\nQuery:",
    "Passage: Der Fuchs \N{FOX FACE} hört Mäuse unter dem Schnee.\nQuery:",
]
ANSWERS = [" can swifts sleep while they fly", " fog", " how does a heron catch fish", " was hört der \N{FOX FACE} da?"]
KEY = "sk-a1b2c3d4e5f6g7h8i9"
MODEL = "tiny"

Json = dict[str, Any]


class Speaker:
    """A real decoder, asked in the plainest way: no cache, no batch, prompt and continuation cut together."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        self._one_at_a_time = threading.Lock()

    def ids(self, text: str) -> list[int]:
        return [self.tokenizer.bos_token_id, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    @torch.inference_mode()
    def said(self, ids: Sequence[int]) -> torch.Tensor:
        """Log-probabilities of the token after each."""
        with self._one_at_a_time:
            logits = self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
        return logits.float().log_softmax(1)

    def write(self, text: str, most: int, stop: str) -> tuple[str, str]:
        """Greedy text and why it ended."""
        row = self.ids(text)
        begun = len(row)
        while len(row) - begun < most:
            row.append(int(self.said(row)[-1].argmax()))
            written = self.tokenizer.decode(row[begun:], skip_special_tokens=True)
            if row[-1] == self.tokenizer.eos_token_id or stop in written:
                return written, "stop"
        return self.tokenizer.decode(row[begun:], skip_special_tokens=True), "length"

    def echo(self, text: str) -> Json:
        """Each token and one more, as vLLM lists them: its offsets count the spelling of the first token, too."""
        row = self.ids(text)
        said = self.said(row)
        row.append(int(said[-1].argmax()))
        tokens = [self.tokenizer.decode([token]) for token in row]
        offsets = np.cumsum([0, *map(len, tokens[:-1])]).tolist()
        likely = [None, *(float(said[place, token]) for place, token in enumerate(row[1:]))]
        return {"tokens": tokens, "token_logprobs": likely, "text_offset": offsets}

    def listed(self, text: str, count: int) -> dict[str, float]:
        """The likeliest next tokens."""
        said = self.said(self.ids(text))[-1]
        values, tokens = said.topk(min(count, len(said)))
        return {self.tokenizer.decode([token]): value for token, value in zip(tokens, values.tolist(), strict=True)}


class Server(http.server.ThreadingHTTPServer):
    """OpenAI's interface on loopback; does wrong what it is told to, for rows whose prompt holds a text."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, speaker: Speaker, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.speaker = speaker
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.faults: dict[str, list[str]] = {}
        self.requests: list[Json] = []
        self.keys: list[str | None] = []
        self.paid: Counter[str] = Counter()
        self.delay: Callable[[], float] = lambda: 0.0
        self.write: Callable[[str, int, str], tuple[str, str]] = speaker.write
        self.listing: Callable[[str, int], dict[str, float]] = speaker.listed
        self.echoes: Callable[[str], Json | None] = speaker.echo
        self.dies_after: int | None = None
        self.dead = False
        self.active = self.most_active = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is expected."""

    def stop(self) -> None:
        self.dead = True
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": MODEL}, {"id": "other"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][0]["content"] if "messages" in body else body["prompt"]
        with self.server.lock:
            self.server.requests.append(body)
            self.server.keys.append(self.headers.get("Authorization"))
            fault = next((held.pop(0) for name, held in self.server.faults.items() if name in text and held), "")
            self.server.active += 1
            self.server.most_active = max(self.server.most_active, self.server.active)
        try:
            time.sleep(self.server.delay())
            if self.server.dead or fault == "reset":
                self.close_connection = True
            elif fault:
                self._fail(fault)
            else:
                self._answer(text, body)
        finally:
            with self.server.lock:
                self.server.active -= 1

    def _send(self, status: int, answer: Any, cut: int = 0, **headers: str) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) - cut])
        self.close_connection |= bool(cut)

    def _fail(self, fault: str) -> None:
        kind, _, more = fault.partition(" ")
        heard = f"you said {self.headers.get('Authorization')}"
        whole = {"choices": [{"text": "not whole", "finish_reason": "stop"}]}
        if kind == "slow":
            self.server.released.wait(30)
        elif kind == "trickle":
            self.send_response(200)
            self.end_headers()
            while not self.server.released.wait(0.05):
                self.wfile.write(b" ")
        elif kind == "truncated":
            self._send(200, whole, cut=9)
        elif kind == "garbage":
            self._send(200, f"<html>{heard}".encode())
        elif kind == "half":
            self._send(200, json.dumps(whole).encode()[:30])
        elif kind == "odd":
            self._send(200, json.loads(more))
        else:
            headers = {"Retry_After": more} if more else {}
            self._send(int(kind), {"error": {"message": f"{heard}. " + "no " * 500, "code": kind}}, **headers)

    def _answer(self, text: str, body: Json) -> None:
        chat = self.path == "/v1/chat/completions"
        if not chat and self.path != "/v1/completions":
            return self._send(404, {"detail": "Not Found"})
        if body["model"] != MODEL:
            return self._send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        if body["max_tokens"] < 1:
            return self._send(400, {"message": "max_tokens must be at least 1"})
        if body.get("echo") and (held := self.server.echoes(text)) is None:
            return self._send(400, {"error": {"message": "echo with logprobs is not supported"}})
        answer = self._choice(text, body, chat) if not body.get("echo") else {"text": text, "logprobs": held}
        with self.server.lock:
            dies = self.server.dies_after is not None and self.server.paid.total() >= self.server.dies_after
            self.server.dead |= dies
            self.server.paid[text] += not dies
        if dies:
            self.close_connection = True
            return None
        return self._send(200, {"choices": [{"index": 0, "finish_reason": "length", **answer}]})

    def _choice(self, text: str, body: Json, chat: bool) -> Json:
        if not body.get("logprobs"):
            written, end = self.server.write(text, body["max_tokens"], body["stop"][0])
            return {"finish_reason": end} | ({"message": {"content": written}} if chat else {"text": written})
        listed = self.server.listing(text, body["top_logprobs"] if chat else body["logprobs"])
        if not chat:
            return {"text": "", "logprobs": {"top_logprobs": [listed]}}
        content = [{"token": token, "logprob": value} for token, value in listed.items()]
        return {"message": {"content": ""}, "logprobs": {"content": [{"top_logprobs": content}]}}


@pytest.fixture(scope="module")
def speaker(decoder: Path) -> Speaker:
    return Speaker(decoder)


@pytest.fixture(scope="module")
def local(decoder: Path) -> CausalLM:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("teachers.causal_lm.computes_bf16", lambda where: False)
        return CausalLM(str(decoder))


@pytest.fixture
def server(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = Server(speaker)
    yield made
    made.stop()


def served(server: Server, **changes: Any) -> ServedLM:
    return ServedLM(**{"model": MODEL, "url": server.url, **changes})


def unhurried(model: ServedLM) -> list[float]:
    """The seconds that it would have slept, from now on."""
    waits: list[float] = []

    async def noted(seconds: float) -> None:
        waits.append(seconds)

    model._server.sleep = noted
    return waits


def write(model: ServedLM | CausalLM, prompts: Sequence[str] = PROMPTS, **changes: Any) -> list[str]:
    settings = {"shared": SHARED, "stop": "\n\n", "tokens": 6, "temperature": 0.0, "top_p": 1.0, "seed": 0}
    return model.complete(prompts, **{**settings, **changes})


def words_of(speaker: Speaker) -> list[str]:
    """Words that are one token after a space."""
    found = [re.fullmatch("Ġ([a-z]{2,})", token) for token in speaker.tokenizer.get_vocab()]
    return sorted(match[1] for match in found if match)


def shout(text: str, most: int = 0, stop: str = "") -> tuple[str, str]:
    """An answer that says whose it is."""
    return text.rpartition("\n")[2].upper(), "stop"


# ---------------------------------------------------------------------------- what it says


def test_text_equals_the_local_models(server: Server, local: CausalLM) -> None:
    """Harm: the prompt is sent without its examples, or the answer is cut elsewhere than where it stops."""
    free = write(local, stop="\0")
    assert write(served(server), stop="\0") == free
    letter = max("aehiost", key="".join(free).count)
    cut = write(local, stop=letter)
    assert cut != free
    assert write(served(server), stop=letter) == cut  # this server leaves the stop in its text
    assert all(body["stop"] == [letter] for body in server.requests[len(PROMPTS) :])


def test_likelihoods_equal_the_local_models(server: Server, speaker: Speaker, local: CausalLM) -> None:
    """Harm: a token before the text, or a character of several tokens, shifts the count, and the prompt is judged."""
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):  # cut together or apart, the tokens are the same here
        assert speaker.ids(SHARED + prompt + answer)[1:] == [i for t in (SHARED, prompt, answer) for i in local._ids(t)]
    for shared in (SHARED, ""):
        found = served(server).log_likelihood(PROMPTS, ANSWERS, shared=shared)
        np.testing.assert_allclose(found, local.log_likelihood(PROMPTS, ANSWERS, shared=shared), atol=1e-3)
    assert found.dtype == np.float32


@pytest.mark.parametrize("spelt", ["as decoded", "as in the vocabulary", "without spaces"])
def test_likelihoods_do_not_depend_on_how_tokens_are_spelt(
    spelt: str, server: Server, speaker: Speaker, local: CausalLM
) -> None:
    """Harm: another server spells tokens by other rules, and the same model judges otherwise."""

    def echo(text: str) -> Json:
        held = speaker.echo(text)
        if spelt == "as in the vocabulary":  # offsets of the text itself, as they should be
            held["tokens"] = speaker.tokenizer.convert_ids_to_tokens([*speaker.ids(text), 5])
            held["text_offset"] = [max(0, offset - len("<bos>")) for offset in held["text_offset"]]
        if spelt == "as decoded":  # SGLang knows no offsets
            held["text_offset"] = [-1] * len(held["tokens"])
        if spelt == "without spaces":  # a SentencePiece tokenizer decodes each token as if it began the text
            held["tokens"] = [token.lstrip(" ") or token for token in held["tokens"]]
        return held

    server.echoes = echo
    found = served(server).log_likelihood(PROMPTS[:3], ANSWERS[:3], shared=SHARED)
    np.testing.assert_allclose(found, local.log_likelihood(PROMPTS[:3], ANSWERS[:3], shared=SHARED), atol=1e-3)


def test_a_token_of_both_texts_is_the_continuations(server: Server, speaker: Speaker) -> None:
    """Harm: the first letters of some continuations come free, and those are preferred."""
    word = next(word for word in words_of(speaker) if len(word) > 3)
    prompt, answer = f"Passage: fog\nQuery: {word[:2]}", f"{word[2:]} and fog"
    found = speaker.tokenizer(prompt + answer, add_special_tokens=False, return_offsets_mapping=True)
    straddling = [begin < len(prompt) < end for begin, end in found["offset_mapping"]]
    assert sum(straddling) == 1
    said = speaker.said(speaker.ids(prompt + answer))
    wanted = sum(
        said[place, token].item()
        for place, (token, (_, end)) in enumerate(zip(found["input_ids"], found["offset_mapping"], strict=True))
        if end > len(prompt)
    )
    assert served(server).log_likelihood([prompt], [answer])[0] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(
    ("pieces", "whole", "start", "first"),
    [
        (["<s>", "a", " b", " c"], "a b c", 3, 3),
        (["a", " b", " c"], "a b c", 2, 1),
        (["a", "�", "�", "�", " c"], "a\N{FOX FACE} c", 2, 4),
        (["a", "�", "�", "�", " c"], "a\N{FOX FACE} c", 1, 1),
        (["a", ":", "�", "", "��", "b"], "a:\N{FOX FACE}\N{FOX FACE}b", 2, 2),
        (["a", ":", "�", "�", "b"], "a:\N{FOX FACE}\N{FOX FACE}b", 3, 2),
        (["▁a", "▁b", "▁c"], " a b c", 4, 2),
        (["a", "b", "c"], "a b c", 3, 2),
        (["a", "b", "c"], "a b x", 3, None),
        (["x", "y"], "a b", 1, None),
        ([], "a b", 1, None),
    ],
)
def test_where_a_continuation_begins(pieces: list[str], whole: str, start: int, first: int | None) -> None:
    """Harm: a count that is off by one sums the wrong tokens, and no error says so."""
    assert first_piece(pieces, whole, start) == first


@pytest.mark.parametrize("chat", [False, True])
def test_classes_equal_the_local_models(chat: bool, server: Server, speaker: Speaker, local: CausalLM) -> None:
    """Harm: relevance is read off the wrong list, or normalised over the vocabulary."""
    known = speaker.tokenizer.get_vocab()
    alone = [word for word in words_of(speaker) if word not in known]  # with a space or not is one label
    labels = tuple({word[0]: f" {word}" for word in alone}.values())[:3]
    assert len(labels) == 3
    server.listing = lambda text, count: speaker.listed(text, 400)
    found = served(server, chat=chat).classify(PROMPTS, labels, shared=SHARED)
    np.testing.assert_allclose(found, local.classify(PROMPTS, labels, shared=SHARED), atol=1e-3)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-5)
    asked = {"logprobs": True, "top_logprobs": 20} if chat else {"logprobs": 20}
    assert all(body.items() >= asked.items() and body["max_tokens"] == 1 for body in server.requests)


@pytest.mark.parametrize(
    ("listed", "wanted"),
    [
        ({" Yes": -0.1, " No": -3.0, "x": -7.0}, [-0.1, -3.0]),
        ({"Yes": -0.5, " Yes": -2.0, "No": -3.0, "N": -1.0}, [np.logaddexp(-0.5, -2.0), -3.0]),
        ({" Y": -0.5, "No": -1.0, "Nothing": -0.9}, [-0.5, -1.0]),
        ({" Yes": -0.1, " Maybe": -3.0, " ": -5.0, "x": -7.0}, [-0.1, -7.0]),
    ],
)
@pytest.mark.parametrize("chat", [False, True])
def test_a_label_is_found_in_what_is_listed(
    listed: dict[str, float], wanted: list[float], chat: bool, server: Server
) -> None:
    """Harm: " Yes" is not known as Yes; or a label that is not listed counts as impossible, or as likely."""
    server.listing = lambda text, count: listed
    found = served(server, chat=chat).classify(["a"], (" Yes", " No"))
    np.testing.assert_allclose(found[0], np.asarray(wanted) - np.logaddexp.reduce(wanted), atol=1e-6)


def test_labels_that_cannot_be_told_apart_or_are_never_said_are_refused(server: Server) -> None:
    """Harm: relevance is a coin, or the least listed number for both labels, a half everywhere."""
    with pytest.raises(Refused, match="begin with the same"):
        served(server).classify(["a"], ("ab", " ac"))
    assert not server.requests
    server.listing = lambda text, count: {"<think>": -0.1, "\n": -4.0}
    with pytest.raises(Refused, match=r"row 0: tiny says none of \[' Yes', ' No'\], but one of .*<think>.*thinking"):
        served(server).classify(["a"], (" Yes", " No"))


def test_one_who_chats_is_heard_from_where_the_prompt_ends(server: Server, local: CausalLM) -> None:
    """Harm: a model that says "Task:" again has no usable query, though each is good."""
    model = served(server, chat=True)
    assert write(model) == write(local)
    assert [{"role": "user", "content": SHARED + PROMPTS[0]}] in [body["messages"] for body in server.requests]
    server.write = lambda text, most, stop: ("\n Query: what is fog", "stop")
    assert write(model, PROMPTS[:1]) == [" what is fog"]


def test_a_server_that_cannot_judge_is_refused(server: Server, speaker: Speaker) -> None:
    """Harm: the likelihood of what the server wrote itself is taken for that of the query: chance, for every pair."""
    with pytest.raises(Refused) as chatting:
        served(server, chat=True).log_likelihood(PROMPTS, ANSWERS)
    assert not server.requests
    said: list[str] = []
    own = {"tokens": ["x"], "token_logprobs": [-1.0], "text_offset": [0]}
    other = speaker.echo("another text")
    for held in (None, own, {"content": []}, other):
        server.echoes = lambda text, held=held: held  # type: ignore[misc]
        with pytest.raises(Refused) as caught:
            served(server).log_likelihood(PROMPTS, ANSWERS)
        said.append(str(caught.value))
    for message in (*said, str(chatting.value)):
        assert "teachers.CausalLM" in message and "vLLM" in message
    assert "echo with logprobs is not supported" in said[0]
    assert not any("attempts" in message for message in said)


def test_each_row_has_a_seed_of_its_own_that_can_be_had_again(server: Server) -> None:
    """Harm: a batch of one prompt gives one text many times, or a part made again is another."""
    server.write = shout
    for seed in (1, 1, 2, 2**32 * 1_000_003):
        write(served(server), seed=seed)
    seeds = [{body["prompt"]: body["seed"] for body in server.requests[at : at + 4]} for at in range(0, 16, 4)]
    assert seeds[0] == seeds[1]
    assert len({seed for held in (seeds[0], seeds[2], seeds[3]) for seed in held.values()}) == 12
    assert all(0 <= seed < 2**31 for held in seeds for seed in held.values())


# ---------------------------------------------------------------------------- whatever the server does


def test_answers_stand_where_their_prompts_do_and_each_is_paid_once(server: Server) -> None:
    """Harm: answers are kept as they arrive, and each query has its neighbour's passage; or a row is paid twice."""
    dice = random.Random(0)
    server.delay = lambda: dice.random() * 0.02
    server.write = shout
    rows = [f"passage\nrow {number}:" for number in range(60)]
    assert write(served(server, concurrency=7), rows) == [f"ROW {number}:" for number in range(60)]
    assert server.paid == Counter({SHARED + row: 1 for row in rows})
    assert len(server.requests) == 60
    assert 2 <= server.most_active <= 7


@pytest.mark.parametrize(
    "fault",
    [
        "429", "500", "502", "503", "504", "reset", "truncated", "half", "garbage", "odd []", 'odd {"choices": []}',
        'odd {"choices": [{"text": "not whole", "finish_reason": null}]}', 'odd {"choices": [{"text": "not whole"}]}',
        'odd {"choices": [{"text": "not whole", "finish_reason": "abort"}]}',
        'odd {"choices": [{"text": null, "finish_reason": "stop"}]}', 'odd {"error": {"message": "overrun"}}',
    ],
)  # fmt: skip
def test_what_was_lost_is_asked_again_and_nothing_else(fault: str, server: Server) -> None:
    """Harm: an hour of paid answers is thrown away for one that was lost, or half an answer is kept."""
    server.write = shout
    server.faults = {"row 3:": [fault, fault]}
    model = served(server)
    waits = unhurried(model)
    rows = [f"passage\nrow {number}:" for number in range(6)]
    assert write(model, rows) == [f"ROW {number}:" for number in range(6)]
    assert server.paid == Counter({SHARED + row: 1 for row in rows})
    assert len(server.requests) == 8
    assert len(waits) == 2 and 0.5 <= waits[0] <= 1 <= waits[1] <= 2


@pytest.mark.parametrize("fault", ["odd []", 'odd {"choices": [{"logprobs": {"top_logprobs": []}}]}', "truncated"])
def test_numbers_that_were_lost_are_asked_for_again(fault: str, server: Server, local: CausalLM) -> None:
    """Harm: a judgement that did not arrive is a number all the same."""
    server.faults = {"fog": [fault]}
    model = served(server)
    unhurried(model)
    server.listing = lambda text, count: {" Yes": -1.0, " No": -1.0}
    np.testing.assert_allclose(model.classify(PROMPTS, (" Yes", " No")), np.log(0.5), atol=1e-6)
    lost = {"tokens": ["a", "b"], "token_logprobs": [None], "text_offset": [0, 1]}
    server.faults = {"fog": ["odd " + json.dumps({"choices": [{"logprobs": lost}]})]}
    found = model.log_likelihood(PROMPTS, ANSWERS)
    np.testing.assert_allclose(found, local.log_likelihood(PROMPTS, ANSWERS), atol=1e-3)


def test_a_server_that_asks_to_wait_is_obeyed(server: Server) -> None:
    """Harm: a rate limit answers the same row six times at once, and the step is given up in a second."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=200), usegmt=True)
    server.write = shout
    server.faults = {"fog": ["429 7", f"503 {later}", "429 soon", "429 -3", "500"]}
    model = served(server)
    waits = unhurried(model)
    assert write(model, PROMPTS[1:2]) == ["QUERY:"]
    assert 7 <= waits[0] <= 8 and 150 <= waits[1] <= 201
    assert [2 <= waits[2] <= 4, 4 <= waits[3] <= 8, 8 <= waits[4] <= 16] == [True] * 3
    server.faults = {"fog": ["429 7200"]}
    with pytest.raises(Refused, match=r"asks to wait 7,200 s before row 0 \(429: .*Run again after that"):
        write(model, PROMPTS[1:2])
    assert len(waits) == 5


def test_a_time_out_is_of_the_whole_answer(server: Server) -> None:
    """Harm: a server that sends a byte a second, or nothing, holds the step for ever."""
    server.write = shout
    server.faults = {"fog": ["slow", "trickle"]}
    model = served(server, timeout=1.0, attempts=20)
    waits = unhurried(model)
    assert write(model, PROMPTS[1:2]) == ["QUERY:"]
    assert len(waits) >= 2
    server.faults = {"fog": ["trickle"]}
    with pytest.raises(
        Refused, match=r"did not answer row 0 in 1 attempts; last: no whole answer within `timeout`, 0.2"
    ):
        write(served(server, timeout=0.2, attempts=1), PROMPTS[1:2])


def test_a_row_that_never_comes_stops_the_others(server: Server) -> None:
    """Harm: a server that is down is paid for the thousand rows after the one that fails."""
    server.write = shout
    server.delay = lambda: 0.01
    server.faults = {"row 2:": ["500"] * 9}
    model = served(server, concurrency=3, attempts=4)
    unhurried(model)
    rows = [f"passage\nrow {number}:" for number in range(300)]
    with pytest.raises(Refused) as caught:
        write(model, rows)
    said = str(caught.value)
    assert re.fullmatch(
        r"127.* did not answer row 2 in 4 attempts; last: 500: you said None.*\.\.\.\. See .*kept\.", said
    )
    assert len(said) < 600
    assert server.paid.total() < 100


def test_nobody_there_is_a_refusal(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a wrong port ends in a traceback of a library that the user never heard of."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    model = ServedLM(MODEL, url)
    waits = unhurried(model)
    with pytest.raises(Refused, match=r"did not answer row 0 in 6 attempts; last: ConnectError"):
        write(model, PROMPTS[:1])
    assert len(waits) == 5


@pytest.mark.parametrize(
    ("fault", "changes", "said"),
    [
        ("401", {}, r"wants an API key \(401\); the environment variable OPENAI_API_KEY is not set"),
        ("401", {"key": "MY_KEY"}, r"the environment variable MY_KEY holds one that it does not take"),
        ("403", {"key": "MY_KEY"}, r"denies access \(403: you said Bearer \[key\].*into MY_KEY"),
        ("400", {}, r"rejects row 0 \(400: .*fewer `words`"),
        ("422", {}, r"rejects row 0 \(422: "),
        ("", {"model": "tinny"}, r"no model 'tinny' \(404: The model `tinny` does not exist.\). Set .*: tiny, other\."),
        ("404", {}, r"answers 404 to /completions .*up to the version.*chat: true"),
        ("307", {}, r"rejects row 0 \(307: "),
    ],
)
def test_what_will_not_get_better_is_refused_at_once(
    fault: str, changes: Json, said: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: a misspelt name is asked six times, and the message does not say which names there are."""
    monkeypatch.setenv("MY_KEY", KEY)
    server.faults = {"fog": [fault] if fault else []}
    model = served(server, **changes)
    waits = unhurried(model)
    with pytest.raises(Refused, match=said):
        write(model, PROMPTS[1:2])
    assert not waits and len(server.requests) == 1


@pytest.mark.parametrize("fault", ["", "401", "403", "400", "404", "422", "500", "garbage", "429 9999", "reset"])
def test_the_key_is_sent_and_said_nowhere(
    fault: str,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Harm: the key of an account stands in a log or a bug report, where the server repeats what it was sent."""
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")  # as a file of keys is often read
    caplog.set_level(logging.DEBUG)
    server.faults = {"fog": [fault] * 2 if fault else []}
    server.write = shout
    model = served(server, attempts=2)
    told = repr(model) + str(vars(model)) + str(vars(model._server)) + model.name + repr(pickle.dumps(model))
    unhurried(model)
    if not fault:
        write(model)
    else:
        with pytest.raises(Refused) as caught:
            write(model)
        told += "".join(traceback.format_exception(caught.value))
        error: BaseException | None = caught.value
        while error:
            told += repr(error)
            assert error.__cause__ is None
            error = error.__context__
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert caplog.text  # the libraries did log
    for place in (told, caplog.text, *capfd.readouterr()):
        assert KEY not in place and KEY[:12] not in place


def test_a_key_that_no_header_can_hold_is_refused_without_being_said(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: a file of two lines as the key ends in an error of the HTTP library that quotes it."""
    for wrong in (f"{KEY}\nsecond", f"{KEY}é", f"{KEY} x"):
        monkeypatch.setenv("OPENAI_API_KEY", wrong)
        with pytest.raises(Refused, match="OPENAI_API_KEY holds more than an API key") as caught:
            write(served(server))
        assert KEY not in "".join(traceback.format_exception(caught.value))
    monkeypatch.delenv("OPENAI_API_KEY")
    server.write = shout
    write(served(server))
    assert set(server.keys) == {None}


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://me:hunter2@127.0.0.1/v1"}, {"url": "127.0.0.1:8000/v1"}, {"url": "ftp://host/v1"},
        {"url": "http:///v1"}, {"url": "http://host:port/v1"}, {"url": "http://host/v1?key=1"}, {"concurrency": 0},
        {"attempts": 0}, {"timeout": 0.0}, {"timeout": float("nan")},
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_meant_are_refused(changes: Json) -> None:
    """Harm: a password goes into every recipe and log, or a typing error shows after the corpus is read."""
    with pytest.raises(Refused) as caught:
        ServedLM(**{"model": MODEL, "url": "http://127.0.0.1/v1", **changes})
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_texts_that_cannot_be_asked_are_refused(server: Server) -> None:
    """Harm: an empty continuation has the likelihood of certainty; no rows at all are an error."""
    model = served(server)
    with pytest.raises(Refused, match="continuation 1 is empty"):
        model.log_likelihood(["a", "b"], ["x", ""])
    for call in (lambda: write(model, ["a", ""]), lambda: model.classify(["a", ""], ("x", "y"))):
        with pytest.raises(Refused, match="prompt 1 is empty"):
            call()
    assert write(model, []) == []
    assert model.log_likelihood([], []).shape == (0,) and model.classify([], ("x", "y")).shape == (0, 2)
    assert not server.requests


def test_half_a_character_does_not_reach_the_tables(server: Server) -> None:
    """Harm: an answer that was cut inside an emoji cannot be written, and the whole part is lost with it."""
    server.write = lambda text, most, stop: ("fox \ud83e", "length")
    assert write(served(server), PROMPTS[:1]) == ["fox \N{REPLACEMENT CHARACTER}"]


def test_it_works_where_a_loop_runs_and_after_pickling(server: Server) -> None:
    """Harm: it fails in a notebook, or on a worker of a cluster."""
    server.write = shout
    model = pickle.loads(pickle.dumps(served(server)))

    async def cell() -> list[str]:
        return write(model)

    assert asyncio.run(cell()) == write(pickle.loads(pickle.dumps(model))) == ["QUERY:"] * 4


def test_an_interrupt_ends_it_at_once(server: Server) -> None:
    """Harm: after Ctrl-C a thousand rows are still asked and paid, or two minutes pass."""
    server.faults = {"row": ["slow"] * 300}
    killed: list[float] = []

    def kill() -> None:
        while len(server.requests) < 4:
            time.sleep(0.01)
        killed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    killer = threading.Thread(target=kill, daemon=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    try:
        killer.start()
        with pytest.raises(KeyboardInterrupt):
            write(served(server, concurrency=4), [f"row {number}" for number in range(300)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - killed[0] < 10
    assert len(server.requests) == 4
    killer.join()


# ---------------------------------------------------------------------------- under the engine


def author(text: str, most: int, stop: str) -> tuple[str, str]:
    """A task and a query for the last passage of a prompt, all its own."""
    words = re.findall("Passage: (.*)", text)[-1].split()
    named = " ".join(sorted({word.strip(".,") for word in words}, key=len)[-4:])
    return f" Given a question, find what answers it.\nQuery: is it known why {named}", "stop"


def test_a_run_goes_on_where_its_server_died(
    server: Server, speaker: Speaker, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: what was paid for before the server died is paid for again at the next one, or rows differ."""
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.write, server.dies_after = author, 21
    run = functools.partial(generate, passages=corpus, limit=24, part_rows=8)
    with pytest.raises(Refused, match="did not answer row"):
        run(model=functools.partial(ServedLM, MODEL, server.url, concurrency=3), out=tmp_path / "out")
    first = server.paid
    assert first.total() == 21
    assert len(tables.missing(tmp_path / "out" / "drafts", 3)) == 1
    server.stop()
    again = Server(speaker)  # at another port
    model = functools.partial(ServedLM, MODEL, again.url, concurrency=5)
    try:
        again.write = author
        facts = run(model=model, out=tmp_path / "out")
        assert again.paid.total() == 8
        finished = {text for text, _ in (first + again.paid).items()} - again.paid.keys()
        assert len(finished) == 16  # two parts of eight, asked once and never again
        assert facts["asked"] == 24 and facts["model"] == "tiny"
        run(model=model, out=tmp_path / "whole")
        written = [tables.read(tmp_path / name, "queries").to_pylist() for name in ("out", "whole")]
        assert written[0] == written[1] and len(written[0]) > 12
        assert again.paid.total() == 8 + 24
    finally:
        again.stop()
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert not any(KEY.encode() in file.read_bytes() for file in files)
    held = json.loads((tmp_path / "out" / "recipe.json").read_text())["settings"]["model"]
    assert held == recipe.describe(model, {})
    assert held["class_path"] == "teachers.ServedLM" and held["init_args"] == {"model": MODEL, "chat": False}
