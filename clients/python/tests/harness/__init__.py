"""The harness of the tests: a real server, networks that break, and waiting for conditions."""

from .proxy import Proxy
from .relay import Relay
from .server import Server, token
from .until import until

__all__ = ["Proxy", "Relay", "Server", "token", "until"]
