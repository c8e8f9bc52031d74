"""The helpers for an application's server: signed tokens that a real server accepts, and the REST clients."""

import asyncio
import inspect
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import jwt
import msgpack
import pytest
from harness import Answers, Server, token
from harness.server import REPOSITORY, SECRET

from roomlog import Gap, RoomlogError
from roomlog.server import AsyncRestClient, NewMessage, RestClient, Subscription, sign_token

KEYS = REPOSITORY / "tests/fixtures/keys"

ALL = {"*": ["read", "write", "manage"]}


def sign(**options):
    return sign_token(**{"secret": SECRET, "user": "app", "rooms": ALL, **options})


class Caller:
    """Calls either client in the same way."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def listed(*arguments, **options):
            result = method(*arguments, **options)
            return list(result) if inspect.isgenerator(result) else result

        async def call(*arguments, **options):
            if isinstance(self.client, RestClient):
                return await asyncio.to_thread(listed, *arguments, **options)
            result = method(*arguments, **options)
            return [item async for item in result] if inspect.isasyncgen(result) else await result

        return call


@pytest.fixture(params=[RestClient, AsyncRestClient], ids=["threads", "asyncio"])
def rest(request, server, stack):
    """Makes clients that may do everything."""

    def make(url=None, **options):
        caller = Caller(request.param(url or server.url, **{"token": sign, **options}))
        stack.push_async_callback(caller.close)
        return caller

    return make


def claims(signed):
    return jwt.decode(signed, options={"verify_signature": False})


def test_a_token_has_the_claims_of_the_protocol():
    now = datetime.now(timezone.utc).timestamp()
    signed = claims(sign(user="ann", rooms={"chat.*": ("read",)}, expires_in=timedelta(minutes=5), id="phone"))
    assert signed == {"sub": "ann", "iat": signed["iat"], "exp": signed["iat"] + 300, "rooms": {"chat.*": ["read"]}, "jti": "phone"}
    assert abs(signed["iat"] - now) < 5
    assert "jti" not in claims(sign())


async def test_a_client_connects_with_a_token_and_may_do_what_it_grants(client, server, name):
    signed = sign(user="ann", rooms={name: ["read", "write"]}, expires_in=60)
    one = client(token=signed)
    id = await one.room(name).publish(1)
    assert (one.user, [message.id for message in (await one.room(name).history()).messages]) == ("ann", [id])
    with pytest.raises(RoomlogError, match=r"^forbidden: "):
        await one.room(f"{name}.other").publish(1)


@pytest.mark.parametrize(("key", "algorithm"), [("rsa_a", "RS256"), ("ec_a", "ES256"), ("ed_a", "EdDSA")])
async def test_private_keys_sign_for_a_server_that_has_the_public_key(client, key, algorithm):
    own = Server(AUTH__PUBLIC_KEY_FILE=str(KEYS / f"{key}.public.pem"))
    try:
        await asyncio.to_thread(own.start)
        signed = sign_token(private_key=(KEYS / f"{key}.private.pem").read_text(), user="ann", rooms=ALL)
        assert jwt.get_unverified_header(signed)["alg"] == algorithm
        await client(own.url, token=signed).room("a").publish(1)
    finally:
        await asyncio.to_thread(own.end)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"secret": None}, "pass either `secret` or `private_key`"),
        ({"private_key": "x"}, "pass either `secret` or `private_key`"),
        ({"secret": "short"}, "`secret` must have at least 32 bytes: make one with `openssl rand -hex 32`"),
        ({"user": ""}, "`user` must have 1 to 256 bytes"),
        ({"user": "ä" * 129}, "`user` must have 1 to 256 bytes"),
        ({"expires_in": 0}, "`expires_in` must be more than 0 seconds"),
        ({"rooms": {"a": ["admin"]}}, "the permissions of 'a' must be a list of 'read', 'write', 'manage', and are ['admin']"),
        ({"rooms": {"a": "read"}}, "the permissions of 'a' must be a list of 'read', 'write', 'manage', and are 'read'"),
        ({"secret": None, "private_key": "no key"}, "`private_key` must be a private key in PEM without a password: "),
        (
            {"secret": None, "private_key": (KEYS / "rsa_a.public.pem").read_text()},
            "`private_key` must be a private key in PEM without a password: ",
        ),
    ],
)
def test_arguments_that_the_server_would_refuse_are_refused(options, why):
    with pytest.raises(RoomlogError) as raised:
        sign(**options)
    assert raised.value.code == "bad_request"
    assert raised.value.args[0].startswith(f"the token cannot be signed: {why}")


async def test_publishes_and_reads(rest, server, name):
    api = rest()
    key = str(uuid.uuid4())
    id = await api.publish(name, {"n": 1, "raw": b"\x89PNG"}, type="note", key=key)
    assert await api.publish(name, "ignored", key=key) == id
    ids = [id, *[await api.publish(name, n) for n in range(2, 5)]]
    page = await api.history(name)
    assert [message.id for message in page.messages] == ids and (page.more, page.head, page.gap) == (False, ids[-1], None)
    first = page.messages[0]
    assert (first.room, first.key, first.from_, first.type, first.data) == (name, key, "app", "note", {"n": 1, "raw": b"\x89PNG"})

    async def read(**options):
        return [message.id for message in (await api.history(name, **options)).messages]

    assert await read(limit=2) == ids[2:]
    assert await read(before=ids[2]) == ids[:2]
    assert await read(after=ids[1], limit=1) == ids[2:3]
    assert await read(from_time=page.messages[0].time) == ids
    assert await read(from_time=datetime.now(timezone.utc) + timedelta(hours=1)) == []
    with pytest.raises(RoomlogError, match="has no time zone"):
        await api.history(name, from_time=datetime(2026, 1, 1))
    with pytest.raises(RoomlogError, match=r"^bad_request: data.at cannot be sent"):
        await api.publish(name, {"at": datetime.now()})


async def test_a_batch_tells_the_outcome_of_each_message(rest, server, name):
    key = str(uuid.uuid4())
    api = rest(token=lambda: sign(rooms={f"{name}*": ["write"]}))
    first, refused, large, other, again = await api.publish_batch(
        [
            NewMessage(name, 1, key=key),
            NewMessage("secret", 2),
            NewMessage(name, "x" * 70_000),
            NewMessage(f"{name}.b", b"raw", type="raw"),
            NewMessage(name, 5, key=key),
        ]
    )
    assert (refused.code, large.code, again) == ("forbidden", "too_large", first)
    assert [message["id"] for message in server.history(name)] == [first]
    assert [(message["id"], message["type"]) for message in server.history(f"{name}.b")] == [(other, "raw")]


async def test_deletes_messages_and_rooms(rest, name):
    api = rest()
    ids = [await api.publish(name, n) for n in range(3)]
    await api.delete_message(name, ids[1])
    assert (await api.history(name, after="0")).gap == Gap(name, ids[0], ids[2], "trimmed")
    await api.delete_room(name)
    for call in (api.delete_room(name), api.delete_message(name, ids[0])):
        with pytest.raises(RoomlogError) as raised:
            await call
        assert raised.value.code == "not_found"


async def test_lists_all_rooms_and_subscriptions_over_several_pages(rest, client, name):
    api = rest()
    names = {f"{name}.@{n}:x" for n in range(1500)}
    await api.publish_batch([NewMessage(room, 1) for room in sorted(names)[:1000]])
    await api.publish_batch([NewMessage(room, 1) for room in sorted(names)[1000:]])
    listed = await api.rooms(f"{name}.*")
    assert set(listed) == names
    assert names <= set(await api.rooms())
    id = await api.publish(name, 1)
    for n in range(3):
        one = client(token=token("ann"))
        async with one.room(name).messages(durable=f"bot{n}"):
            pass
        await one.close()
    assert sorted(await api.subscriptions(name), key=lambda one: one.name) == [
        Subscription("ann", f"bot{n}", id, 0, False) for n in range(3)
    ]


async def test_subscriptions_continue_on_the_next_page(rest, stack):
    """The real server gives pages of a thousand."""
    asked = []

    def answer(path, body):
        asked.append(path)
        user, link = (
            ("second", "") if "after=" in path else ("first", 'link: </v1/rooms/a/subscriptions?limit=2&after=b%2fc>; rel="next"\r\n')
        )
        return 200, msgpack.packb([{"user": user, "name": "bot", "position": "1-1", "lag": 2, "connected": True}]), link

    answers = await Answers(answer).start()
    stack.push_async_callback(answers.close)
    assert [one.user for one in await rest(f"{answers.url}/chat").subscriptions("a")] == ["first", "second"]
    assert asked == ["/chat/v1/rooms/a/subscriptions", "/chat/v1/rooms/a/subscriptions?limit=2&after=b%2fc"]


async def test_revokes_a_token_or_the_tokens_of_a_user(rest, client, name):
    api = rest()
    eve = f"eve of {name}"
    phone, laptop, other = sign(user=eve, id=f"{name}.phone"), sign(user=eve, id=f"{name}.laptop"), sign(user="kim")
    await api.revoke(id=f"{name}.phone")
    with pytest.raises(RoomlogError, match=r"^token_revoked: "):
        await client(token=phone).connect()
    await client(token=laptop).connect()
    await api.revoke(user=eve, before=datetime.now(timezone.utc) - timedelta(hours=1))
    await client(token=laptop).connect()
    await api.revoke(user=eve)
    with pytest.raises(RoomlogError, match=r"^token_revoked: "):
        await client(token=laptop).connect()
    await client(token=other).connect()
    with pytest.raises(RoomlogError) as raised:
        await api.revoke()
    assert raised.value.code == "bad_request"


async def test_refusals_have_the_code_of_the_protocol(rest, name):
    for options, code in [({"token": "nonsense"}, "unauthenticated"), ({"token": sign(rooms={})}, "forbidden")]:
        with pytest.raises(RoomlogError) as raised:
            await rest(**options).publish(name, 1)
        assert raised.value.code == code
    with pytest.raises(RoomlogError, match=r"is not the address of a server"):
        rest("chat.example")


async def test_an_expired_token_is_replaced_and_a_text_is_explained(rest, name):
    asked = []

    def source():
        asked.append(1)
        return token("app", ttl=-60 if len(asked) == 1 else 60)

    api = rest(token=source)
    await api.publish(name, 1)
    await api.publish(name, 2)
    assert len(asked) == 2
    with pytest.raises(RoomlogError, match=r"^token_expired: the token expired on 2020-09-13 .* pass a function as `token`"):
        await rest(token=token("app", exp=1_600_000_000)).publish(name, 1)
    with pytest.raises(RoomlogError, match=r"^application: the token function failed: division by zero"):
        await rest(token=lambda: 1 / 0).publish(name, 1)


async def test_a_token_function_of_asyncio_may_be_asynchronous(server, name):
    async def source():
        return sign()

    async with AsyncRestClient(server.url, token=source) as api:
        await api.publish(name, 1)


async def test_a_publish_is_stored_once_over_lost_connections(rest, proxy, server, name):
    """The connection is cut after some bytes, which may be those of the request or of the answer."""
    api = rest(proxy.url, retries=20)
    ids = []
    for n in range(20):
        proxy.cut_after(n * 34)
        ids.append(await api.publish(name, n))
    assert proxy.connections > 10
    assert [(message["id"], message["data"]) for message in server.history(name)] == list(zip(ids, range(20), strict=True))


async def test_a_delete_that_was_done_before_the_connection_was_lost_succeeds(rest, proxy, name):
    for size in range(0, 600, 100):
        id = await rest().publish(name, 1)
        api = rest(proxy.url)
        proxy.cut_after(size)
        await api.delete_message(name, id)


async def test_an_unreachable_server_is_an_error_after_the_retries(rest):
    with pytest.raises(RoomlogError, match=r"^disconnected: the server cannot be reached: ") as raised:
        await rest("http://127.0.0.1:9", retries=1).publish("a", 1)
    assert raised.value.is_temporary


STORED = msgpack.packb({"id": "1-1", "key": "0b9d9b2e-6a52-4f0e-9d3a-6d3c1f0c7a11"})


def problem(**fields):
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ([(503, problem(code="unavailable", detail="again", retry_after_ms=10)), (201, STORED)], None),
        ([(502, b"<h1>Bad Gateway</h1>"), (201, STORED)], None),
        ([(429, problem(code="rate_limited", detail="later", retry_after_ms=60_000))], ("rate_limited", 60.0)),
        ([(404, b"<h1>Not Found</h1>")], ("bad_request", None)),
        ([(200, b"<h1>Log in to this network</h1>")], ("bad_request", None)),
    ],
    ids=["unavailable", "gateway", "rate limited for long", "another server", "captive portal"],
)
async def test_temporary_refusals_are_retried_with_the_same_key(rest, stack, given, outcome):
    keys = []

    def answer(path, body):
        keys.append(msgpack.unpackb(body)["key"])
        return (*given[len(keys) - 1], "")

    answers = await Answers(answer).start()
    stack.push_async_callback(answers.close)
    api = rest(answers.url)
    if outcome is None:
        assert await api.publish("a", 1) == "1-1"
    else:
        with pytest.raises(RoomlogError) as raised:
            await api.publish("a", 1)
        assert (raised.value.code, raised.value.retry_after) == outcome
    assert len(keys) == len(given) and len(set(keys)) == 1


def test_threads_share_a_rest_client(server, name):
    with RestClient(server.url, token=sign) as api, ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda n: api.publish(name, n), range(100)))
    assert {message["id"] for message in server.history(name)} == set(ids)
