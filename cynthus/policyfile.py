"""The text of a `cynthus-policy.yml` → a RepositoryPolicy, or every fault in it with its line."""

from __future__ import annotations

from cynthus.nodes import Faults, Place, harmless
from cynthus.policyreader import read_policy
from cynthus.repository_policy import POLICY_PATH, RepositoryPolicy
from cynthus.specfile import read_tree

_NAME = POLICY_PATH.rpartition("/")[2]


def parse(text: bytes, path: str) -> RepositoryPolicy:
    """Return the policy that a file means; the same strict part of YAML is read as of specs.

    `path` is only shown in messages. Raises: UserError with all faults of the file, in order.
    """
    faults = Faults(harmless(path))
    tree = read_tree(text, faults, what="a policy", do="Write `version: 1`, or remove the file")
    policy = read_policy(Place(node=tree, where="", faults=faults)) if tree else None
    if policy is None or faults.found:
        raise faults.error()
    return policy


def is_policy(path: str) -> bool:
    """Say whether a file is a policy by its name."""
    return path.replace("\\", "/").rpartition("/")[2] == _NAME
