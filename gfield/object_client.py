"""Clients of object stores: one a bucket or host, with the user's credentials, and errors as `OSError`.

Credentials come from where AWS's own tools take them: the environment, or by boto3 a profile, single sign-on or the
machine's role. They stay in the client; a pickled `ObjectPath` is a URL, and workers have credentials of their own.
What a server says is never passed on as it is, since an answer about a wrong key may repeat it.
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from gfield.errors import UserError
from gfield.object_path import ObjectPath

_FIRST_PATIENCE_S = 1.5
_PATIENCE_S = 60.0
_MOST_RETRIES = 20
_LONGEST_PAUSE_S = 10.0
_LONGEST_SILENCE_S = 30.0
_IN_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_BROKEN = re.compile(r"response body|invalid \w+ response")
_answered: set[str] = set()


class BrokenAnswer(OSError):
    """An answer that has begun and is not whole; asked for again, it may be."""


class Refused(OSError):
    """An answer that says no, with a code of the server's own."""


class MissingExtra(UserError):
    """A library that is not installed, with the name of the extra that brings it."""


def library(root: str) -> Any:
    """Obstore, which this bucket or host wants.

    Raises
    ------
    MissingExtra
        If it is not installed.
    """
    try:
        import obstore
        import obstore.exceptions
    except ImportError as error:
        raise MissingExtra(f"{root}: obstore is not installed; pip install 'gfield[s3]'") from error
    return obstore


def client(root: str, *, bulk_delete: bool = True) -> Any:
    """The client of a bucket or host: an obstore store, which removes many objects by one request or each by its own.

    A root that has answered once is waited for longer, for ``GFIELD_PATIENCE`` seconds: a typing error is told in two
    seconds, and a disturbance in the midst of a long run is sat out.

    Raises
    ------
    MissingExtra
        If obstore is not installed.
    PermissionError
        If there are no credentials.
    """
    patience_s = longest_wait_s()
    return _client(root, patience_s if root in _answered else min(_FIRST_PATIENCE_S, patience_s), bulk_delete)


def longest_wait_s() -> float:
    """For how long a disturbance is sat out, in seconds.

    Raises
    ------
    UserError
        If ``GFIELD_PATIENCE`` is no number.
    """
    given = os.environ.get("GFIELD_PATIENCE", "")
    try:
        return float(given or _PATIENCE_S)
    except ValueError as error:
        raise UserError(f"GFIELD_PATIENCE is {given!r}, wanted a number of seconds") from error


def forget() -> None:
    """Let go of all clients: the next ones look at the environment anew."""
    _client.cache_clear()
    _answered.clear()


@functools.cache
def _client(root: str, patience_s: float, bulk_delete: bool) -> Any:
    library(root)
    from obstore.store import HTTPStore, S3Store

    retry: Any = {
        "max_retries": _MOST_RETRIES,
        "backoff": {
            "init_backoff": timedelta(seconds=0.1),
            "max_backoff": timedelta(seconds=min(_LONGEST_PAUSE_S, patience_s)),
            "base": 2,
        },
        "retry_timeout": timedelta(seconds=patience_s),
    }
    scheme, _, place = root.partition("://")
    bundle = (os.environ.get("AWS_CA_BUNDLE") if scheme == "s3" else None) or os.environ.get("SSL_CERT_FILE")
    options: Any = {} if bundle is None else {"root_certificate": _read(bundle)}
    silence_s = min(_LONGEST_SILENCE_S, max(2.0, patience_s))
    options |= {"read_timeout": timedelta(seconds=silence_s), "timeout": timedelta(minutes=10)}
    if scheme != "s3":
        options["allow_http"] = scheme == "http"
        return HTTPStore(root, client_options=options, retry_config=retry)
    config = _s3_config(root) | ({} if bulk_delete else {"disable_bulk_delete": True})
    endpoint = config.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options["allow_http"] = (endpoint or os.environ.get("AWS_ENDPOINT", "")).startswith("http://")
    return S3Store(place, client_options=options, retry_config=retry, **config)


