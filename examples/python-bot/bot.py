"""A bot that answers each command in a room once, including the commands sent while it was down.

Its subscription is durable, so the server keeps its position. A command is acknowledged after its answer is stored. If the bot dies in
between, it answers again with the same key, which stores nothing new.
"""

import asyncio
import os
import uuid
from datetime import datetime, timezone

from roomlog import Gap, Message, Roomlog

# Namespace for the key of an answer, which is derived from the key of the command.
ANSWERS = uuid.UUID("6f1c1f0e-7d0b-4a53-9a55-2f6f6a3d9b51")


def answer_to(message: Message) -> str | None:
    """Returns the answer to a command, or None for any other message."""
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
            return f"I know !echo and !when, but not {command}"


async def main() -> None:
    url = os.environ.get("ROOMLOG_URL", "http://127.0.0.1:8080")
    async with Roomlog(url, token=os.environ["ROOMLOG_TOKEN"]) as client:
        room = client.room(os.environ.get("ROOMLOG_ROOM", "chat.general"))
        async with room.messages(durable="bot") as messages:
            print(f"answering in {room.name}", flush=True)
            async for message in messages:
                if isinstance(message, Gap):
                    print(
                        f"commands after {message.after} are no longer available: {message.reason}",
                        flush=True,
                    )
                    continue
                # The bot's own answers are messages too, but never commands, even if they echo one.
                if message.type != "answer" and (text := answer_to(message)) is not None:
                    key = str(uuid.uuid5(ANSWERS, message.key))
                    await room.publish({"text": text, "to": message.from_}, type="answer", key=key)
                room.ack(message)


if __name__ == "__main__":
    asyncio.run(main())
