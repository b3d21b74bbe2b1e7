"""Ask one registry, with what it wants to be shown and with bounded patience."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from email.message import Message
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

from action.failures import RegistryRefused
from action.registry import faults
from action.registry.challenge import parse_challenges
from action.registry.connections import LONGEST_ANSWER, Answer, Connections, NoAnswer, Request
from action.registry.faults import Asked, Fault
from action.registry.reference import is_loopback
from action.registry.registries import Kind
from action.registry.tokens import BadRealmError, Credentials, Shown, Tokens

# Half a minute in all: a registry's deploy or a lost load balancer is over by then, and a job that
# waits longer hides a fault from its owner.
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_MOST_REDIRECTS = 3  # registry to storage is one; a vendor's own gateway may be before it
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WHO_ARE_YOU = frozenset({401, 403})
_LONGEST_REFUSAL = 1 << 16

Wait = Callable[[float], None]


class Patience:
    """How often one wish may fail in ways that pass."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait
        self._pauses = list(PAUSES_S)

    def lose(self, fault: Fault) -> None:
        """Wait for the next try.

        Raises: the fault's error when it does not pass, or patience is at its end.
        """
        if not fault.passes or not self._pauses:
            raise fault.error
        self._wait(max(self._pauses.pop(0), fault.retry_after_s or 0))

    def renew(self) -> None:
        """Begin anew: there was progress."""
        self._pauses = list(PAUSES_S)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for, and which answers are answers to it."""

    request: Request
    scopes: tuple[str, ...]
    asked: Asked
    expected: Collection[int]

    def but(self, **changes: Any) -> Wish:
        """Return the same wish with another request."""
        return replace(self, request=replace(self.request, **changes))


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole answer, held in memory."""

    url: str
    status: int
    headers: Message
    body: bytes


