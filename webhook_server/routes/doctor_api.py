"""Answer `cynthus doctor`: look at everything, once at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from cynthus.codec import encode
from cynthus.wire_doctor import DoctorView
from webhook_server.doctor.examine import Check, examine
from webhook_server.doctor.house import House, house_checks, no_app
from webhook_server.routes.access import require_operator
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.bodies import json_answer
from webhook_server.routes.parts import Parts

if TYPE_CHECKING:
    from webhook_server.doctor.outside import Outside

PATH = "/api/v1/doctor"


def doctor_router(parts: Parts, outside: Outside | None) -> APIRouter:
    """Return the door; without `outside` what belongs to it is told as not set up."""
    router = APIRouter(tags=["server"])
    busy = threading.Lock()

    @router.get(PATH)
    def doctor(request: Request) -> Response:
        """Return what is well and what is not; GitHub is asked to deliver once more."""
        require_operator(parts, request.scope)
        if not busy.acquire(blocking=False):
            raise HttpRefusal(503, "doctor: looks already. Ask again.", retry_after_s=15)
        try:
            return json_answer(200, encode(DoctorView(findings=examine(_checks(parts, outside)))))
        finally:
            busy.release()

    return router


def _checks(parts: Parts, outside: Outside | None) -> list[Check]:
    house = House(
        settings=parts.settings,
        base_url=parts.base_url,
        database=parts.database,
        blobs=parts.blobs,
        secrets=parts.secrets,
        providers=parts.providers,
        remarks=parts.app_remarks,
        now=parts.now,
    )
    return [*house_checks(house), *_github_checks(outside)]


def _github_checks(outside: Outside | None) -> list[Check]:
    if outside is not None:
        # Imported late: it verifies keys, with a library that a server without GitHub never loads.
        from webhook_server.doctor.outside import outside_checks

        return outside_checks(outside)
    finding = no_app()
    return [Check(name=finding.name, look=lambda: (finding,), remedy=finding.remedy)]
