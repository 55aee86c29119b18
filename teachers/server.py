"""A server of OpenAI's HTTP interface, asked many things at once: each once, and again if its answer was lost."""

import asyncio
import contextlib
import math
import os
import random
import re
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from distill.errors import Refused, check_at_least

Body = dict[str, Any]
"""What is sent, and what comes back, as JSON."""

T = TypeVar("T")

FIRST_WAIT = 1.0
"""Seconds before a row is asked a second time; doubled each time."""

LONGEST_WAIT = 30.0
"""Seconds between two attempts, at most, where the server says nothing."""

PATIENCE = 600.0
"""Seconds that a server may ask to wait; past that, somebody should know."""

SHOWN = 300
"""Characters of what a server said that a message quotes."""


class Lost(Exception):
    """An answer that did not come, or not whole; asking again may help."""

    def __init__(self, words: str, wait: float = 0.0) -> None:
        super().__init__(words)
        self.wait = wait
        """Seconds that the server asks to wait."""


class _Denied(Exception):
    """An answer that will be the same however often it is asked for."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Server:
    """Where a model is served.

    Args:
        url: Up to the version, such as http://127.0.0.1:8000/v1.
        model: Its name there.
        concurrency: Requests at once, at most.
        timeout: Seconds for one answer, all of it.
        attempts: How often a row is asked, at most.
        key: Name of the environment variable that holds the API key.

    Raises:
        Refused: The URL is none, or holds a password, which would be written into recipes.
    """

    def __init__(self, url: str, model: str, concurrency: int, timeout: float, attempts: int, key: str) -> None:
        self.host = _host(url)
        check_at_least(1, concurrency=concurrency, attempts=attempts)
        if not 0 < timeout < math.inf:
            raise Refused(f"timeout: {timeout}; needed: seconds, more than 0.")
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._url, self._model, self._key = url, model, key
        self._concurrency, self._timeout, self._attempts = concurrency, timeout, attempts
        self._random = random.Random()  # unseeded: machines that failed together should not come back together

    def ask(
        self, path: str, rows: int, body: Callable[[int], Body], read: Callable[[int, Body], T], advice: str
    ) -> list[T]:
        """What is read from the answer to each row, in the rows' order.

        The first row that fails stops the others, and what is under way is broken off.

        Args:
            path: Below the URL.
            rows: How many there are.
            body: What is sent for a row.
            read: What is wanted of a row's answer; raises `Lost` if it is not in there.
            advice: What to do if the server rejects what is sent.

        Raises:
            Refused: The server does not let us, or does not answer.
        """
        return _apart(self._all(path, rows, body, read, advice)) if rows else []

    async def _all(
        self, path: str, rows: int, body: Callable[[int], Body], read: Callable[[int, Body], T], advice: str
    ) -> list[T]:
        places = asyncio.Semaphore(self._concurrency)
        async with self._client() as client:

            async def one(row: int) -> T:
                async with places:  # held while it waits: a server that is overrun is asked less
                    return await self._one(client, path, row, body(row), read, advice)

            tasks = [asyncio.create_task(one(row)) for row in range(rows)]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(
        self,
        client: httpx2.AsyncClient,
        path: str,
        row: int,
        body: Body,
        read: Callable[[int, Body], T],
        advice: str,
    ) -> T:
        # Refusals are raised outside `except`, so that they drag no exception of another library along.
        last = Lost("")
        for attempt in range(self._attempts):
            if attempt:
                await self.sleep(self._pause(attempt, last.wait))
            try:
                return read(row, await self._answer(client, path, body))
            except Lost as lost:
                last = lost
            except _Denied as denied:
                refused = denied
                break
            if last.wait > PATIENCE:
                raise Refused(
                    f"{self.host} asks to wait {last.wait:,.0f} s before row {row} ({self._shown(last)}). Run again "
                    "after that: finished parts are kept."
                )
        else:
            raise Refused(
                f"{self.host} did not answer row {row} in {self._attempts} attempts; last: {self._shown(last)}. See "
                "whether it runs and what it logs, or lower `concurrency`; then run again: finished parts are kept."
            )
        raise Refused(await self._why(client, path, row, refused, advice))

    def _pause(self, attempt: int, asked: float) -> float:
        """Seconds until the next attempt: what the server asked for, else twice as long each time; never all alike."""
        if asked:
            return asked + self._random.random() * FIRST_WAIT
        return float(min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)) * (1 + self._random.random()) / 2

    async def _answer(self, client: httpx2.AsyncClient, path: str, body: Body | None) -> Body:
        """What the server says to one request; without a body, to a mere look."""
        try:
            async with asyncio.timeout(self._timeout):  # of the whole, however slowly it trickles
                response = await (client.post(path, json=body) if body else client.get(path))
        except TimeoutError:
            raise Lost(f"no whole answer within `timeout`, {self._timeout:g} s") from None
        except httpx2.HTTPError as error:
            raise Lost(f"{type(error).__name__} {error}") from None
        if response.status_code in (408, 425, 429) or response.status_code >= 500:
            raise Lost(f"{response.status_code}: {_words(response)}", _asked(response.headers.get("retry-after", "")))
        if not response.is_success:
            raise _Denied(response.status_code, _words(response))
        answer = _json(response)
        if not isinstance(answer, dict):
            raise Lost(f"no JSON object: {response.text}")
        return answer

    async def _why(self, client: httpx2.AsyncClient, path: str, row: int, denied: _Denied, advice: str) -> str:
        """What the server did not like, and what to do."""
        status, said = denied.status, self._shown(denied)
        if status == 401:  # its words are left out: some servers repeat what they can of a wrong key
            held = "holds one that it does not take" if self._secret() else "is not set"
            return (
                f"{self.host} wants an API key (401); the environment variable {self._key} {held}. Set it, or name "
                "another variable as `key`."
            )
        if status == 403:
            return f"{self.host} denies access (403: {said}). Put a key that may use {self._model} into {self._key}."
        offered = await self._offered(client) if status in (400, 404, 422) else []
        if offered and self._model not in offered:
            names = ", ".join(offered[:10]) + (", ..." if offered[10:] else "")
            return f"{self.host} has no model {self._model!r} ({status}: {said}). Set `model` to one of: {names}."
        if status == 404:
            return (
                f"{self.host} answers 404 to {path} ({said}). Needed: a `url` up to the version, such as "
                "http://127.0.0.1:8000/v1, and a model of that server; `chat: true` if it only chats, else false."
            )
        return f"{self.host} rejects row {row} ({status}: {said}). {advice}"

    async def _offered(self, client: httpx2.AsyncClient) -> list[str]:
        """Names of the server's models; none if it does not say."""
        try:
            held = (await self._answer(client, "/models", None)).get("data")
        except (Lost, _Denied):
            return []
        return [str(model["id"]) for model in held or () if isinstance(model, dict) and "id" in model]

    def _client(self) -> httpx2.AsyncClient:
        secret = self._secret()
        if not re.fullmatch(r"[!#-&(-\[\]-~]*", secret):  # what a header, JSON or `repr` would write otherwise
            raise Refused(f"the environment variable {self._key} holds more than an API key. Set it to the key alone.")
        return httpx2.AsyncClient(
            base_url=self._url,
            headers={"Authorization": f"Bearer {secret}"} if secret else {},
            timeout=None,
            limits=httpx2.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency),
        )

    def _secret(self) -> str:
        # Read when it is needed and never held: what is pickled, shown or logged has no key.
        return os.environ.get(self._key, "").strip()

    def _shown(self, said: Exception) -> str:
        """What was said, on one short line, without the key."""
        text = " ".join(str(said).split())
        text = text.replace(secret, "[key]") if (secret := self._secret()) else text
        return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _host(url: str) -> str:
    """Host and port of a URL."""
    if "@" in url:
        raise Refused("url: holds a user or a password. Leave it out; the key's place is the environment (`key`).")
    try:
        parts, usable = urlsplit(url), httpx2.URL(url).host
    except (httpx2.InvalidURL, ValueError):
        parts, usable = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not usable or parts.query or parts.fragment:
        raise Refused(f"url: {url!r:.200}; needed: http or https, host, path, such as http://127.0.0.1:8000/v1.")
    return parts.netloc


