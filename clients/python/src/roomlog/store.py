"""The file that keeps unconfirmed messages across restarts: a SQLite database, which one process uses at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack

from .errors import RoomlogError

# Marks the files of this class, and the version of their table.
APPLICATION_ID = 0x524C4F42
VERSION = 1

TABLE = """
CREATE TABLE messages (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL,
    key TEXT NOT NULL,
    type TEXT NOT NULL,
    data BLOB NOT NULL,
    attempted INTEGER NOT NULL DEFAULT 0,
    after TEXT,
    UNIQUE (room, key)
)
"""


@dataclass(frozen=True)
class Entry:
    """An unconfirmed message, as it is stored."""

    room: str
    key: str
    type: str
    data: Any
    attempted: bool
    """Whether it may have reached the server."""
    after: str | None
    """A position of the room before the first attempt, where one is known."""


class SqliteOutbox:
    """Keeps unconfirmed messages in a file: `Roomlog(…, outbox=SqliteOutbox(path))`.

    `publish` returns when the message is on the disk. After a restart, even after `kill -9` or a power cut, the next client with this
    file sends what is left, in order and stored once. Use one file for each user and server. The file is opened when the client is
    first used, and belongs to that client until it is closed.

    Raises `RoomlogError` with the code `outbox_locked` while another client uses the file, and `outbox_failed` if the file cannot be
    read or written. Neither changes the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        """The path of the file. SQLite keeps files beside it, whose names begin with the same."""
        self._database: sqlite3.Connection | None = None
        self._lock: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"SqliteOutbox({self.path!r})"

    def _open(self) -> list[Entry]:
        """Takes the file, and returns its messages in order."""
        if self._lock:
            raise self._locked()
        try:
            with self._explained():
                self._take()
                self._database = sqlite3.connect(self.path, timeout=0, isolation_level=None)
                self._prepare(self._database)
                rows = self._database.execute("SELECT room, key, type, data, attempted, after FROM messages ORDER BY n")
                return [Entry(room, key, type, _unpack(data), bool(attempted), after) for room, key, type, data, attempted, after in rows]
        except BaseException:
            self._close()
            raise

    def _put(self, room: str, key: str, type: str, data: Any) -> None:
        self._execute("INSERT INTO messages (room, key, type, data) VALUES (?, ?, ?, ?)", room, key, type, msgpack.packb(data))

    def _attempt(self, room: str, key: str, after: str | None) -> None:
        """Records that a message is about to be sent."""
        self._execute("UPDATE messages SET attempted = 1, after = ? WHERE room = ? AND key = ?", after, room, key)

    def _delete(self, room: str, key: str) -> None:
        self._execute("DELETE FROM messages WHERE room = ? AND key = ?", room, key)

    def _close(self) -> None:
        for connection in (self._database, self._lock):
            if connection:
                connection.close()
        self._database = self._lock = None

    def _take(self) -> None:
        """Locks the file against other clients, by a transaction on an empty database beside it.

        An exclusive lock on the database itself would not do: a child process that inherits it would take the lock for its own when it
        closes its copy of the connection, and clean up under the parent.
        """
        lock = sqlite3.connect(f"{self.path}-lock", timeout=0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if "locked" in str(error):
                raise self._locked() from None
            raise
        self._lock = lock

    def _locked(self) -> RoomlogError:
        return RoomlogError(
            "outbox_locked",
            f"another client, perhaps of another process, uses the outbox {self.path}: close it, or give each process a file of its own",
        )

    def _prepare(self, database: sqlite3.Connection) -> None:
        [identity] = database.execute("PRAGMA application_id").fetchone()
        [version] = database.execute("PRAGMA user_version").fetchone()
        [tables] = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (identity, version, tables) == (0, 0, 0):
            database.execute("BEGIN")
            database.execute(TABLE)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute("COMMIT")
        elif identity != APPLICATION_ID:
            raise RoomlogError("outbox_failed", f"{self.path} is the database of another program: choose another path for the outbox")
        elif version != VERSION:
            raise RoomlogError(
                "outbox_failed",
                f"the outbox {self.path} has the format {version}, and this version of roomlog knows {VERSION}: install a newer one",
            )
        [found] = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")

    def _execute(self, statement: str, *values: object) -> None:
        assert self._database, "the client opens the outbox before it uses it"
        with self._explained():
            self._database.execute(statement, values)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            advice = "check that the directory exists, that this user may write to it, and that the disk has space"
            raise RoomlogError("outbox_failed", f"the outbox {self.path} cannot be used ({error}): {advice}") from error
        except sqlite3.DatabaseError as error:
            advice = "move it away to begin with an empty one; the messages in it were not changed"
            raise RoomlogError("outbox_failed", f"the outbox {self.path} is damaged ({error}): {advice}") from error


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data)
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"the data of a message cannot be decoded: {error}") from error
