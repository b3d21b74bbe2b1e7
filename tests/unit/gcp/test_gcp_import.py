"""Google's library is imported by one thread alone: two at once can deadlock."""

from __future__ import annotations

import subprocess
import sys

# A fresh interpreter that tells of every module of Google's asked for without the door's lock.
ASK = """
import sys
from webhook_server.providers.gcp_client import Account, ApiError, Door

NOWHERE = "http://127.0.0.1:1"
door = Door(Account(project="p", compute_url=NOWHERE, billing_url=NOWHERE))

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("google.") and not door._lock._is_owned():
            print("not locked:", name)

sys.meta_path.insert(0, Watch())
for ask in (lambda: list(door.skus("s")), lambda: door.instances("c")):
    try:
        ask()
    except ApiError as error:
        print("asked:", "did not answer" in str(error))
"""


def test_whoever_asks_first_imports_the_library_under_the_lock() -> None:
    words = [sys.executable, "-c", ASK]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["asked: True", "asked: True"]
