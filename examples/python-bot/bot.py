"""A bot that answers commands in a room, and misses none: also those that came while it was down, each answered once.

Its subscription is durable, so the server keeps how far it came. A command is acknowledged after its answer is stored; if the bot dies
between the two, it answers again, under the same key, and that stores nothing new.
"""

import asyncio
import os
import uuid
from datetime import datetime, timezone

from roomlog import Gap, Message, Roomlog

# Makes the key of an answer from that of its question.
ANSWERS = uuid.UUID("6f1c1f0e-7d0b-4a53-9a55-2f6f6a3d9b51")


def answer_to(message: Message) -> str | None:
    """What the bot has to say. None to what is no command."""
    text = message.data.get("text") if isinstance(message.data, dict) else None
    if not isinstance(text, str) or not text.startswith("!"):
        return None
    command, _, rest = text.partition(" ")
    match command:
        case "!echo":
            return rest
        case "!when":
            written = datetime.fromtimestamp(int(message.id.split("-")[0]) / 1000, timezone.utc)
            return f"you asked at {written:%Y-%m-%d %H:%M:%S} UTC"
        case _:
            return f"I know !echo and !when, and not {command}"


async def main() -> None:
    url = os.environ.get("ROOMLOG_URL", "http://127.0.0.1:8080")
    async with Roomlog(url, token=os.environ["ROOMLOG_TOKEN"]) as client:
        room = client.room(os.environ.get("ROOMLOG_ROOM", "chat.general"))
        async with room.messages(durable="bot") as messages:
            print(f"answering in {room.name}", flush=True)
            async for message in messages:
                if isinstance(message, Gap):
                    print(
                        f"commands after {message.after} are gone: {message.reason}",
                        flush=True,
                    )
                    continue
                # Its own answers are messages, too. They are no commands, whatever it was asked to echo.
                if message.type != "answer" and (text := answer_to(message)) is not None:
                    key = str(uuid.uuid5(ANSWERS, message.key))
                    await room.publish({"text": text, "to": message.from_}, type="answer", key=key)
                room.ack(message)


if __name__ == "__main__":
    asyncio.run(main())
