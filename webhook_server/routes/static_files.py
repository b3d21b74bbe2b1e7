"""Serve the few files that pages need: read once, named by their digest, kept by browsers."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import Response

from webhook_server.routes.answers import HttpRefusal

_FOLDER = Path(__file__).parent.parent / "static"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_YEAR_S = 31_536_000


def _static_files() -> dict[str, tuple[bytes, str]]:
    return {
        path.name: (path.read_bytes(), _MEDIA_TYPES[path.suffix])
        for path in _FOLDER.iterdir()
        if path.suffix in _MEDIA_TYPES
    }


_STATIC = _static_files()


def static_file(name: str) -> Response:
    """Return a file. Raises: HttpRefusal."""
    if name not in _STATIC:
        raise HttpRefusal(404, "file: is not one of this server's. Check its name.")
    content, media_type = _STATIC[name]
    headers = {
        "Cache-Control": f"public, max-age={_YEAR_S}, immutable",  # its address has its digest
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    }
    return Response(content, media_type=media_type, headers=headers)


def static_address(name: str) -> str:
    """Return where a static file lies, in this version of it."""
    return f"/static/{name}?v={hashlib.sha256(_STATIC[name][0]).hexdigest()[:16]}"
