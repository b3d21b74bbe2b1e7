"""A real browser, and pictures of what it shows for whoever asks for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_CHROMIUM = pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium on this machine")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser without a window; it ends with the context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def take_picture(page: Page, name: str, *, whole: bool = False) -> None:
    """Write what `page` shows into the folder CYNTHUS_SCREENSHOTS names, if it names one.

    Pictures are for people (docs/pictures): a test looks at the page itself. Without somebody who
    wants them none is taken, since Chromium now and then refuses one right after its start, with
    "Unable to capture screenshot": https://github.com/MarketSquare/robotframework-browser/issues/5237
    """
    folder = os.environ.get("CYNTHUS_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / name, full_page=whole)
