"""A list of files survives being written, and a hostile one is refused at its first wrong line."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynthus.errors import UserError
from cynthus.tree_form import FILES_LIMIT, joined, path_fault, read_tree, written
from cynthus.wire_data import Tree, TreeFile

SHA = "a1" * 32
names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=20
).filter(lambda name: name not in {".", ".."})
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


def file(path: str = "a", **changes: Any) -> dict[str, Any]:
    return {"path": path, "size_bytes": 1, "sha256": SHA, "executable": False, **changes}


def listed(*files: dict[str, Any], **head: Any) -> bytes:
    first = {
        "key": "5e" * 32,
        "revision": "c" * 40,
        "files": len(files),
        "size_bytes": sum(one["size_bytes"] for one in files),
        **head,
    }
    return b"".join(json.dumps(one).encode() + b"\n" for one in (first, *files))


@given(st.lists(paths, unique=True, max_size=20), st.booleans())
def test_what_is_written_is_read_again(found: list[str], executable: bool) -> None:
    files = tuple(
        TreeFile(path=path, size_bytes=len(path), sha256=SHA, executable=executable)
        for path in sorted(found)
    )
    tree = Tree(key="5e" * 32, revision="v1", files=files, archive_sha256=SHA)
    content = b"".join(joined(written(tree)))
    assert read_tree(io.BytesIO(content)) == tree
    shuffled = Tree(key=tree.key, revision="v1", files=files[::-1], archive_sha256=SHA)
    assert b"".join(written(shuffled)) == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"null\n",
        b"[1]\n",
        b"\xff\xfe\n",
        listed(file())[:-1],
        listed(file(), files=2),
        listed(file(), files=0),
        listed(file(), files=FILES_LIMIT + 1),
        listed(file(), files=-1),
        listed(file(), size_bytes=2),
        listed(file("b"), file("a")),
        listed(file("a"), file("a")),
        listed(file(size_bytes=-1)),
        listed(file(sha256="A1" * 32)),
        listed(file("../a")),
        listed(file("a/../b")),
        listed(file("/a")),
        listed(file("a//b")),
        listed(file("")),
        listed(file("a\x00b")),
        listed(file("a\nb")),
        listed(file("\ud800")),
        listed(file("n" * 256)),
        listed(file("d/" * 2100 + "f")),
        b"[" * 100_000 + b"\n",
        b"x" * 3_000_000,
    ],
)
def test_what_is_no_list_of_plain_files_is_refused(content: bytes) -> None:
    with pytest.raises(UserError):
        read_tree(io.BytesIO(content))


@given(st.text())
def test_a_path_that_passes_leads_nowhere_else(path: str) -> None:
    if not path_fault(path):
        parts = path.split("/")
        assert all(parts)
        assert ".." not in parts
        assert "." not in parts
        assert not path.startswith("/")
