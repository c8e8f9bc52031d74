"""The harness of the tests: a real server, networks that break, and waiting for conditions."""

from .answers import Answers
from .proxy import Proxy
from .relay import Relay
from .server import Server, token
from .timing import FAST
from .until import until, wait_until

__all__ = ["FAST", "Answers", "Proxy", "Relay", "Server", "token", "until", "wait_until"]
