"""What is made of answers that say no, or say nothing that can be read, whatever their shape."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from webhook_server.providers.gcp_client import LONGEST_TEXT, Account, ApiError, Door


class Service(HTTPServer):
    """Answers every request alike."""

    answer: tuple[int, str] = (200, "{}")

    def ask(self, status: int, body: str) -> ApiError:
        """Return the error that such an answer comes out as."""
        self.answer = (status, body)
        door = Door(Account(project="p", compute_url=f"http://127.0.0.1:{self.server_port}"))
        with pytest.raises(ApiError) as caught:
            door.delete_instance("us-central1-a", "a")
        return caught.value


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_DELETE(self) -> None:
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Handler) as server:
        # Looked at so often for the end: the usual half second would be most of the test.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_services_own_words_are_kept(service: Service) -> None:
    body = '{"error": {"message": "no rights", "errors": [{"reason": "forbidden"}]}}'
    error = service.ask(403, body)
    assert (str(error), error.status, error.reasons) == ("no rights", 403, ("forbidden",))


@pytest.mark.parametrize("status", [400, 502])
@pytest.mark.parametrize("body", ['{"error": {}}', "[1]", "<html>Bad Gateway</html>", ""])
def test_an_answer_without_words_keeps_its_status(service: Service, status: int, body: str) -> None:
    error = service.ask(status, body)
    assert (error.status, error.reasons) == (status, ())
    assert "<html>" not in str(error)


@pytest.mark.parametrize("body", ['{"error": "invalid_grant"}', '{"error": null}', '"no"'])
def test_what_the_library_stumbles_over_says_nothing_for_certain(
    service: Service, body: str
) -> None:
    assert service.ask(400, body).status is None


@pytest.mark.parametrize("body", ["<html>Welcome to the network</html>", '{"id": []}', "[1]", ""])
def test_a_yes_that_cannot_be_read_says_nothing_for_certain(service: Service, body: str) -> None:
    error = service.ask(200, body)
    assert error.status is None
    assert "cannot be read" in str(error)


def test_a_long_text_is_cut(service: Service) -> None:
    error = service.ask(400, '{"error": {"message": "%s"}}' % ("a" * 5000))
    assert len(str(error)) == LONGEST_TEXT