def _apart(work: Coroutine[Any, Any, T]) -> T:
    """What some work returns, in a thread of its own, for a notebook runs a loop in this one; an interrupt ends it."""
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()

    async def told() -> T:
        task = asyncio.current_task()
        assert task is not None
        begun.set_result((asyncio.get_running_loop(), task))
        return await work

    with ThreadPoolExecutor(1, "requests") as pool:
        done = pool.submit(asyncio.run, told())
        try:
            return done.result()
        except BaseException:
            if not done.done():
                loop, task = begun.result()
                with contextlib.suppress(RuntimeError):  # it is over by now
                    loop.call_soon_threadsafe(task.cancel)
            raise


def _json(response: httpx2.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return None


def _words(response: httpx2.Response) -> str:
    """What a server says for itself: the message inside its JSON, else all of it."""
    held = _json(response)
    for name in ("error", "message", "detail"):
        if isinstance(held, dict) and held.get(name):
            held = held[name]
    return str(held if isinstance(held, str) and held else response.text or response.reason_phrase)


def _asked(said: str) -> float:
    """Seconds that a Retry-After asks for, be it a number or a date; 0 if neither."""
    try:
        seconds = float(said)
    except ValueError:
        try:
            when = parsedate_to_datetime(said)
        except ValueError:
            return 0.0
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
