"""The Python client of Roomlog: publishes each message once, and reads each once and in order. Begin with `Roomlog`.

`roomlog.sync` has the same client without asyncio, and `roomlog.server` helpers for the server of an application.
"""

from .client import Roomlog
from .connection import ConnectionState, Timing
from .errors import RoomlogError
from .protocol import Encoding
from .publication import Publication, PublicationState
from .room import Messages, Room
from .store import SqliteOutbox
from .subscription import SubscriptionState
from .tokens import TokenSource
from .types import Deleted, Gap, HistoryPage, Message, Signal

__all__ = [
    "ConnectionState",
    "Deleted",
    "Encoding",
    "Gap",
    "HistoryPage",
    "Message",
    "Messages",
    "Publication",
    "PublicationState",
    "Room",
    "Roomlog",
    "RoomlogError",
    "Signal",
    "SqliteOutbox",
    "SubscriptionState",
    "Timing",
    "TokenSource",
]
