"""Watch for the owner of the machine to take it back, or to announce its maintenance.

https://cloud.google.com/compute/docs/instances/create-use-preemptible#detecting_if_an_instance_was_preempted
https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from runner_images.agent.metadata import Metadata, NoMetadata, Value

WAIT_S = 300  # one question lasts this long unless something changes
FIRST_PAUSE_S = 0.5  # after a question that failed: a notice leaves 30 s
LONGEST_PAUSE_S = 5.0
# After an answer without news: a server that does not wait is not asked without end.
CALM_S = 0.5
PREEMPTED, MAINTENANCE = "preempted", "maintenance-event"


def watch(metadata: Metadata, *, preempted: Callable[[], None], over: threading.Event) -> None:
    """Call `preempted` once, as soon as the instance is being taken back; in a thread."""

    def hear(text: str) -> bool:
        if text != "TRUE":
            return False
        preempted()
        return True

    _follow_in_thread(metadata, PREEMPTED, hear, over)


def watch_maintenance(
    metadata: Metadata, *, announced: Callable[[str | None], None], over: threading.Event
) -> None:
    """Call `announced` with the owner's word on maintenance, and with None once it is past."""

    def hear(text: str) -> bool:
        announced(None if text == "NONE" else text)
        return False

    _follow_in_thread(metadata, MAINTENANCE, hear, over)


def _follow_in_thread(
    metadata: Metadata, path: str, hear: Callable[[str], bool], over: threading.Event
) -> None:
    threading.Thread(
        target=_follow, args=(metadata, path, hear, over), name=f"watch {path}", daemon=True
    ).start()


def _follow(
    metadata: Metadata, path: str, hear: Callable[[str], bool], over: threading.Event
) -> None:
    """Hand every new value to `hear`, until it says that it has heard enough."""
    seen: Value | None = None
    pause_s = FIRST_PAUSE_S
    while not over.is_set():
        try:
            found = (
                metadata.value(path) if seen is None else metadata.next_value(path, seen, WAIT_S)
            )
        except NoMetadata:  # it is restarted at times; a notice lost here shows in the next value
            over.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            continue
        pause_s = FIRST_PAUSE_S
        changed = seen is None or seen.text != found.text
        seen = found
        if not changed:
            over.wait(CALM_S)
        elif hear(found.text.strip()):
            return
