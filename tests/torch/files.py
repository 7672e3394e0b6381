"""How processes of a test wait for each other without the group that is under test."""

import os
import time


def signal_peers(path):
    """Tells wait_for_peers(path) that this process has come so far."""
    with open(path, "x"):
        pass


def wait_for_peers(path, limit=30):
    """Returns when somebody has called signal_peers(path); AssertionError after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not os.path.exists(path):
        assert time.monotonic() < deadline, f"nobody has made {path} within {limit} s"
        time.sleep(0.001)
