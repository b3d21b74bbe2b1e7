"""A user's Dockerfile is read for what it takes; whatever is unclear counts as everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action.environment import dockerfile

CONTEXT = ("Dockerfile", "main.py", "requirements.txt", "src/a.py", "src/deep/b.py", "data/x.csv")


def counted(text: str, links: tuple[str, ...] = ()) -> tuple[str, ...]:
    paths = [(path, False) for path in CONTEXT] + [(path, True) for path in links]
    return dockerfile.taken(dockerfile.read(text), paths)


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("COPY requirements.txt /tmp/", ("requirements.txt",)),
        ("copy ./requirements.txt /tmp/", ("requirements.txt",)),
        ("COPY /requirements.txt main.py /app/", ("main.py", "requirements.txt")),
        ("COPY src /app/src", ("src/a.py", "src/deep/b.py")),
        ("COPY src/ /app/", ("src/a.py", "src/deep/b.py")),
        ("COPY src/*.py /app/", ("src/a.py",)),
        ("COPY ../../src/a.py /app/", ("src/a.py",)),
        ('COPY ["main.py", "/app/"]', ("main.py",)),
        ("COPY --chown=1000:1000 --chmod=755 main.py /app/", ("main.py",)),
        ("COPY \\\n  # a remark\n  main.py \\\n\n  /app/", ("main.py",)),
        ("COPY --from=build /out /app", ()),
        ("ADD https://example.org/x.tgz /tmp/", ()),
        ("ADD main.py /tmp/", ("main.py",)),
        ("RUN pip install numpy", ()),
        ("RUN --mount=type=bind,source=requirements.txt,target=/r pip x", ("requirements.txt",)),
        ("RUN --mount=src=requirements.txt,target=/r pip x", ("requirements.txt",)),
        ("RUN --mount=type=bind,from=build,source=/out,target=/r x", ()),
        ("RUN --mount=type=cache,target=/root/.cache --mount=type=secret,id=t x", ()),
        ("ENV FILE=main.py\nCOPY $FILE /app/", ("main.py",)),
        ("ARG FILE=main\nCOPY ${FILE}.py /app/", ("main.py",)),
        ("ENV D=src\nENV F=$D/a.py\nCOPY ${F} /app/", ("src/a.py",)),
        ("COPY ${UNSET:-main.py} /app/", None),
        ("COPY <<EOF /app/x\nCOPY src /never\nEOF\nCOPY main.py /app/", ("main.py",)),
        ("RUN <<-'END'\n\tCOPY src /never\n\tEND\nCOPY main.py /app/", ("main.py",)),
        ("ONBUILD COPY . /app", ()),
    ],
)
def test_what_is_taken_counts_and_nothing_else(lines: str, wanted: tuple[str, ...] | None) -> None:
    assert counted(f"FROM python:3.11\n{lines}\n") == (
        tuple(sorted(CONTEXT)) if wanted is None else wanted
    )


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\nCOPY . /app",
        "FROM x\nCOPY ./ /app",
        "FROM x\nCOPY $NAME /app",
        "FROM x\nARG PLACE=src/deep\nCOPY $PLACE /app",  # the image's ENV may name another depth
        "FROM x\nARG TARGETARCH\nCOPY bin-$TARGETARCH /app",
        "FROM x\nCOPY [ab].py /app",
        "FROM x\nCOPY --parents src/**/b.py /app",
        'FROM x\nCOPY "a b" /app',
        "FROM x\nCOPY [broken /app",
        "FROM x\nENV NAME value\nCOPY main.py /app",
        "FROM x\nRUN --mount=target=/src make",
        "FROM x\nRUN echo $((1<<n))\nCOPY main.py /app",
        "# syntax=example.org/own/frontend\nFROM x\nCOPY main.py /app",
    ],
)
def test_what_is_unclear_counts_as_everything(text: str) -> None:
    assert counted(text) == tuple(sorted(CONTEXT))


def test_a_link_that_is_taken_or_passed_through_counts_as_everything() -> None:
    everything = tuple(sorted((*CONTEXT, "link")))
    assert counted("FROM x\nCOPY link /app", ("link",)) == everything
    assert counted("FROM x\nCOPY link/a.py /app", ("link",)) == everything
    assert counted("FROM x\nCOPY main.py /app", ("link",)) == ("main.py",)


def test_directives_are_obeyed() -> None:
    text = "# syntax=docker/dockerfile:1.7\n# escape=`\nFROM x\nCOPY `\n main.py /app/\n"
    assert counted(text) == ("main.py",)


def test_its_images_are_those_that_no_stage_of_its_own_makes() -> None:
    text = (
        "ARG TAG=3.11\nFROM --platform=linux/amd64 python:${TAG} AS build\n"
        "FROM scratch AS empty\nFROM Build\nCOPY --from=build /a /a\nCOPY --from=0 /a /a\n"
        "COPY --from=ghcr.io/astral-sh/uv:0.5 /uv /bin/\n"
        "RUN --mount=type=bind,from=alpine:3,target=/m x\nFROM $UNKNOWN\n"
    )
    found = dockerfile.read(text).images
    assert found == ("python:3.11", "ghcr.io/astral-sh/uv:0.5", "alpine:3")


def test_the_secrets_it_mounts_are_named() -> None:
    text = (
        "FROM x\nRUN --mount=type=secret,id=index pip\n"
        "RUN --mount=type=secret,target=/run/secrets/token,required=true x\n"
    )
    assert dockerfile.read(text).secrets == ("index", "token")


@given(st.text(alphabet=st.sampled_from("FROMCPYADRUN abc./*$\\{}=\"'<\n#[],-:")))
def test_any_text_has_an_answer(text: str) -> None:
    dockerfile.taken(dockerfile.read(text), [("a", False), ("b/c", True)])