class Door:
    """One registry's door. Safe to share between threads."""

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        host: str,
        kind: Kind,
        credentials: Credentials | None,
        *,
        wait: Wait,
        clock: Callable[[], float],
        connections: Connections,
    ) -> None:
        self.host, self.kind, self.wait = host, kind, wait
        self.url = f"{'http' if is_loopback(host) else 'https'}://{host}"
        self._tokens = Tokens(host, credentials, clock)
        self._connections = connections

    def asked(self, repository: str, wish: str, *, reads: bool = False) -> Asked:
        """Return a wish in words, for the sentence of a refusal."""
        return Asked(
            host=self.host,
            repository=repository,
            wish=wish,
            kind=self.kind,
            with_login=self._tokens.credentials is not None,
            reads=reads,
        )

    def ask(self, wish: Wish, most_bytes: int = LONGEST_ANSWER) -> Page:
        """Ask until there is an expected answer; only for what is safe to repeat.

        Raises: RegistryRefused, RegistryAway.
        """
        patience = Patience(self.wait)
        while True:
            found = self.try_once(wish)
            page = self.page_of(found, wish, most_bytes) if isinstance(found, Answer) else found
            if isinstance(page, Page):
                return page
            patience.lose(page)

    def page_of(self, answer: Answer, wish: Wish, most_bytes: int) -> Page | Fault:
        """Read an answer to its end."""
        with answer:
            try:
                body = answer.read(most_bytes)
            except NoAnswer as error:
                return faults.no_answer(wish.asked, error.reason)
        return Page(url=answer.url, status=answer.status, headers=answer.headers, body=body)

    def try_once(self, wish: Wish) -> Answer | Fault:
        """Ask once, with a token that is renewed if it was refused; return what came of it.

        Raises: RegistryRefused, RegistryAway of the token service.
        """
        try:
            answer = self._authorized(wish)
        except NoAnswer as error:
            return faults.no_answer(wish.asked, error.reason, passes=error.passes)
        if answer.status in wish.expected:
            return answer
        return self.fault_of(answer, wish.asked)

    def fault_of(self, answer: Answer, asked: Asked) -> Fault:
        """Return what a refusal means, and end its answer."""
        with answer:
            try:
                body = answer.read(_LONGEST_REFUSAL)
            except NoAnswer:
                body = b""  # the status alone says enough
        return faults.refusal(asked, answer.status, answer.headers, body)

    def resolve(self, base: str, location: str, asked: Asked) -> str:
        """Return where a Location header leads, which may be relative.

        One that names this registry by http stands behind a proxy that ends TLS: https is meant.
        Raises: RegistryRefused for any other way down from https, or to no web address.
        """
        url = urljoin(base, location)
        parts, home = urlsplit(url), urlsplit(base)
        if parts.scheme == "http" and home.scheme == "https" and parts.hostname == home.hostname:
            url = parts._replace(scheme="https").geturl()
            parts = urlsplit(url)
        plain = parts.scheme == "http" and is_loopback(parts.netloc) and is_loopback(self.host)
        if not parts.netloc or not (parts.scheme == "https" or plain):
            raise RegistryRefused(
                f"{asked.place}: should {asked.wish}, but leads to "
                f"{parts.scheme}://{parts.netloc}, which is not https. Check its configuration."
            )
        return url

    def _authorized(self, wish: Wish) -> Answer:
        request = wish.request
        if not self._is_home(request.url):  # an upload's address elsewhere speaks for itself
            return self._follow(request, wish.asked)
        shown = self._shown(wish)
        answer = self._follow(_with(request, shown), wish.asked)
        if not self._is_worth_another(answer, wish, shown):
            return answer
        try:
            renewed = self._shown(wish)
        except BaseException:
            answer.close()
            raise
        if renewed is None:
            return answer
        answer.close()
        return self._follow(_with(request, renewed), wish.asked)

    def _is_worth_another(self, answer: Answer, wish: Wish, shown: Shown | None) -> bool:
        """Return whether the refusal may be one of an old token, or of none: once per request.

        GitHub says 403 without a challenge to a token that has ended:
        https://github.com/renovatebot/renovate/issues/11446
        Only the registry itself is heard: a storage it sends on to could name a token service of
        its own, which would be told the registry's login.
        """
        if answer.status not in _WHO_ARE_YOU or (shown is not None and shown.fresh):
            return False
        if not self._is_home(answer.url):
            return False
        challenge = parse_challenges(answer.headers.get_all("WWW-Authenticate") or ())
        if challenge is not None:
            self._tokens.learn(challenge)
        self._tokens.forget(wish.scopes, shown)
        return challenge is not None or shown is not None

    def _is_home(self, url: str) -> bool:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}" == self.url

    def _shown(self, wish: Wish) -> Shown | None:
        try:
            return self._tokens.shown(wish.scopes, lambda request: self._token(request, wish.asked))
        except BadRealmError as error:
            raise RegistryRefused(
                f"{self.host}: should name a token service by https, found {error}. No login was "
                f"sent to it."
            ) from None

    def _token(self, request: Request, asked: Asked) -> Answer:
        """Carry a request to the token service; it passes as any other failure does."""
        patience = Patience(self.wait)
        asked = replace(asked, wish=f"{asked.wish} (it asks for a token first)")
        while True:
            try:
                answer = self._connections.send(request)
            except NoAnswer as error:
                patience.lose(faults.no_answer(asked, error.reason, passes=error.passes))
                continue
            if answer.status == 200:  # noqa: PLR2004 - OK
                return answer
            patience.lose(self.fault_of(answer, asked))

    def _follow(self, request: Request, asked: Asked) -> Answer:
        """Send, and go where GET and HEAD are sent on to: without the token, to https only."""
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._connections.send(request)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location or not _may_follow(request):
                return answer
            answer.close()
            url = self.resolve(request.url, location, asked)
            request = replace(request, url=url, headers=_without_login(request, url))
        return _too_many(asked)


def _too_many(asked: Asked) -> NoReturn:
    raise RegistryRefused(
        f"{asked.place}: should {asked.wish}, but sends on in a circle. Check its configuration."
    )


def _may_follow(request: Request) -> bool:
    return request.method in {"GET", "HEAD"}


def _without_login(request: Request, url: str) -> dict[str, str]:
    parts = urlsplit(url)
    same = f"{parts.scheme}://{parts.netloc}" == request.origin
    return {
        name: value for name, value in request.headers.items() if same or name != "Authorization"
    }


def _with(request: Request, shown: Shown | None) -> Request:
    if shown is None:
        return request
    return replace(request, headers={**request.headers, "Authorization": shown.header})
