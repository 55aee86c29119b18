"""A language model behind a server of OpenAI's HTTP interface: vLLM, SGLang, llama.cpp, or a paid one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from distill.errors import Refused
from distill.interfaces import LanguageModel
from distill.prompts import begun
from teachers.server import Body, Lost, Server

LISTED = 20
"""Likeliest next tokens asked for: the most that OpenAI's chat and vLLM give unless told otherwise."""

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""Stands in a token that is a part of a character."""

SHORTEN = "If the prompt is too long, show the model fewer `words` of a passage, or serve it with a longer context."

ELSEWHERE = "Take as `model` a teachers.CausalLM, in this process, or a vLLM server with `chat: false`."


class ServedLM(LanguageModel):
    """A language model that an HTTP server runs, asked one prompt a request.

    What a server's tokenizer makes of the text is the server's affair: a passage that spells a control token may be
    read as one, and prompt and continuation are cut into tokens together.

    Args:
        model: Its name at the server.
        url: The server's, up to the version, such as http://127.0.0.1:8000/v1; without user or password.
        chat: Ask /chat/completions, the prompt as one message of the user, where there is no /completions.
        concurrency: Requests at once, at most.
        timeout: Seconds for one answer, all of it.
        attempts: How often a row is asked, at most, when the server is overrun or the answer is lost.
        key: NAME of the environment variable that holds the API key; it may be unset.
    """

    OUTSIDE = ("url", "concurrency", "timeout", "attempts", "key")
    """Where and how fast it is asked: no part of a recipe, so a step goes on at another server of the same model."""

    def __init__(
        self,
        model: str,
        url: str,
        chat: bool = False,
        concurrency: int = 8,
        timeout: float = 120.0,
        attempts: int = 6,
        key: str = "OPENAI_API_KEY",
    ) -> None:
        self._server = Server(url, model, concurrency, timeout, attempts, key)
        self._model, self._chat = model, chat

    @property
    def name(self) -> str:
        """The model's, at whatever server."""
        return self._model

    @property
    def _path(self) -> str:
        return "/chat/completions" if self._chat else "/completions"

    def _body(self, text: str, **settings: object) -> Body:
        prompt = {"messages": [{"role": "user", "content": text}]} if self._chat else {"prompt": text}
        return {"model": self._model, **prompt, **settings}

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
        """Continue each prompt.

        Each row is sampled with a seed of its own, made of `seed` and the row. Whether the same seed gives the same
        text is up to the server: vLLM keeps to it as far as its batches allow, paid ones promise little.
        """
        _check(prompts, "prompt")
        sampled = {"stop": [stop], "max_tokens": tokens, "temperature": temperature, "top_p": top_p}

        def body(row: int) -> Body:
            return self._body(shared + prompts[row], seed=_seed(seed, row), **sampled)

        def read(row: int, answer: Body) -> str:
            text = _written(answer)
            return (begun(text, prompts[row]) if self._chat else text).split(stop)[0]

        return self._server.ask(self._path, len(prompts), body, read, SHORTEN)

    def log_likelihood(
        self, prompts: Sequence[str], continuations: Sequence[str], *, shared: str = ""
    ) -> Float[np.ndarray, "prompts"]:
        """Log-probability of each continuation after its prompt, summed over its tokens, in nats.

        The server reads both as one text and says how likely each token was. A token with characters of both counts
        wholly as the continuation's: without it, the first words of some continuations would come free. One token
        more is written, for some servers demand it; reading has already paid for it.

        Raises:
            Refused: The server does not say how likely a given text is; few but vLLM and SGLang do.
        """
        if self._chat:
            raise Refused(f"{self.name} chats, which cannot say how likely a given text is. {ELSEWHERE}")
        _check(prompts, "prompt")
        _check(continuations, "continuation")
        whole = [shared + prompt + text for prompt, text in zip(prompts, continuations, strict=True)]

        def body(row: int) -> Body:
            return self._body(whole[row], echo=True, logprobs=1, max_tokens=1, temperature=0.0)

        def read(row: int, answer: Body) -> float:
            pieces, said, offsets = self._echoed(answer)
            start = len(whole[row]) - len(continuations[row])
            first = first_piece(pieces, whole[row], start)
            first = _by_offset(pieces, offsets, whole[row], start) if first is None else first
            if first is None:
                raise Refused(f"the tokens that {self.name} lists do not spell row {row}. {ELSEWHERE}")
            return sum(map(_number, said[first:]))

        advice = f"It may not say how likely a given text is (`echo` with `logprobs`). {ELSEWHERE} {SHORTEN}"
        return np.asarray(self._server.ask(self._path, len(whole), body, read, advice), np.float32)

    def _echoed(self, answer: Body) -> tuple[list[str], list[Any], list[Any]]:
        """Tokens of the text that was sent, how likely each was, and where the server says that it begins."""
        held = _choice(answer).get("logprobs")
        named = ("tokens", "token_logprobs", "text_offset")
        lists = [held.get(name) for name in named] if isinstance(held, Mapping) else [None]
        if not isinstance(lists[0], list) or len(lists[0]) < 2:  # one is what it wrote
            raise Refused(f"{self.name} says how likely its own words are, not those it is given. {ELSEWHERE}")
        if any(not isinstance(each, list) or len(each) != len(lists[0]) for each in lists):
            raise Lost(f"lists of unlike length in {held}")
        usage = answer.get("usage")
        none = isinstance(usage, Mapping) and usage.get("completion_tokens") == 0
        pieces, said, offsets = (each if none else each[:-1] for each in lists if each is not None)
        return [str(piece) for piece in pieces], said, offsets

    def classify(
        self, prompts: Sequence[str], labels: Sequence[str], *, shared: str = ""
    ) -> Float[np.ndarray, "prompts labels"]:
        """Log-probability of each label after each prompt, normalised over the labels, in nats.

        A server lists only the likeliest tokens. A label's probability is that of the longest listed token with
        which it begins, with and without a space before it. A label that is not listed is given the probability
        of the least likely token that is, which it cannot exceed: its number is an upper bound.

        Raises:
            Refused: Two labels begin with the same letter, so their first tokens may be one; or a prompt after
                which no label is among the likeliest tokens.
        """
        if len({label.strip()[:1] for label in labels} - {""}) < len(labels):
            raise Refused(
                f"labels {list(labels)} begin with the same letter, so maybe with the same token; needed: labels that "
                "do not."
            )
        _check(prompts, "prompt")
        asked = {"logprobs": True, "top_logprobs": LISTED} if self._chat else {"logprobs": LISTED}

        def body(row: int) -> Body:
            return self._body(shared + prompts[row], max_tokens=1, temperature=0.0, **asked)

        def read(row: int, answer: Body) -> list[float]:
            listed = self._listed(answer)
            found = [_label(label, listed) for label in labels]
            if all(value is None for value in found):
                likeliest = [token for token, _ in sorted(listed, key=lambda each: -each[1])[:5]]
                raise Refused(
                    f"row {row}: {self.name} says none of {list(labels)}, but one of {likeliest}. Switch its thinking "
                    "off at the server, change `chat`, or take another model to judge."
                )
            least = min(value for _, value in listed)
            return [least if value is None else value for value in found]

        advice = f"It may not list its {LISTED} likeliest tokens (`logprobs`). {ELSEWHERE} {SHORTEN}"
        found = np.asarray(self._server.ask(self._path, len(prompts), body, read, advice), np.float64)
        found = found.reshape(len(prompts), len(labels))
        return (found - np.logaddexp.reduce(found, axis=1, keepdims=True)).astype(np.float32)

    def _listed(self, answer: Body) -> list[tuple[str, float]]:
        """The likeliest first tokens with their log-probabilities, in either form in which servers give them."""
        held = _choice(answer).get("logprobs")
        if not isinstance(held, Mapping):
            raise Refused(f"{self.name} gives no log-probabilities (`logprobs`). {ELSEWHERE}")
        try:
            if content := held.get("content"):
                return [(str(each["token"]), _number(each["logprob"])) for each in content[0]["top_logprobs"]]
            return [(str(token), _number(value)) for token, value in held["top_logprobs"][0].items()]
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise Lost(f"no likeliest tokens in {held}") from error


