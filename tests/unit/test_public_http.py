"""A stranger's address: where it leads is judged, and what is shown of it tells no secret."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from runner_images.agent.public_http import NO_EXCEPTION, Trust, opened
from runner_images.agent.workload import CannotStart


@pytest.mark.parametrize("to", ["http://[half", "https://[::1%25lo/x", "//[", "https://a:99999/"])
def test_a_redirect_to_what_is_no_address_is_refused_in_words(to: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            with suppress(OSError):
                asker, _ = server.accept()
                with asker:
                    asker.recv(65536)
                    head = f"HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
                    asker.sendall(head.encode())

        thread = threading.Thread(target=answer)
        thread.start()
        trust = Trust(allowed=frozenset({place}))
        with (
            pytest.raises(CannotStart, match="is no address"),
            opened(f"http://{place}/", {}, trust),
        ):
            pass
        thread.join()


@pytest.mark.case("A1")
def test_a_password_in_an_address_is_not_shown() -> None:
    url = "https://ada:hunter2@example.com/a?token=abc"
    with pytest.raises(CannotStart, match="no user") as caught, opened(url, {}, NO_EXCEPTION):
        pass
    assert str(caught.value).startswith("https://example.com/a: ")
    assert "hunter2" not in str(caught.value)
