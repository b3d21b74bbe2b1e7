"""A driver is older only where that is certain."""

from __future__ import annotations

import pytest

from cynthus.drivers import is_older

CERTAIN = [
    ("535.161.08", "570.26"),
    ("535.54.03", "535.104.05"),
    ("535.104.5", "535.104.12"),  # numbers, not text
    ("535", "570.26"),
    ("535.161.08", "570"),
]
NOT = [
    ("570.26", "570.26"),
    ("570.133.20", "570.26"),
    ("570", "570.26"),  # the branch: its newest may well do
    ("570.26", "570"),
    ("1000.1", "570.26"),
    ("", "570.26"),
    ("unknown", "570.26"),
    ("535.161.08", ""),
    ("535.161.08", "new"),
    ("535.161.08\n", "570.26"),
    ("٥٣٥", "570"),
]


@pytest.mark.parametrize(("driver", "minimum"), CERTAIN)
def test_an_older_driver_is_told(driver: str, minimum: str) -> None:
    assert is_older(driver, minimum)


@pytest.mark.parametrize(("driver", "minimum"), NOT)
def test_what_is_new_enough_or_not_known_is_not_called_older(driver: str, minimum: str) -> None:
    assert not is_older(driver, minimum)
