"""Addresses of Hubs, proxies and model pages, and names of repositories. A shown address never contains a user name or a
password."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from lmsupply_cli.foreign import plain

HUGGING_FACE = "https://huggingface.co"
REPO = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"  # `is_repo` refuses some of these
_REPO = re.compile(rf"(?!.*(--|\.\.)){REPO}", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_BLANK = re.compile(r"[\x00-\x20\x7f-\xa0]")
_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_NO_OWNERS = ("api", "blog", "chat", "collections", "datasets", "docs", "models", "papers", "settings", "spaces")
_PAGE = re.compile(
    r"(?:https?://)?(?:[^/@\s]*@)?(?P<host>[\w.-]+(?::\d+)?)/(?P<path>[^?#\s][^?#]*)([?#].*)?", re.IGNORECASE
)


class Address(NamedTuple):
    """`url` without user, password and a slash at the end."""

    url: str
    user: str = ""
    password: str = ""


def is_repo(text: object) -> bool:
    """`owner/name` as on the Hub. It contains no "--", which stands for the slash in the folder names of a store."""
    return isinstance(text, str) and _REPO.fullmatch(text) is not None


def parse_address(text: str, schemes: Collection[str] = ("http", "https")) -> Address:
    """Raises ValueError with what is wrong, in words that hold nothing secret."""
    if _BLANK.search(text):
        raise ValueError("it holds a blank or a control character")
    parts = _split(text)
    if parts.scheme not in schemes or "://" not in text:
        raise ValueError(f"it must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not parts.hostname:
        raise ValueError("it names no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port is not None else ""
    url = parts._replace(netloc=host + port, query="", fragment="").geturl().rstrip("/")
    return Address(url, unquote(parts.username or ""), unquote(parts.password or ""))


def hub_address() -> str:
    """The address of the Hub in use, without user name and password: HF_ENDPOINT, else Hugging Face."""
    try:
        return parse_address(os.environ.get("HF_ENDPOINT", "").strip()).url
    except ValueError:
        return HUGGING_FACE


def host_of(url: str) -> str:
    """Host and port, for a line of ours."""
    try:
        parts = _split(url)
    except ValueError:
        return "an invalid URL"
    return plain(f"{parts.hostname or ''}:{parts.port}" if parts.port is not None else parts.hostname or "")


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what a token is bound to. Raises ValueError."""
    parts = _split(url)
    return parts.scheme, parts.hostname or "", _PORTS.get(parts.scheme) if parts.port is None else parts.port


def _split(text: str) -> SplitResult:
    """Raises ValueError in words that hold nothing of the address: a password with a slash looks like a port."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("its host is malformed") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("its port is not a number from 1 to 65535")
    return parts


def without_user(text: str) -> str:
    """What somebody typed, without the user and the password of an address."""
    return re.sub(r"^(\s*\w+://)[^/\s]*@", r"\1", text)


def ref_of_page(text: str) -> str | None:
    """`owner/repo[@revision][:folder]` from the address of a model's page, as a browser or git shows it.

    None for another page of a Hub; any other text as it is.
    """
    match = _PAGE.fullmatch(text)
    if not match or match["host"].lower() not in _hub_hosts():
        return text
    parts = [unquote(part) for part in match["path"].split("/") if part]
    if len(parts) < 2 or parts[0].lower() in _NO_OWNERS:
        return None
    if ":" in parts[1] or "@" in parts[1]:  # a ref behind the host
        return "/".join(parts)
    repo = f"{parts[0]}/{parts[1].removesuffix('.git')}"
    page, rest = parts[2:3], parts[3:]
    if rest[:2] == ["refs", "pr"]:
        rest = ["/".join(rest[:3]), *rest[3:]]
    if page not in (["tree"], ["blob"], ["resolve"], ["raw"], ["commit"]) or not rest:
        return repo
    revision = "" if rest[0] == "main" else f"@{rest[0]}"
    folder = "/".join(rest[1:] if page == ["tree"] else rest[1:-1])
    return f"{repo}{revision}" + (f":{folder}" if folder else "")


def _hub_hosts() -> tuple[str, ...]:
    return (*_HUB_HOSTS, host_of(os.environ.get("HF_ENDPOINT", "").strip()).lower())