def _read(bundle: str) -> bytes:
    try:
        with open(bundle, "rb") as file:
            return file.read()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{bundle}: {reason}; AWS_CA_BUNDLE or SSL_CERT_FILE names it, certificates wanted") from error


def _s3_config(root: str) -> dict[str, Any]:
    """What obstore does not take from the environment itself: a profile's credentials, region and endpoint."""
    skip = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
    if skip or (any(name in os.environ for name in _IN_ENVIRONMENT) and "AWS_PROFILE" not in os.environ):
        return {}
    wanted = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile; AWS_SKIP_SIGNATURE=true for a public bucket"
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise PermissionError(errno.EACCES, f"no credentials in the environment; {wanted}", root) from error
    try:
        session = boto3.Session()
        if session.get_credentials() is None:
            raise PermissionError(errno.EACCES, f"no credentials; wanted {wanted}", root)
        config: dict[str, Any] = {"credential_provider": Boto3CredentialProvider(session)}
        if endpoint := session._session.get_scoped_config().get("endpoint_url"):
            config["endpoint"] = endpoint
    except BotoCoreError as error:  # such as a profile that is not there
        raise PermissionError(errno.EACCES, f"no credentials: {error}; wanted {wanted}", root) from error
    if session.region_name is not None:
        config["region"] = session.region_name
    return config


@contextmanager
def errors_of(path: ObjectPath) -> Iterator[None]:
    """Whatever obstore raises in the block as an `OSError` of one line that names the URL."""
    exceptions = library(path.root).exceptions
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        _answered.add(path.root)
        if "NoSuchBucket" in str(error):
            raise FileNotFoundError(errno.ENOENT, "no such bucket", path.root) from error
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        said = _code(error) or "403 Forbidden"
        raise PermissionError(errno.EACCES, f"permission denied ({said})", str(path)) from error
    except exceptions.AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
    except exceptions.PreconditionError as error:
        raise OSError(errno.ESTALE, "it has been replaced since it was opened", str(path)) from error
    except (exceptions.BaseError, ValueError, RuntimeError) as error:
        if _BROKEN.search(str(error)):
            raise BrokenAnswer(errno.EIO, "the answer broke off", str(path)) from error
        raise (Refused if _code(error) else OSError)(errno.EIO, _explained(error), str(path)) from error
    else:
        _answered.add(path.root)


def _asked(text: str) -> str:
    """Which server was asked, where the URL alone does not say it."""
    found = re.search(r"Error performing \w+ ((https?)://[^/\s]+)", text)
    if found is None:
        return ""
    known = ", or none whose certificate is known: SSL_CERT_FILE names a file of those" if found[2] == "https" else ""
    return f" ({found[1]}){known}"


def _code(error: Exception) -> str:
    found = re.search(r"<Code>(\w{1,60})</Code>", str(error)) or re.search(
        r"status code: (\d{3}[\w ]{0,40})", str(error)
    )
    return found[1].strip() if found else ""


def _explained(error: Exception) -> str:
    """A line of what went wrong, in words that hold no secret."""
    text = str(error)
    if "without LOCATION" in text or "PermanentRedirect" in text:
        return "the bucket is in another region; AWS_REGION names the one wanted"
    if "Forked process" in text:
        return "opened in a forked process; start such workers by 'spawn' or 'forkserver'"
    if ("range" in text.lower() and "not supported" in text.lower()) or "non-partial response" in text:
        return "the server does not answer byte ranges, which nginx, Apache, Caddy and every object store do"
    if code := _code(error):
        return f"the server answered {code}"
    for sign, said in (
        ("timed out", "no answer within the time allowed"),
        ("operation timed out", "no answer within the time allowed"),
        ("dns error", "no such host"),
        ("error sending request", f"no server answers there{_asked(text)}"),
    ):
        if sign in text:
            return said
    return " ".join(text.partition("Debug source")[0].split())[:200]
