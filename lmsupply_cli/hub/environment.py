"""What the environment says about the way to the Hub: endpoint, token, proxies, certificates.

Each is checked once, before the first request: what is malformed ends in one line that names the variable or the file.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import getproxies

from lmsupply_cli import files
from lmsupply_cli.addresses import HUGGING_FACE, Address, parse_address
from lmsupply_cli.errors import HubError
from lmsupply_cli.foreign import plain

CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_TOKEN_BYTES = 10_000
_SET_TOKEN = "set a valid token, or unset it for public models"
_CERTIFICATES = "it has to name certificates in PEM form; correct it or unset it"
_BLANK = " \t\r\n\ufeff"


def read_endpoint() -> Address | None:
    """HF_ENDPOINT, None if it is not set. Raises HubError."""
    given = os.environ.get("HF_ENDPOINT", "")
    text = given.strip(_BLANK)
    if text != given:
        os.environ["HF_ENDPOINT"] = text  # the Hub's own client reads it too, and takes no blanks
    try:
        return parse_address(text) if text else None
    except ValueError as error:
        raise malformed_endpoint(str(error)) from error


def malformed_endpoint(reason: str) -> HubError:
    return HubError(f"HF_ENDPOINT is not the URL of a Hub: {reason}", hint=f"it has the form {HUGGING_FACE}")


@contextmanager
def variables_blamed() -> Iterator[None]:
    """Around the import of the Hub's own client, which reads its variables then. Raises HubError."""
    try:
        yield
    except ValueError as error:
        said = str(error)
        values = {name: value for name, value in os.environ.items() if name.startswith("HF_") and value}
        bad = [name for name, value in values.items() if repr(value) in said] or [
            "a variable whose name begins with HF_"
        ]
        raise HubError(f"{bad[0]} cannot be used: {plain(said)}", hint="correct it or unset it") from error


def read_token(get_token: Callable[[], str | None], path: Path) -> str | None:
    """The token that `get_token` finds: in a variable, else in the file at `path`. Raises HubError.

    A file of somebody else's that may not be read is no token; one that HF_TOKEN_PATH names must be one.
    """
    name = next((name for name in _TOKENS if os.environ.get(name)), "")
    if not name and not os.environ.get("HF_OIDC_RESOURCE") and not _may_hold_token(path):
        return None
    try:
        token = (get_token() or "").strip(_BLANK)
    except Exception as error:  # its own errors, a file system's, a network's
        raise HubError(f"cannot read a token: {plain(str(error))}", hint=_SET_TOKEN) from error
    if any(not "!" <= letter <= "~" for letter in token):
        raise HubError(f"{name or path} is not a token: it contains characters that no token has", hint=_SET_TOKEN)
    return token or None


def _may_hold_token(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True  # there are further places where its owner may keep one
    except OSError:
        pass
    try:
        data = files.read_bytes(path, limit_bytes=_TOKEN_BYTES, error=HubError) if files.is_file(path) else None
    except HubError:
        data = None
    if data is None:
        if os.environ.get("HF_TOKEN_PATH"):
            raise HubError(f"HF_TOKEN_PATH names no file that can be read: {plain(str(path))}", hint=_SET_TOKEN)
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HubError(
            f"{path} contains no token: it is not text in UTF-8", hint="hf auth login writes a new one"
        ) from error
    return True


def check_proxies() -> None:
    """Raises HubError for a variable that is not the URL of a proxy."""
    found = getproxies()
    if "*" in (host.strip() for host in found.get("no", "").split(",")):
        return
    for scheme in ("http", "https", "all"):
        url = found.get(scheme)
        if not url:
            continue
        names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
        name = next((name for name in names if os.environ.get(name)), f"the system's {scheme} proxy")
        try:
            parse_address(url if "://" in url else f"http://{url}", ("http", "https", "socks5", "socks5h"))
        except ValueError as error:
            raise HubError(
                f"{name} is not the URL of a proxy: {error}", hint="it has the form http://host:port"
            ) from error


def trusted_certificates() -> ssl.SSLContext | None:
    """What the variables name, all of them together; None if none is set. Raises HubError."""
    named = {name: value for name in CERTIFICATES if (value := os.environ.get(name))}
    if not named:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    loaded: set[Path] = set()  # often all of them name the same file
    for name, value in named.items():
        paths = [Path(one) for one in value.split(os.pathsep)] if name == "SSL_CERT_DIR" else [Path(value)]
        found = [path for path in paths if files.is_file(path) or files.is_folder(path)]
        if not found:
            raise HubError(f"{name} names nothing that can be read: {plain(value)}", hint=_CERTIFICATES)
        for path in found:
            if path not in loaded:
                _load(context, name, path)
            loaded.add(path)
    return context


def _load(context: ssl.SSLContext, name: str, path: Path) -> None:
    try:
        if files.is_file(path):
            context.load_verify_locations(cafile=path)
        else:
            context.load_verify_locations(capath=path)
    except (OSError, ValueError) as error:
        what = "a file without certificates" if isinstance(error, ssl.SSLError) else "a file that cannot be read"
        raise HubError(f"{name} names {what}: {plain(str(path))}", hint=_CERTIFICATES) from error


def not_trusted(host: str, error: ssl.SSLCertVerificationError) -> HubError:
    names = ", ".join(CERTIFICATES[:-1])
    return HubError(
        f"the certificate of {host} is not trusted: {plain(error.verify_message or str(error))}",
        hint=f"name the file of the authority that signed it in one of {names}",
    )
