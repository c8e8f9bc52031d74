"""The requests of the REST clients, with their retries, as steps without I/O: an operation yields requests and pauses, gets answers, and
returns its result. `rest.py` carries the steps out."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeVar
from urllib.parse import quote

import msgpack

from ..data import snapshot
from ..errors import RoomlogError
from ..protocol import page_of
from ..types import HistoryPage

R = TypeVar("R")

MEDIA_TYPE = "application/msgpack"

# Statuses of a proxy that cannot reach the server now.
GATEWAY = (429, 502, 503, 504)

# Pauses before the next attempt, in seconds: the first doubles up to the last. A server that asks for a longer one is not waited for.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0


@dataclass(frozen=True)
class NewMessage:
    """A message of a batch."""

    room: str
    """The name of its room."""
    data: Any
    """Its content: any JSON value, or `bytes`."""
    type: str = "message"
    """Its type."""
    key: str | None = None
    """A UUID, generated if it is missing. Publishing a key again stores nothing new."""


@dataclass(frozen=True)
class Subscription:
    """A durable subscription to a room."""

    user: str
    """Its user."""
    name: str
    """Its name, which is the user's own."""
    position: str
    """The id of the last acknowledged message."""
    lag: int
    """The number of messages that are not acknowledged."""
    connected: bool
    """Whether a connection holds it now."""


@dataclass
class Request:
    """A request to send, with a token."""

    method: str
    path: str
    params: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"accept": MEDIA_TYPE, **({"content-type": MEDIA_TYPE} if self.body is not None else {})}


@dataclass
class Answer:
    """The answer to a request."""

    status: int
    body: bytes
    #: The path of the next page, if there is one.
    next: str | None


class Pause(float):
    """Seconds to wait."""


class NewToken:
    """The last token has expired by the server's clock: the next request needs another."""


Steps = Generator[Request | Pause | NewToken, Answer | RoomlogError | None, R]


def publish(retries: int, room: str, data: Any, type: str, key: str | None) -> Steps[str]:
    body = {"data": snapshot(data, binary=True), "type": type, "key": key or str(uuid.uuid4())}
    id: str = _decoded((yield from _ask(retries, "POST", f"{_room(room)}/messages", body=body)))["id"]
    return id


def publish_batch(retries: int, messages: Iterable[NewMessage]) -> Steps[list[str | RoomlogError]]:
    body = [
        {"room": message.room, "data": snapshot(message.data, binary=True), "type": message.type, "key": message.key or str(uuid.uuid4())}
        for message in messages
    ]
    items = _decoded((yield from _ask(retries, "POST", "/v1/messages", body=body)))
    return [item["id"] if "id" in item else _error(item["error"], "message") for item in items]


def history(
    retries: int, room: str, before: str | None, after: str | None, from_time: datetime | None, limit: int | None
) -> Steps[HistoryPage[Any]]:
    params = {"before": before, "after": after, "limit": limit}
    if from_time:
        if from_time.tzinfo is None:
            raise RoomlogError("bad_request", "`from_time` has no time zone: use one such as `datetime.now(timezone.utc)`")
        params["from_time"] = int(from_time.astimezone(timezone.utc).timestamp() * 1000)
    newest = before is None and after is None and from_time is None
    params["order"] = "desc" if newest else "asc"
    present = {name: str(value) for name, value in params.items() if value is not None}
    page = page_of(room, _decoded((yield from _ask(retries, "GET", f"{_room(room)}/messages", present))))
    if newest:
        page.messages.reverse()
    return page


def rooms(retries: int, match: str | None, cursor: str | None) -> Steps[tuple[list[str], str | None]]:
    params = {name: value for name, value in (("match", match), ("cursor", cursor)) if value is not None}
    page = _decoded((yield from _ask(retries, "GET", "/v1/rooms", params)))
    return page["rooms"], page["cursor"]


def subscriptions(retries: int, room: str, path: str | None) -> Steps[tuple[list[Subscription], str | None]]:
    answer = yield from _ask(retries, "GET", path or f"{_room(room)}/subscriptions")
    return [Subscription(*(item[name] for name in Subscription.__dataclass_fields__)) for item in _decoded(answer)], answer.next


def delete_message(retries: int, room: str, id: str) -> Steps[None]:
    yield from _ask(retries, "DELETE", f"{_room(room)}/messages/{quote(id, safe='')}")


def delete_room(retries: int, room: str) -> Steps[None]:
    yield from _ask(retries, "DELETE", _room(room))


def revoke(retries: int, id: str | None, user: str | None, before: datetime | None) -> Steps[None]:
    body: dict[str, Any] = {"jti": id, "user": user}
    if before:
        body["before"] = int(before.timestamp())
    yield from _ask(retries, "POST", "/v1/revocations", body={name: value for name, value in body.items() if value is not None})


def _room(name: str) -> str:
    return f"/v1/rooms/{quote(name, safe='')}"


def _ask(retries: int, method: str, path: str, params: dict[str, str] | None = None, body: object = None) -> Steps[Answer]:
    """Sends a request until it is answered. All can be repeated: publishes have keys, and the others change nothing the second time."""
    request = Request(method, path, params or {}, None if body is None else msgpack.packb(body))
    attempts, renewed = 0, False
    while True:
        attempts += 1
        answer = yield request
        if isinstance(answer, Answer):
            error = _refusal(answer)
            if not error:
                return answer
            if error.code == "not_found" and method == "DELETE" and attempts > 1:
                # An earlier attempt has deleted it.
                return answer
        else:
            assert answer
            error = answer
        if error.code == "token_expired" and not renewed:
            renewed = True
            yield NewToken()
            continue
        pause = random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempts) if error.retry_after is None else error.retry_after
        if not error.is_temporary or attempts > retries or pause > LONGEST_PAUSE:
            raise error
        yield Pause(pause)


def _refusal(answer: Answer) -> RoomlogError | None:
    if answer.status < 300:
        return None
    try:
        return _error(json.loads(answer.body), "detail")
    except (ValueError, KeyError, TypeError):
        if answer.status in GATEWAY:
            return RoomlogError("unavailable", f"a proxy before the server answered with the HTTP status {answer.status}")
        return _foreign(answer)


def _error(problem: dict[str, Any], text: str) -> RoomlogError:
    return RoomlogError(problem["code"], problem[text], retry_after_ms=problem.get("retry_after_ms"))


def _decoded(answer: Answer) -> Any:
    try:
        return msgpack.unpackb(answer.body)
    except ValueError:
        raise _foreign(answer) from None


def _foreign(answer: Answer) -> RoomlogError:
    return RoomlogError(
        "bad_request", f"the answer, with the HTTP status {answer.status}, is not one of a Roomlog server: check the address"
    )
