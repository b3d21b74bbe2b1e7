"""What a run of a fork's commit does without: pure.

Somebody with the right to it has read one commit and let it run; who wrote it stays a stranger.
docs/forks.md says what such a run gets, and what remains risky.
"""

from __future__ import annotations

from collections.abc import Mapping

from cynthus.spec import Spec
from webhook_server.runs.model import Run


def secret_names(run: Run) -> tuple[str, ...]:
    """Return the names of the secrets that a run is given: a stranger's commit gets none."""
    if run.spec is None or run.origin.fork:
        return ()
    return run.spec.secrets


#: Which secrets open which hub: the names that their own clients know.
#: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables#hftoken
#: https://github.com/Kaggle/kaggle-cli/blob/main/docs/README.md
HUB_SECRETS: Mapping[str, tuple[str, ...]] = {
    "hf": ("HF_TOKEN",),
    "kaggle": ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"),
}
#: Above every number that GitHub gives a repository, below 2^53, which JSON keeps exact.
FORKS_BEGIN = 10**15


def hub_secret_names(run: Run) -> tuple[str, ...]:
    """Return the names of the secrets that staging uses, if the repository has them.

    The command does not see them unless the spec names them under `secrets` as well.
    """
    if run.spec is None or run.origin.fork:
        return ()
    kinds = dict.fromkeys(entry.kind for entry in run.spec.data)
    return tuple(name for kind in kinds for name in HUB_SECRETS.get(kind, ()))


def cache_scope(run: Run) -> int:
    """Return whose cache a run uses: its repository's; of a fork's commit one that is apart.

    What a stranger's command might have touched never reaches the repository's own runs.
    """
    repository_id = run.key.repository_id
    return repository_id + FORKS_BEGIN if run.origin.fork else repository_id


def notices(spec: Spec | None) -> tuple[str, ...]:
    """Return what to tell of a fork's run from its beginning on."""
    told = ["It runs a fork's commit: its outputs stay here and become no release."]
    if spec is not None and spec.secrets:
        names = ", ".join(spec.secrets)
        told.insert(0, f"It runs a fork's commit and gets none of its secrets: {names}.")
    return tuple(told)
