"""The clients of the REST interface, for threads and for asyncio: httpx carries out the steps of `operations.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

import httpx

from ..address import http_url
from ..errors import RoomlogError
from ..tokens import Tokens, TokenSource
from ..types import HistoryPage
from . import operations
from .operations import Answer, NewMessage, NewToken, Request, Steps, Subscription

R = TypeVar("R")


class RestClient:
    """Publishes, reads and administers rooms over HTTP, without following them. May be used by several threads.

    - `url`: the server's address, such as `https://chat.example`.
    - `token`: a token, or a function that returns one: called at the start, before a token expires, and after the server refused one
      as expired. `sign_token` makes tokens.
    - `timeout`: the longest time for each attempt, in seconds.
    - `retries`: the number of further attempts after a lost connection or a temporary refusal. Publishes are repeated with the same
      key, so that they are stored once.

    All methods raise `RoomlogError` with the server's `code` and, for temporary refusals, `retry_after`; `disconnected` if the server
    cannot be reached.
    """

    def __init__(self, url: str, *, token: str | Callable[[], str], timeout: float = 10.0, retries: int = 3) -> None:
        self._http = httpx.Client(base_url=http_url(url), timeout=timeout)
        self._tokens = Tokens(token)
        self._retries = retries

    def __repr__(self) -> str:
        return f"<RestClient of {self._http.base_url}>"

    def publish(self, room: str, data: Any, *, type: str = "message", key: str | None = None) -> str:
        """Publishes a message, and returns its id. `key` is a UUID, generated if it is missing; publishing a key again stores nothing
        new, and returns the first id."""
        return self._run(operations.publish(self._retries, room, data, type, key))

    def publish_batch(self, messages: Iterable[NewMessage]) -> list[str | RoomlogError]:
        """Publishes at most 1000 messages, and returns the id of each, or the error of a message that is not stored. A message may be
        stored where one before it is not."""
        return self._run(operations.publish_batch(self._retries, messages))

    def history(
        self,
        room: str,
        *,
        before: str | None = None,
        after: str | None = None,
        from_time: datetime | None = None,
        limit: int | None = None,
    ) -> HistoryPage[Any]:
        """Reads a part of a room's history: the messages before or after an id, or from a time on, or the newest. `limit` is 1 to 1000,
        100 if it is missing."""
        return self._run(operations.history(self._retries, room, before, after, from_time, limit))

    def rooms(self, match: str | None = None) -> Iterator[str]:
        """Yields the names of all rooms, or of those that match a pattern such as `chat.*`. Needs `manage` on `*`."""
        cursor = None
        while True:
            names, cursor = self._run(operations.rooms(self._retries, match, cursor))
            yield from names
            if cursor is None:
                return

    def subscriptions(self, room: str) -> Iterator[Subscription]:
        """Yields a room's durable subscriptions. One that is used meanwhile may come twice."""
        path = None
        while True:
            page, path = self._run(operations.subscriptions(self._retries, room, path))
            yield from page
            if path is None:
                return

    def delete_message(self, room: str, id: str) -> None:
        """Deletes a message. Needs `manage`. Raises `not_found` if there is none."""
        self._run(operations.delete_message(self._retries, room, id))

    def delete_room(self, room: str) -> None:
        """Deletes a room, with its messages and subscriptions. Needs `manage`. Raises `not_found` if there is none."""
        self._run(operations.delete_room(self._retries, room))

    def revoke(self, *, id: str | None = None, user: str | None = None, before: datetime | None = None) -> None:
        """Revokes the token with this `id`, or the tokens of a user that were issued before a time (now, if it is missing), and closes
        their connections. Needs `manage` on `*`."""
        self._run(operations.revoke(self._retries, id, user, before))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> RestClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, steps: Steps[R]) -> R:
        answer: Answer | RoomlogError | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: R = end.value
                return result
            answer = None
            if isinstance(step, Request):
                answer = self._send(step, self._tokens.get_in_thread())
            elif isinstance(step, NewToken):
                self._tokens.spent()
            else:
                time.sleep(step)

    def _send(self, request: Request, token: str) -> Answer | RoomlogError:
        try:
            return _answer(self._http.request(**_arguments(request, token)))
        except httpx.TransportError as error:
            return _disconnected(error)


class AsyncRestClient:
    """As `RestClient`, for asyncio. `token` may be an `async` function, too."""

    def __init__(self, url: str, *, token: TokenSource, timeout: float = 10.0, retries: int = 3) -> None:
        self._http = httpx.AsyncClient(base_url=http_url(url), timeout=timeout)
        self._tokens = Tokens(token)
        self._retries = retries

    def __repr__(self) -> str:
        return f"<AsyncRestClient of {self._http.base_url}>"

    async def publish(self, room: str, data: Any, *, type: str = "message", key: str | None = None) -> str:
        """As `RestClient.publish`."""
        return await self._run(operations.publish(self._retries, room, data, type, key))

    async def publish_batch(self, messages: Iterable[NewMessage]) -> list[str | RoomlogError]:
        """As `RestClient.publish_batch`."""
        return await self._run(operations.publish_batch(self._retries, messages))

    async def history(
        self,
        room: str,
        *,
        before: str | None = None,
        after: str | None = None,
        from_time: datetime | None = None,
        limit: int | None = None,
    ) -> HistoryPage[Any]:
        """As `RestClient.history`."""
        return await self._run(operations.history(self._retries, room, before, after, from_time, limit))

    async def rooms(self, match: str | None = None) -> AsyncIterator[str]:
        """As `RestClient.rooms`."""
        cursor = None
        while True:
            names, cursor = await self._run(operations.rooms(self._retries, match, cursor))
            for name in names:
                yield name
            if cursor is None:
                return

    async def subscriptions(self, room: str) -> AsyncIterator[Subscription]:
        """As `RestClient.subscriptions`."""
        path = None
        while True:
            page, path = await self._run(operations.subscriptions(self._retries, room, path))
            for subscription in page:
                yield subscription
            if path is None:
                return

    async def delete_message(self, room: str, id: str) -> None:
        """As `RestClient.delete_message`."""
        await self._run(operations.delete_message(self._retries, room, id))

    async def delete_room(self, room: str) -> None:
        """As `RestClient.delete_room`."""
        await self._run(operations.delete_room(self._retries, room))

    async def revoke(self, *, id: str | None = None, user: str | None = None, before: datetime | None = None) -> None:
        """As `RestClient.revoke`."""
        await self._run(operations.revoke(self._retries, id, user, before))

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncRestClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _run(self, steps: Steps[R]) -> R:
        answer: Answer | RoomlogError | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: R = end.value
                return result
            answer = None
            if isinstance(step, Request):
                answer = await self._send(step, await self._tokens.get())
            elif isinstance(step, NewToken):
                self._tokens.spent()
            else:
                await asyncio.sleep(step)

    async def _send(self, request: Request, token: str) -> Answer | RoomlogError:
        try:
            return _answer(await self._http.request(**_arguments(request, token)))
        except httpx.TransportError as error:
            return _disconnected(error)


def _arguments(request: Request, token: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}", **request.headers}
    arguments = {"method": request.method, "url": request.path, "content": request.body, "headers": headers}
    # Even empty, parameters would replace those of the path of a next page.
    return {**arguments, "params": request.params} if request.params else arguments


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.content, response.links.get("next", {}).get("url"))


def _disconnected(error: httpx.TransportError) -> RoomlogError:
    return RoomlogError("disconnected", f"the server cannot be reached: {error or type(error).__name__}")
