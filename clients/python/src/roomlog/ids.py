"""Message ids, `<ms>-<seq>`: how they compare and follow each other."""

from __future__ import annotations


def parse_id(id: str) -> tuple[int, int]:
    """Returns an id's two numbers, which compare as ids do."""
    ms, _, seq = id.partition("-")
    return int(ms), int(seq)


def is_after(id: str, position: str) -> bool:
    return parse_id(id) > parse_id(position)


def before(id: str) -> str:
    """Returns the position right before a message."""
    ms, seq = parse_id(id)
    return f"{ms}-{seq - 1}"


def follows(position: str, id: str) -> bool:
    """Tells whether `id` comes right after `position`, with nothing between them."""
    return is_after(id, position) and parse_id(id)[1] == parse_id(position)[1] + 1
