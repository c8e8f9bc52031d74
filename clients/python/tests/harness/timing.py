"""Short pauses, so that a test of reconnecting takes no longer than it must."""

from roomlog import Timing

FAST = Timing(backoff_min=0.02, backoff_max=0.2, connect=3)
