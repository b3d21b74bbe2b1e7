"""Check what a run request says, before anything is stored."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cynthus.codec import decode
from cynthus.errors import UserError
from cynthus.spec import Spec
from cynthus.triggers import push_refusal
from cynthus.wire import RunRequest
from cynthus.wire_image import Environment
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.parts import Parts
from webhook_server.runs.environments import cuda_refusal
from webhook_server.runs.model import SpecFault

_PULLABLE = re.compile(r"[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}", re.ASCII)
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64})?", re.ASCII)
_DRIVER = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}", re.ASCII)
# Lock and SBOM are put on a release for everybody to read: a private index's password must not be.
_PASSWORD = re.compile(r"https?://[^/\s\"'@]+@", re.IGNORECASE)
_SPECS_KEPT = 256  # pushes of one repository bring the same text again and again


def read_request(value: object) -> RunRequest:
    """Return the request. Raises: HttpRefusal (422) with everything that is wrong."""
    # Imported late: the library is needed by this door only.
    from cynthus import schema

    if isinstance(value, dict) and (value.get("image") is None) == (value.get("failure") is None):
        raise HttpRefusal(422, "image, failure: should be exactly one of the two. Send one.")
    check_text(value)
    violations = schema.check("run_request", value)
    if violations:
        told = (f"{v.path or 'message'}: {v.message}" for v in violations)
        raise HttpRefusal(422, "\n".join(told))
    try:
        request = decode(RunRequest, value)
    except UserError as error:
        raise HttpRefusal(422, str(error)) from error
    faults = _faults(request)
    if faults:
        raise HttpRefusal(422, "\n".join(faults))
    return request


def prepare() -> None:
    """Load what the first request needs, so that it does not wait for it."""
    from cynthus import schema, specfile

    schema.check("run_request", {})
    specfile.parse(b"version: 1\nname: none\nrun: none\n", "")


def check_text(value: object) -> None:
    """Refuse halves of characters, which JSON can write, and neither files nor databases take."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        text = "message: should be text in UTF-8, found a lone surrogate. Send whole characters."
        raise HttpRefusal(422, text) from error


def _faults(request: RunRequest) -> list[str]:
    faults = []
    if not _COMMIT.fullmatch(request.commit_sha):  # a schema's `$` lets a newline through
        faults.append("commit_sha: should be 40 hex digits. Send the whole commit.")
    for name in ("repository", "ref", "trigger", "spec_path"):
        text: str = getattr(request, name)
        if not text.isprintable():
            faults.append(f"{name}: should have no control characters. Send plain text.")
    if request.environment is not None:
        faults += _environment_faults(request.environment)
    if request.repository_id == 0 and not request.trigger.startswith("local/"):
        faults.append("trigger: should be local/ID without a repository. Send local/ID.")
    if request.repository_id != 0 and request.trigger.startswith("local/"):
        faults.append("repository_id: should be 0 for the trigger local/ID. Send 0.")
    return faults


def _environment_faults(environment: Environment) -> list[str]:
    about = (environment.base, environment.python or "")
    names = (part for one in environment.frameworks for part in (one.name, one.version, one.cuda))
    faults = []
    if not fits_key(environment.key):
        faults.append("environment/key: should be 32 hex digits. Send the environment's key.")
    if not _DIGEST.fullmatch(environment.base_digest):
        faults.append("environment/base_digest: should be sha256:… or empty. Send the digest.")
    if not _DRIVER.fullmatch(environment.minimum_driver or "0"):
        faults.append("environment/minimum_driver: should be numbers and dots, like 525.60.13.")
    if not all((text or "").isprintable() for text in (*about, *names)):
        faults.append("environment: should have no control characters. Send plain text.")
    for name, text in (("lock", environment.lock), ("sbom", environment.sbom)):
        if "\0" in (text or ""):
            faults.append(f"environment/{name}: should be text, found a NUL. Send text.")
        if _PASSWORD.search(text or ""):
            faults.append(
                f"environment/{name}: should hold no password, found one in a URL. It is published"
                " with the release: take it out."
            )
    return faults


def fits_key(text: str) -> bool:
    """Say whether this can be an environment's key."""
    return _KEY.fullmatch(text) is not None


