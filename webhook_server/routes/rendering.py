"""Fill the templates: everything is escaped, nothing from outside is loaded."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cynthus.codec import encode
from cynthus.money import of_limit, usd
from webhook_server.routes.static_files import static_address
from webhook_server.runs.attempts import span, step_word

TEMPLATES = Path(__file__).parent.parent / "templates"
# No inline script or style, no other origin, no frame around us.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Terminal commands, control characters, and what turns the direction of text around.
_UNSEEN = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[^\[\]]"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_OVERDRAWN = re.compile(r"[^\n]*\r(?!\n|$)")


def plain(text: str) -> str:
    """Return text as a reader should see it: without colours, overdrawn lines, or tricks."""
    return _UNSEEN.sub("", _OVERDRAWN.sub("", text.replace("\r\n", "\n"))).replace("\r", "")


class Renderer:
    """The templates, with the words they need."""

    def __init__(self) -> None:
        self._environment = _environment()

    def page(self, template: str, status: int, **values: Any) -> Response:
        """Return a page."""
        html = self._environment.get_template(template).render(**values)
        body = html.encode("utf-8", "replace")
        return Response(body, status, media_type="text/html; charset=utf-8", headers=_HEADERS)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    environment.globals["static"] = static_address
    environment.filters.update(
        words=lambda text: str(text).replace("_", " "),
        plain=lambda text: plain(str(text)),
        iso=encode,
        usd=usd,
        of_limit=of_limit,
        clock=_clock,
        branch=_branch,
        bytes=size_text,
        chart_name=chart_name,
        amount=amount,
        span=span,
        seconds=lambda number: span(timedelta(seconds=number)),
        step_word=step_word,
        query=urlencode,
        run_of=lambda name: str(name).removeprefix("cynthus-").rpartition("-")[0],
    )
    return environment


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _branch(ref: str) -> str:
    found = re.match(r"refs/pull/(\d+)/", ref)
    return f"#{found[1]}" if found else re.sub(r"\Arefs/(heads|tags)/", "", ref)


def size_text(size_bytes: float) -> str:
    """Return a size as people write it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:  # noqa: PLR2004 - decimal units
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"


def chart_name(name: str) -> str:
    """Return a chart's title."""
    if name.startswith("metric:"):
        return plain(name.removeprefix("metric:"))
    gpu = re.fullmatch(r"gpu(\d+)(-memory)?", name)
    if gpu:
        return f"GPU {gpu[1]}{' memory' if gpu[2] else ''}"
    return {"cpu": "CPU", "memory": "Memory"}.get(name, name)


def amount(value: float, name: str) -> str:
    """Return a value in the unit of its chart."""
    if name.endswith("memory") and not name.startswith("metric:"):
        return size_text(value)
    if name == "cpu" or re.fullmatch(r"gpu\d+", name):
        return f"{value:.0f} %"
    return f"{value:.4g}"
