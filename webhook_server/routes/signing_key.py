"""Tell everybody the public key that this server signs with."""

from __future__ import annotations

from fastapi import APIRouter, Response

from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.parts import Parts


def signing_router(parts: Parts) -> APIRouter:
    """Return the door; a public key is for whoever asks."""
    router = APIRouter(prefix="/api/v1", tags=["releases"])

    @router.get("/signing-key")
    def signing_key() -> Response:
        """Return the public key as PEM; 404 while this server signs nothing."""
        if parts.public_key is None:
            raise HttpRefusal(404, "signing-key: this server signs nothing. Its releases say so.")
        return Response(parts.public_key, media_type="application/x-pem-file")

    return router