def check_image(parts: Parts, request: RunRequest, spec: Spec | None, *, local: bool) -> None:
    """Refuse an image that this caller may not name. Raises: HttpRefusal (403, 422)."""
    image = request.image
    if image is None or _PULLABLE.fullmatch(image):
        return
    if image.startswith("file:"):  # only where the operator opened a folder for it
        _check_bundle(parts, image)
    elif not local:
        raise HttpRefusal(422, "image: should be NAME@sha256:DIGEST. Push the image, send that.")
    elif _IMAGE_ID.fullmatch(image):
        _check_local_engine(parts, spec)
    else:
        raise HttpRefusal(422, "image: should be NAME@sha256:DIGEST or an image id. Send one.")


def _check_bundle(parts: Parts, image: str) -> None:
    allowed = parts.settings.bundles_dir
    if not allowed:
        raise HttpRefusal(
            403, "image: file:// is not open on this server. See CYNTHUS_BUNDLES_DIR."
        )
    url = urlsplit(image)
    folder = Path(unquote(url.path)).resolve()
    inside = folder.is_relative_to(Path(allowed).resolve()) and folder != Path(allowed).resolve()
    if url.netloc or not inside:
        raise HttpRefusal(403, f"image: should lie in {allowed}. Put the bundle there.")
    if not (folder / "bundle.json").is_file():
        raise HttpRefusal(422, "image: should be a folder with a bundle.json. Make the bundle.")


def _check_local_engine(parts: Parts, spec: Spec | None) -> None:
    wanted = (spec.resources.provider if spec else None) or parts.settings.provider
    if wanted != "local":
        raise HttpRefusal(
            422, f"image: should be NAME@sha256:DIGEST for the provider {wanted}. Push the image."
        )


def read_spec(request: RunRequest) -> tuple[Spec | None, tuple[SpecFault, ...]]:
    """Return the spec, or what is wrong with it."""
    return parse_spec(request.spec_text, request.spec_path)


def parse_spec(text: str, path: str) -> tuple[Spec | None, tuple[SpecFault, ...]]:
    """Return the spec that the text means, or what is wrong with it."""
    try:
        return _parsed(text, path), ()
    except UserError as error:
        faults = error.faults
        if not faults:
            return None, (SpecFault(line=1, column=1, text=str(error)),)
        return None, tuple(
            SpecFault(line=f.line, column=f.column, text=_told(f.where, f.message)) for f in faults
        )


def _told(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


@lru_cache(_SPECS_KEPT)
def _parsed(text: str, path: str) -> Spec:
    from cynthus import specfile

    return specfile.parse(text.encode(), path)


def check_trigger(request: RunRequest, spec: Spec, default_branch: str) -> None:
    """Refuse a push that the spec's own triggers leave out. Raises: HttpRefusal (422)."""
    if request.event != "push" or not request.ref.startswith("refs/heads/"):
        return
    push = spec.triggers.push
    if not push.branches and not default_branch:
        return  # "the default branch", which nobody has told us yet: the webhook decides
    refusal = push_refusal(
        push.branches or None,
        push.paths,
        branch=request.ref.removeprefix("refs/heads/"),
        default_branch=default_branch,
        changed=request.changed_paths,
    )
    if refusal is not None:
        raise HttpRefusal(422, refusal)


def check_cuda(request: RunRequest, spec: Spec) -> None:
    """Refuse a GPU that would stand idle. Raises: HttpRefusal (422)."""
    refusal = cuda_refusal(spec, request.environment)
    if refusal is not None:
        raise HttpRefusal(422, refusal)


def check_secrets(parts: Parts, request: RunRequest, spec: Spec) -> None:
    """Refuse a run whose secrets are not there: better now than on a rented machine."""
    there = set(parts.secrets.names(request.repository_id)) if spec.secrets else set()
    missing = [name for name in spec.secrets if name not in there]
    if missing:
        raise HttpRefusal(
            422,
            f"secrets: should be set for this repository, found no {', '.join(missing)}."
            f" Set them with `python -m webhook_server secret set"
            f" --repository-id {request.repository_id} NAME`.",
        )
