"""Show runs and nodes to people: pages that are whole without a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from cynthus.spec import Resources
from cynthus.wire import EventKind, RunEvent
from webhook_server.acting import under
from webhook_server.auth.tokens import same
from webhook_server.providers.provider import Instance, Provider, ProviderRefusal
from webhook_server.routes.access import (
    SESSION_COOKIE,
    check_page_token,
    session_of,
)
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.asking import by_operator, from_here
from webhook_server.routes.authorities import of_operator
from webhook_server.routes.bodies import limited_body
from webhook_server.routes.charts import series_of, use_rows
from webhook_server.routes.client_api import cancel_run, told
from webhook_server.routes.parts import Parts
from webhook_server.routes.people import FORM_LIMIT_BYTES, FORM_TYPE, People, fields_of
from webhook_server.routes.rendering import Renderer, plain
from webhook_server.routes.static_files import static_file
from webhook_server.routes.warm_rows import warm_rows
from webhook_server.runs.attempts import STEP_WORDS
from webhook_server.runs.lending import Offer
from webhook_server.runs.model import Run, State
from webhook_server.runs.origins import origin_facts
from webhook_server.stores.feed_tail import log_tail, newest_seq, points
from webhook_server.stores.run_reading import RunUnreadable
from webhook_server.stores.session_store import LIFE
from webhook_server.stores.tally import open_runs
from webhook_server.stores.trail_store import TrailStore, Wanted
from webhook_server.views import run_view, signed_outputs

ROWS_A_PAGE = 50
LOG_TAIL_BYTES = 128 * 1024  # what a page shows at once; the download has everything
TRAIL_SHOWN = 50  # the newest lines; the page of the trail has all
RANKS_SHOWN = 64  # a larger gang's other logs are downloaded
_TITLES = {
    401: "Please sign in",
    403: "Not from here",
    404: "Nothing here",
    422: "That cannot be",
    503: "One moment",
}


def dashboard_router(parts: Parts) -> APIRouter:
    """Return the pages."""
    router = APIRouter(include_in_schema=False)
    page = _Pages(parts)
    form = Depends(limited_body(FORM_LIMIT_BYTES, media_type=FORM_TYPE))

    @router.get("/")
    def runs(request: Request, before: int | None = Query(None, ge=1, le=2**62)) -> Response:
        return page.people.for_operator(request, lambda: page.runs(request, before))

    @router.get("/runs/{run_id}")
    def run(
        request: Request, run_id: str, rank: int | None = Query(None, ge=0, le=10**6)
    ) -> Response:
        return page.people.for_operator(request, lambda: page.run(request, run_id, rank))

    @router.post("/runs/{run_id}/cancel", dependencies=[by_operator(parts)])
    def cancel(request: Request, run_id: str, content: bytes = form) -> Response:
        check_page_token(parts, request.scope, fields_of(content).get("form_token", ""))
        with under(of_operator(request.scope, parts.now())):
            cancel_run(parts, run_id, "the operator")
        return RedirectResponse(f"/runs/{quote(run_id, safe='')}", 303)

    @router.get("/nodes")
    def nodes(request: Request) -> Response:
        return page.people.for_operator(request, lambda: page.nodes(request))

    @router.get("/sign-in")
    def sign_in_page(request: Request, next: str = "/") -> Response:  # noqa: A002 - the query's name
        return page.sign_in(request, next, fault="")

    @router.post("/sign-in", dependencies=[from_here()])
    def sign_in(request: Request, content: bytes = form) -> Response:
        return page.open_session(request, fields_of(content))

    @router.post("/sign-out", dependencies=[from_here()])
    def sign_out(request: Request, content: bytes = form) -> Response:
        check_page_token(parts, request.scope, fields_of(content).get("form_token", ""))
        with under(of_operator(request.scope, parts.now())):
            parts.sessions.close(session_of(request.scope))
        response = RedirectResponse("/sign-in", 303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        return static_file(name)

    return router


def refusal_page() -> Callable[[Request, HttpRefusal], Response]:
    """Return what makes a page out of a refusal."""
    renderer = Renderer()

    def page(_: Request, refusal: HttpRefusal) -> Response:
        response = renderer.page(
            "refusal.html",
            refusal.status,
            title=_TITLES.get(refusal.status, "That did not work"),
            number=refusal.status,
            message=refusal.message,
            nav=None,
            signed_in=False,
        )
        response.headers.update(refusal.headers)
        return response

    return page


class _Pages:
    """Makes each page from the stores."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.people = People(parts)

    def runs(self, request: Request, before: int | None) -> Response:
        """Return the list."""
        parts = self._parts
        rows = parts.runs.list(repository_id=None, limit=ROWS_A_PAGE, before=before)
        counts = open_runs(parts.database)
        waiting = sum(counts.get(state, 0) for state in (State.BUILDING, State.QUEUED))
        tally = (("running", sum(counts.values()) - waiting), ("waiting", waiting))
        older = rows[-1].seq if len(rows) == ROWS_A_PAGE else None
        first = before is None
        return self.people.page(
            request,
            "runs.html",
            "runs",
            rows=rows,
            tally=tally,
            older=older,
            first=first,
            warm=warm_rows(parts) if first else [],
        )

    def run(self, request: Request, run_id: str, rank: int | None) -> Response:
        """Return one run's page; of a gang's log one rank alone, if it is named."""
        parts, now = self._parts, self._parts.now()
        run = parts.runs.get(run_id)
        if run is None:
            raise HttpRefusal(404, "run: is not known. Check its id.")
        seq = newest_seq(parts.database, run_id)  # first: what comes meanwhile is streamed again
        latest = parts.events.latest(run_id)
        attempt = run.attempt.number if run.attempt else 0
        nodes = len(run.attempt.members) if run.attempt else 1
        rank = rank if rank is not None and rank < nodes and nodes > 1 else None
        log, cut = log_tail(parts.database, run_id, attempt, LOG_TAIL_BYTES, rank)
        view = run_view(run, told(parts, run_id), base_url=parts.base_url, now=now)
        found = points(parts.database, run_id)
        return self.people.page(
            request,
            "run.html",
            "runs",
            view=view,
            number=run.number,
            ref=run.ref,
            seq=seq,
            attempt=attempt,
            rank=rank,
            ranks=range(nodes)[:RANKS_SHOWN],
            step_words=STEP_WORDS,
            log=plain(log),
            cut=cut,
            steps=steps(run, self._transitions(run_id), now),
            series=series_of(found),
            use=use_rows(run, found),
            origin=origin_facts(run, self._original(run)),
            outputs=signed_outputs(
                run, base_url=parts.base_url, server_key=parts.server_key, now=now
            ),
            annotations=latest.annotations,
            summary=latest.summary,
            release_url=_web_url(run.release_url),
            spec_text=parts.runs.spec_text(run_id) or "",
            trail=TrailStore(parts.database).newest(Wanted(run_id=run_id), limit=TRAIL_SHOWN),
        )

    def _original(self, run: Run) -> Run | None:
        try:
            found = self._parts.runs.get(run.origin.reproduces) if run.origin.reproduces else None
        except RunUnreadable:
            return None
        return found if found and found.key.repository_id == run.key.repository_id else None

    def _transitions(self, run_id: str) -> list[RunEvent]:
        return self._parts.events.after(run_id, 0, limit=500, kinds=[EventKind.STATE])

    def nodes(self, request: Request) -> Response:
        """Return what providers lend."""
        default = self._parts.settings.provider
        shown = [
            _provider_row(name, provider, is_default=name == default)
            for name, provider in sorted(self._parts.providers.items())
        ]
        return self.people.page(request, "nodes.html", "nodes", providers=shown)

    def sign_in(self, request: Request, target: str, *, fault: str) -> Response:
        """Return the page that asks for the token."""
        if not self._parts.settings.api_token:
            return RedirectResponse("/", 303)
        response = self.people.page(
            request, "sign_in.html", None, next=_relative(target), fault=fault
        )
        response.status_code = 401 if fault else 200
        return response

    def open_session(self, request: Request, fields: dict[str, str]) -> Response:
        """Sign in: always a new session, never one that a visitor brought."""
        parts, wanted = self._parts, self._parts.settings.api_token
        check_page_token(parts, request.scope, fields.get("form_token", ""))
        target = _relative(fields.get("next", "/"))
        if not wanted or not same(fields.get("token", "").strip(), wanted):
            return self.sign_in(request, target, fault="That is not this server's token.")
        with under(of_operator(request.scope, parts.now())):
            parts.sessions.close(session_of(request.scope))
            session = parts.sessions.open(wanted)
        response = RedirectResponse(target, 303)
        response.set_cookie(
            SESSION_COOKIE,
            session,
            max_age=int(LIFE.total_seconds()),
            path="/",
            httponly=True,
            samesite="lax",
            secure=parts.base_url.startswith("https://"),
        )
        return response


