"""The hub's own client (huggingface_hub), with its errors as sentences.

A token comes from HF_TOKEN or from the client's own file, and appears in no message: errors of the client are raised
anew without their chain, because a traceback would show the text of each.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from vidiff_cli import __version__
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.hub import HubName
from vidiff_cli.system.atomic_files import unwritable
from vidiff_cli.system.shortage import raise_shortage

TOKEN = re.compile(r"[\x21-\x7e]{1,1000}")
LONGEST_ANSWER = 200  # characters of an answer of the hub in a message


def hub_client() -> Any:
    """The client, bound to the endpoint and the token of the environment."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()  # its warnings are for programmers, and errors become sentences
    disable_progress_bars()
    return HfApi(endpoint=endpoint(), token=hub_token() or False, library_name="vidiff", library_version=__version__)


def endpoint() -> str:
    """Address of the hub: $HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hub_token() -> str | None:
    """The token of the environment or of the client's file. VidiffError for one that cannot be sent."""
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token is not None and not TOKEN.fullmatch(token):
        raise VidiffError("the token of the hub has characters that no token has", fix="set HF_TOKEN anew")
    return token or None


def request_headers() -> dict[str, str]:
    """Headers of a download."""
    from huggingface_hub.utils import build_hf_headers

    headers = build_hf_headers(token=hub_token() or False, library_name="vidiff", library_version=__version__)
    return headers | {"Accept-Encoding": "identity"}  # so that a part of a file is a part of its bytes


@contextlib.contextmanager
def hub_errors(name: HubName, *, writing: bool = False) -> Iterator[None]:
    """Turn every error of the client into one sentence. `writing`: something is sent to the repository."""
    try:
        yield
    except VidiffError:
        raise
    except Exception as error:
        raise _sentence(name, error, writing=writing) from None


def _sentence(name: HubName, error: Exception, *, writing: bool) -> VidiffError:
    from huggingface_hub import errors

    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, errors.OfflineModeIsEnabled):
        return VidiffError("the hub cannot be reached", found="HF_HUB_OFFLINE is set", fix="unset it")
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(name, error, writing=writing)
    if kinds & {"RequestError", "InvalidURL"}:  # of httpx, under either of its names
        fix = "check the network and run it again: what was fetched is kept"
        return VidiffError(f"the hub at {endpoint()} cannot be reached", found=_short(error), fix=fix)
    if (isinstance(error, OSError) and error.filename is not None) or getattr(error, "errno", None):
        raise_shortage(str(name), error)
        return unwritable(error.filename or name, error)  # type: ignore[attr-defined]
    return VidiffError(f"{name} could not be {'sent' if writing else 'fetched'}", found=_short(error))


def _refusal(name: HubName, error: Any, *, writing: bool) -> VidiffError:
    """The sentence for an HTTP status."""
    from huggingface_hub import errors

    status = getattr(error.response, "status_code", 0)
    if isinstance(error, errors.RevisionNotFoundError):
        return VidiffError(f"{name} has no revision {name.wanted}", fix="name a branch, a tag or a commit that it has")
    if status == 401 and "credentials" in str(error.response.headers.get("X-Error-Message", "")).lower():
        return VidiffError("the hub does not know the token", fix="set HF_TOKEN to a valid one, or remove it")
    if writing and status in (401, 403, 404):
        owner = name.repository.partition("/")[0]
        found, fix = f"status {status}", f"set HF_TOKEN to a token with write access to {owner}"
        return VidiffError(f"the hub does not accept files for {name}", found=found, fix=fix)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        fix = f"accept its licence at {endpoint()}/{name.repository} and set HF_TOKEN to a token of that account"
        return VidiffError(f"{name} is gated", fix=fix)
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        fix = "check the name; for a private or gated one accept its licence on the hub and set HF_TOKEN"
        return VidiffError(f"{name} is not on the hub, or not for everyone", found=f"status {status}", fix=fix)
    if status == 429:
        return VidiffError("the hub takes no more requests for now", fix="wait some minutes and run it again")
    if status >= 500:
        return VidiffError(f"the hub at {endpoint()} has a fault", found=f"status {status}", fix="run it again later")
    answer = getattr(error, "server_message", None) or error
    return VidiffError(f"the hub refused {name}", found=f"status {status}, {_short(answer)}")


def _short(error: object) -> str:
    """An error's text as one short line, without the token."""
    text = " ".join(str(error).split()) or type(error).__name__
    with contextlib.suppress(Exception):
        token = hub_token()
        text = text.replace(token, "<token>") if token else text
    return text if len(text) <= LONGEST_ANSWER else f"{text[:LONGEST_ANSWER]}..."
