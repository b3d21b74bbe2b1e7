"""Name rows of the tables of cached data: those of a scope, of a tree, of a blob."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Table, and_

from webhook_server.runs.data_cache import Scope
from webhook_server.stores.tables import data_blobs, data_trees


def of(scope: Scope) -> dict[str, Any]:
    """Return the columns that say whose a row is."""
    return {"tenant": scope.tenant, "part": scope.part}


def within(table: Table, scope: Scope) -> ColumnElement[bool]:
    """Say that a row is of this scope."""
    return and_(table.c.tenant == scope.tenant, table.c.part == scope.part)


def is_tree(scope: Scope, key: str) -> ColumnElement[bool]:
    """Say that a row is this tree."""
    return and_(within(data_trees, scope), data_trees.c.key == key)


def is_blob(scope: Scope, sha256: str) -> ColumnElement[bool]:
    """Say that a row is this blob."""
    return and_(within(data_blobs, scope), data_blobs.c.sha256 == sha256)