def _check(texts: Sequence[str], name: str) -> None:
    if empty := [number for number, text in enumerate(texts) if not text]:
        raise Refused(f"{name} {empty[0]} is empty; needed: text.")


def _seed(seed: int, row: int) -> int:
    # 31 bits: some servers read more as a negative number, and llama.cpp 2**32 - 1 as none.
    return int(np.random.SeedSequence((seed, row)).generate_state(1)[0] >> 1)


def _choice(answer: Body) -> Mapping[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise Lost(f"no `choices` in {answer}")
    return choices[0]


def _written(answer: Body) -> str:
    """The text of an answer that came to an end."""
    choice = _choice(answer)
    message = choice.get("message")
    text = message.get("content") if isinstance(message, Mapping) else choice.get("text")
    end = choice.get("finish_reason")
    if not isinstance(text, str) or not isinstance(end, str) or end in ("", "abort", "error"):
        raise Lost(f"no text that came to an end: {dict(choice)}")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a character fits in no file


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Lost(f"a log-probability that is {value!r:.40}")
    return float(value)


def _label(label: str, listed: Sequence[tuple[str, float]]) -> float | None:
    """Log-probability of the longest listed token with which a label begins, spaces aside; None if there is none."""
    fitting = [(token.strip(), value) for token, value in listed if token.strip()]
    fitting = [(token, value) for token, value in fitting if label.strip().startswith(token)]
    longest = max((len(token) for token, _ in fitting), default=0)
    values = [value for token, value in fitting if len(token) == longest]
    return float(np.logaddexp.reduce(values)) if values else None


def first_piece(pieces: Sequence[str], whole: str, start: int) -> int | None:
    """The first of a text's tokens that has characters from `start` on; None if they do not spell that text.

    Counted from the end: a server's own offsets also count a token before the text that is not in it, and a character
    that is several tokens as several (vLLM), or are not there (SGLang).

    Args:
        pieces: Each token, spelt; a part of a character is unreadable, and spaces may be missing or drawn as bars.
        whole: The text.
        start: Where what is looked for begins in it.
    """
    at, unread = len(whole), 0
    for number in range(len(pieces) - 1, -1, -1):
        piece = pieces[number].replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
        if UNREADABLE in piece or not piece:
            unread += len(piece)
            continue
        found = whole.rfind(piece, 0, at)
        end = found + len(piece)
        if found < 0 or len(whole[end:at].strip()) > unread:
            return None
        if end <= start:
            return number + 1
        if found <= start:
            return number
        at, unread = found, 0
    return None


def _by_offset(pieces: Sequence[str], offsets: Sequence[object], whole: str, start: int) -> int | None:
    """The same by the server's own offsets, where they are of the text: tokens may be spelt as the vocabulary does."""
    places = [offset for offset in offsets if isinstance(offset, int)]
    if len(places) < len(pieces) or not pieces or places[-1] + len(pieces[-1]) != len(whole):
        return None
    ends = [*places[1:], len(whole)]
    return next(number for number, end in enumerate(ends) if end > start)