def _relative(target: str) -> str:
    """Return a path on this server; anything that could lead elsewhere becomes the first page."""
    bad = not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable()
    return "/" if bad or "\\" in target else target


def _web_url(url: str | None) -> str | None:
    return url if url and url.startswith(("https://", "http://")) else None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stop on the way of a run."""

    state: State
    kind: str  # done, at, to-come
    took: str


def steps(run: Run, transitions: list[RunEvent], now: datetime) -> tuple[Step, ...]:
    """Return every state in order, with how long the run stood there, all attempts together."""
    stays: dict[str, timedelta] = {}
    for here, after in zip(transitions, [*transitions[1:], None], strict=True):
        name = str(here.body.get("state", ""))
        stays[name] = stays.get(name, timedelta(0)) + ((after.at if after else now) - here.at)
    at = list(State).index(run.state)
    return tuple(
        Step(
            state=state,
            kind=_kind(index, at, run.state),
            took=_took(stays.get(state.value)) if state is not State.FINISHED else "",
        )
        for index, state in enumerate(State)
    )


def _kind(index: int, at: int, state: State) -> str:
    if state is State.FINISHED or index < at:
        return "done"
    return "at" if index == at else "to-come"


def _took(stay: timedelta | None) -> str:
    if stay is None:
        return ""
    seconds = max(stay.total_seconds(), 0.0)
    if seconds < 10:  # noqa: PLR2004 - tenths of a second matter only below
        return f"{seconds:.1f} s"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


@dataclass(frozen=True, kw_only=True)
class ProviderRow:
    """A provider as its page shows it."""

    name: str
    is_default: bool
    offers: list[Offer]
    instances: list[Instance]
    fault: str


def _provider_row(name: str, provider: Provider, *, is_default: bool) -> ProviderRow:
    offers: list[Offer] = []
    instances: list[Instance] = []
    fault = ""
    try:
        offers = provider.offers(Resources())[:50]
        instances = provider.list()[:500]
    except ProviderRefusal as refusal:
        fault = str(refusal)
    return ProviderRow(
        name=name, is_default=is_default, offers=offers, instances=instances, fault=fault
    )
