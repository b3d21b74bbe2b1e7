"""The page of screens is what GitHub is sent: it is played again and compared."""

from __future__ import annotations

from docs.generate_screens import PAGE, screens_page


def test_the_page_of_screens_is_what_github_is_sent() -> None:
    assert screens_page() == PAGE.read_text("utf-8"), "write it again: make docs"
