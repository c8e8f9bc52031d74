"""The golden frames, which the server is tested with, too: this client's encoding and decoding of them."""

import base64
import dataclasses
import json

import pytest
from harness.server import REPOSITORY

from roomlog import Deleted, RoomlogError
from roomlog.connection import FINAL
from roomlog.protocol import codec_of, frames_of, gap_of, message_of, signal_of

GOLDEN = [json.loads(path.read_text()) for path in sorted((REPOSITORY / "tests/fixtures/protocol").glob("*.json"))]

JSON, MSGPACK = codec_of("json"), codec_of("msgpack")


def of(direction):
    chosen = [golden for golden in GOLDEN if golden["direction"] == direction]
    assert chosen
    return pytest.mark.parametrize("golden", chosen, ids=[golden["name"] for golden in chosen])


def as_json(value):
    """Returns a value as it arrives over JSON."""
    return json.loads(json.dumps(value, default=lambda raw: base64.b64encode(raw).decode()))


@of("client")
def test_client_frames_are_encoded_byte_for_byte(golden):
    raw = bytes.fromhex(golden["msgpack"])
    frame = MSGPACK.decode(raw)
    assert MSGPACK.encode(frame) == raw
    assert as_json(frame) == JSON.decode(golden["json"])
    if not golden.get("binary"):
        assert JSON.encode(frame) == golden["json"]


@of("server")
def test_server_frames_are_decoded_without_loss(golden):
    from_json = frames_of(JSON.decode(golden["json"]))
    from_msgpack = frames_of(MSGPACK.decode(bytes.fromhex(golden["msgpack"])))
    assert as_json(from_msgpack) == from_json
    for frame in from_msgpack:
        readers = {"message": message_of, "signal": signal_of, "gap": lambda gap: gap_of(gap["room"], gap)}
        if frame.get("sys"):
            assert signal_of(frame) == Deleted(frame["room"], frame["data"]["id"], frame["from"])
        elif frame["op"] in readers:
            # No field is lost.
            read = dataclasses.asdict(readers[frame["op"]](frame))
            assert {key.rstrip("_"): value for key, value in read.items()} == {k: v for k, v in frame.items() if k != "op"}


CODES = json.loads((REPOSITORY / "tests/fixtures/codes.json").read_text())


@pytest.mark.parametrize("error", CODES["errors"], ids=[error["code"] for error in CODES["errors"]])
def test_errors_are_temporary_as_in_the_table_of_codes(error):
    assert RoomlogError(error["code"], "as in the table").is_temporary == error["temporary"]


# Rules: close-1000, close-1002, close-1007, close-1009, close-1012.
# Rules: close-4001, close-4002, close-4003, close-4004, close-4005, close-4501, close-4502, close-4503.
@pytest.mark.parametrize("close", CODES["closes"], ids=[str(close["number"]) for close in CODES["closes"]])
def test_closes_are_final_as_in_the_table_of_codes(close):
    assert (close["number"] in FINAL) == close["final"]
