"""Ids of runs: fit for names of instances, and drawn from all there are."""

from __future__ import annotations

import re
import string

from webhook_server.ground import new_id


def test_ids_have_their_shape_and_use_every_letter_at_every_place() -> None:
    # That a letter never comes to a place by chance alone: once in 10**22 such tests.
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z][a-z0-9]{11}", one) for one in ids)
    first, *rest = (set(letters) for letters in zip(*ids, strict=True))
    assert first == set(string.ascii_lowercase)
    assert all(letters == set(string.ascii_lowercase + string.digits) for letters in rest)
