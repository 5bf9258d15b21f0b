"""The only door to the Hugging Face Hub: one listing, one small file, one file from a byte on.

Where a token is kept is huggingface_hub's business. The requests are ours: its download does not resume across processes, checks no hash over HTTP, has no time limit on
some calls and does not try again after a reset. The token goes to the Hub's own host only,
never to the host that it redirects to.

An answer is foreign: it is read within limits, and `hub.answers` checks the type and form of all that is used of it.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin

from lmsupply_cli._version import __version__
from lmsupply_cli.addresses import HUGGING_FACE, host_of, origin, parse_address
from lmsupply_cli.errors import HubError, LicenseNotAccepted, LmsupplyError, ModelNotFound
from lmsupply_cli.events import Notice, ProgressListener
from lmsupply_cli.files import parse_json
from lmsupply_cli.foreign import plain
from lmsupply_cli.hub import environment
from lmsupply_cli.hub.answers import Found, ModelInfo, Unlike, read_found, read_info, read_rows
from lmsupply_cli.hub.retry import RetryPolicy, Transient, Unreachable, retrying
from lmsupply_cli.hub.tree import RepoFile, RepoTree

_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = "check the network, a proxy (HTTPS_PROXY) or HF_ENDPOINT, then try again"
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_COUNT = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")


@dataclass(frozen=True)
class Limits:
    """Of an answer: seconds to connect, of silence while reading, for a whole API call; its bytes; redirects before it.

    Of a listing: pages, and configs that are read; of a search: pages. A body that brings fewer than `slow_bytes` in `slow_s` is given up.
    """

    connect_s: float = 10
    silence_s: float = 30
    call_s: float = 60
    slow_s: float = 60
    slow_bytes: int = 10_000
    answer_bytes: int = 16_000_000
    redirects: int = 5
    pages: int = 500
    configs: int = 200
    search_pages: int = 5


@dataclass
class OpenFile:
    """A body that begins at byte `start`; `total_bytes` of the whole file, where the server says."""

    start: int
    total_bytes: int | None
    chunks: Iterator[bytes]


def is_offline() -> bool:
    """HF_HUB_OFFLINE, as the Hub's own client reads it."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def kept_offline_by(offline: bool) -> str:
    """What forbids the network, as named in messages: the parameter or HF_HUB_OFFLINE; "" if nothing does."""
    return "`offline`" if offline else "HF_HUB_OFFLINE" if is_offline() else ""


@dataclass
class HubClient:
    """Every method raises HubError, ModelNotFound or LicenseNotAccepted, with the host named."""

    limits: Limits = field(default_factory=Limits)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        endpoint = environment.read_endpoint()
        environment.check_proxies()
        with environment.variables_blamed():
            from huggingface_hub import constants, get_token
        import httpx2

        endpoint = endpoint or parse_address(HUGGING_FACE)
        self.endpoint: str = endpoint.url
        self._basic = f"{endpoint.user}:{endpoint.password}" if endpoint.user or endpoint.password else ""
        self._token = environment.read_token(get_token, Path(constants.HF_TOKEN_PATH))
        self._answered: set[str] = set()  # hosts
        self._http = httpx2
        timeout = httpx2.Timeout(self.limits.silence_s, connect=self.limits.connect_s)
        agent = {"User-Agent": f"lmsupply/{__version__}", "Accept-Encoding": "identity"}
        trusted = environment.trusted_certificates() or True
        try:
            httpx2.URL(self.endpoint)
        except httpx2.InvalidURL as error:
            raise environment.malformed_endpoint("its host is malformed") from error
        try:
            self._client = httpx2.Client(timeout=timeout, headers=agent, follow_redirects=False, verify=trusted)
        except ImportError as error:
            raise HubError("a SOCKS proxy needs the package socksio", hint="pip install socksio") from error
        except (ValueError, httpx2.InvalidURL) as error:
            raise HubError(
                "the proxy settings cannot be used", hint="check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"
            ) from error

    @property
    def host(self) -> str:
        return host_of(self.endpoint)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tell(self, listener: ProgressListener) -> None:
        """Let `listener` hear what is waited for before a further try."""

        def on_wait(seconds: float, reason: str) -> None:
            listener.notice(Notice("waiting", f"{reason}; trying again in {seconds:.0f} s"))

        self.policy = replace(self.policy, on_wait=on_wait)

    def fetch_tree(self, repo: str, revision: str | None = None) -> RepoTree:
        """All files at one commit, and the text of each genai_config.json."""
        base = f"{self.endpoint}/api/models/{quote(repo)}"
        answer = self._json(f"{base}/revision/{quote(revision or 'main', safe='')}", repo)[0]
        with self._hub_like():
            info = read_info(answer, repo)
        files, unsafe = self._listing(f"{base}/tree/{info.commit}?recursive=true&expand=false", repo)
        tree = _tree(info, files, unsafe, revision or "main")
        paths = [path for path in files if path.rsplit("/", 1)[-1] == "genai_config.json"]
        if len(paths) > self.limits.configs:
            raise HubError(
                f"{info.repo} holds {len(paths):,} models, too many to choose from", hint="pull another repo"
            )
        return replace(tree, configs={path: self.fetch_text(tree, path) for path in paths})

    def search(self, text: str) -> Iterator[Found]:
        """Repos with ONNX files whose name contains `text`, the most downloaded first.

        `GET /api/models?search=TEXT&filter=onnx&sort=downloads&direction=-1&limit=100&expand[]=downloads&expand[]=siblings`.
        The tag `onnx` is set by the Hub for every repo with an ONNX file; not every GenAI repo has the tag
        `onnxruntime-genai`. `siblings` are paths without sizes. Pages follow in the Link header.
        """
        query = {"search": text, "filter": "onnx", "sort": "downloads", "direction": "-1", "limit": "100"}
        expand = "&".join(f"expand[]={key}" for key in ("downloads", "siblings"))
        url: str | None = f"{self.endpoint}/api/models?{urlencode(query)}&{expand}"
        seen: set[str] = set()
        for _ in range(self.limits.search_pages):
            rows, url = self._json(url or "", "models")
            with self._hub_like():
                found = [one for one in read_found(rows) if one.repo not in seen]
            seen |= {one.repo for one in found}
            yield from found
            if not url or not found:
                return

    def _listing(self, first: str, repo: str) -> tuple[dict[str, RepoFile], frozenset[str]]:
        """(all files by path, the paths that are not safe), from as many pages as it takes."""
        files: dict[str, RepoFile] = {}
        unsafe: set[str] = set()
        url: str | None = first
        for _ in range(self.limits.pages):
            rows, url = self._json(url or first, repo)
            known = len(files) + len(unsafe)
            with self._hub_like():
                found, odd = read_rows(rows)
            files |= found
            unsafe |= odd
            if not url:
                return files, frozenset(unsafe)
            if len(files) + len(unsafe) == known:
                raise self._unlike("its listing goes in circles")
        raise self._unlike(f"its listing has more than {self.limits.pages:,} pages")

    def fetch_text(self, tree: RepoTree, path: str, *, limit_bytes: int = 2_000_000) -> str:
        """A small text file of the repo."""
        size = tree.files[path].size_bytes

        def read() -> bytes:
            data = bytearray()
            with self.open_file(tree.repo, tree.commit, path, 0) as file:
                for chunk in file.chunks:
                    data += chunk
                    if len(data) > limit_bytes:
                        raise too_large
            if len(data) < size:
                raise self._transient(f"{path} ended after {len(data):,} of {size:,} bytes")
            return bytes(data)

        too_large = HubError(f"{path} of {tree.repo} is larger than {limit_bytes:,} bytes", hint="do not use this repo")
        if size > limit_bytes:
            raise too_large
        return retrying(read, self.policy).decode("utf-8-sig", errors="replace")

    def fetch_prefix(self, tree: RepoTree, path: str, limit_bytes: int) -> bytes:
        """The first `limit_bytes` of a file, or all of a shorter one."""
        wanted = min(limit_bytes, tree.files[path].size_bytes)

        def read() -> bytes:
            data = bytearray()
            with self.open_file(tree.repo, tree.commit, path, 0) as file:
                while len(data) < wanted and (chunk := next(file.chunks, b"")):
                    data += chunk
            if len(data) < wanted:
                raise self._transient(f"{path} ended after {len(data):,} of {wanted:,} bytes")
            return bytes(data[:wanted])

        return retrying(read, self.policy)

    @contextmanager
    def open_file(self, repo: str, commit: str, path: str, start: int) -> Iterator[OpenFile]:
        """A file from byte `start` on; each call asks the Hub anew, so a signed address is never stale.

        Raises Transient for what may pass: the caller tries again.
        """
        url = f"{self.endpoint}/{quote(repo)}/resolve/{commit}/{quote(path)}"
        with self._answer(url, repo, path, start=start) as (response, final):
            if self._ours(final) and "x-repo-commit" not in response.headers:
                raise self._unlike("it names no commit")
            yield self._opened(response, start, final)

    def _opened(self, response: Any, start: int, url: str) -> OpenFile:
        """The body in the pieces that arrive: with a chunk size, what is short of one is lost when it breaks."""
        chunks = self._paced(response.iter_raw(), url)
        if response.status_code == 206:
            part = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if not part:
                raise self._transient(f"{host_of(url)} sent a part of a file without saying which")
            return OpenFile(int(part[1]), None if part[2] == "*" else int(part[2]), chunks)
        length = response.headers.get("content-length", "")
        return OpenFile(0, int(length) if _COUNT.fullmatch(length) else None, chunks)

    def _paced(self, chunks: Iterator[bytes], url: str) -> Iterator[bytes]:
        """Raises Transient if so little arrives that it would never end."""
        waited_s, count = 0.0, 0
        while True:
            before = self.clock()
            chunk = next(chunks, None)
            if chunk is None:
                return
            waited_s, count = waited_s + self.clock() - before, count + len(chunk)
            yield chunk
            if waited_s >= self.limits.slow_s:
                if count < self.limits.slow_bytes:
                    raise self._transient(f"{host_of(url)} sent {count:,} bytes in {waited_s:.0f} s, which is too slow")
                waited_s, count = 0.0, 0

    def _json(self, url: str, repo: str) -> tuple[Any, str | None]:
        """(the parsed body, the address of the next page)."""
        return retrying(lambda: self._json_once(url, repo), self.policy)

    def _json_once(self, url: str, repo: str) -> tuple[Any, str | None]:
        deadline = self.clock() + self.limits.call_s
        body = bytearray()
        with self._answer(url, repo) as (response, final):
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > self.limits.answer_bytes:
                    raise self._unlike(f"its answer is longer than {self.limits.answer_bytes:,} bytes")
                if self.clock() > deadline:
                    raise self._transient(f"{self.host} did not finish its answer in {self.limits.call_s:g} s")
            following = response.links.get("next", {}).get("url")
        try:
            parsed = parse_json(bytes(body), "it", error=HubError)
        except HubError as error:
            raise self._unlike(error.message.removeprefix("it ")) from error
        if not following:
            return parsed, None
        following = self._moved(final, following)
        if not self._ours(following):
            raise self._unlike("the next page is on another host")
        return parsed, following

    @contextmanager
    def _answer(self, url: str, repo: str, path: str = "", *, start: int = 0) -> Iterator[tuple[Any, str]]:
        """(the answer, where it came from) after a few redirects; only those of a file leave the Hub."""
        seen: set[str] = set()
        while url not in seen and len(seen) <= self.limits.redirects:
            seen.add(url)
            headers = self._authorization(url) | ({"Range": f"bytes={start}-"} if start else {})
            with self._translated(url), self._client.stream("GET", url, headers=headers) as response:
                self._answered.add(host_of(url))
                if response.status_code not in _REDIRECTS:
                    self._raise_for(response, repo, path, url)
                    yield response, url
                    return
                url = self._moved(url, response.headers.get("location", ""))
            if not path and not self._ours(url):
                raise self._unlike("it redirects to another host")
        raise HubError(f"{self.host} redirects in circles", hint=_WRONG)

    def _moved(self, url: str, location: str) -> str:
        """The address that an answer of `url` names. Raises HubError for what is none."""
        try:
            moved = urljoin(url, location)
            parse_address(moved)
            self._http.URL(moved)
        except (ValueError, self._http.InvalidURL) as error:
            raise HubError(f"{host_of(url)} redirects to an invalid URL", hint=_WRONG) from error
        if not location:
            raise HubError(f"{host_of(url)} redirects without saying where to", hint=_WRONG)
        return moved

    def _ours(self, url: str) -> bool:
        return origin(url) == origin(self.endpoint)

    def _authorization(self, url: str) -> dict[str, str]:
        if not self._ours(url):
            return {}
        if self._basic:
            return {"Authorization": f"Basic {base64.b64encode(self._basic.encode()).decode()}"}
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    @contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        host, http = host_of(url), self._http
        try:
            yield
        except (http.ConnectError, http.ConnectTimeout) as error:
            broken = _tls_error(error)
            if isinstance(broken, ssl.SSLCertVerificationError):
                raise environment.not_trusted(host, broken) from error
            if broken:
                raise HubError(f"no TLS connection to {host}: {_cause(error)}", hint=_AGAIN) from error
            late = isinstance(error, http.ConnectTimeout)
            reason = f"no connection within {self.limits.connect_s:g} s" if late else _cause(error)
            kind = Transient if host in self._answered else Unreachable
            raise kind(f"cannot reach {host}: {reason}", hint=_AGAIN) from error
        except http.TimeoutException as error:
            raise self._transient(f"{host} was silent for {self.limits.silence_s:g} s") from error
        except http.ProxyError as error:
            raise HubError(f"the proxy refuses: {_cause(error)}", hint="check HTTPS_PROXY") from error
        except http.TransportError as error:
            raise self._transient(f"the connection to {host} broke: {_cause(error)}") from error

    def _raise_for(self, response: Any, repo: str, path: str, url: str) -> None:
        status, code = response.status_code, response.headers.get("x-error-code", "")
        host = host_of(url)
        if status < 400:
            return
        if status == 429 or status >= 500:
            error = self._transient(f"{host} answered {status}")
            error.retry_after_s = _seconds(response.headers.get("retry-after", ""))
            raise error
        if status == 407:
            raise HubError(
                "the proxy requires a user name and a password", hint="HTTPS_PROXY=http://user:password@host:port"
            )
        if not self._ours(url):  # an address that expired, or a cache that lost the file: ask the Hub for a new one
            raise self._transient(f"{host} answered {status} for {path}")
        raise self._refused(status, code, repo, path)

    def _refused(self, status: int, code: str, repo: str, path: str) -> LmsupplyError:
        page = f"{self.endpoint}/{repo}"
        if code == "GatedRepo":
            if not self._token:
                return LicenseNotAccepted(
                    f"{repo} is gated and no token is set", hint=f"accept its terms at {page}, then set HF_TOKEN"
                )
            return LicenseNotAccepted(
                f"{repo} is gated and this account has no access to it",
                hint=f"accept its terms at {page}, or wait until access is granted",
            )
        if code == "RevisionNotFound":
            return ModelNotFound(f"{repo} has no such revision", hint=f"its revisions are at {page}")
        if code == "EntryNotFound" or (path and status == 404 and not code):
            return HubError(f"{repo} has no file {path} any more", hint="run it again")
        if code == "RepoNotFound" or (status in (401, 404) and not (status == 401 and self._token)):
            private = "" if self._token else " (or it is private: set HF_TOKEN)"
            return ModelNotFound(f"{self.host} has no model {repo}{private}", hint="lmsupply models lists known ones")
        if status == 401:
            return HubError(
                f"{self.host} refuses the token", hint="set a valid HF_TOKEN, or unset it for public models"
            )
        return HubError(f"{self.host} answered {status} for {repo}", hint=_AGAIN)

    def _transient(self, message: str) -> Transient:
        return Transient(message, hint=_AGAIN)

    def _unlike(self, reason: str) -> HubError:
        return HubError(f"{self.host} did not answer like a Hub: {reason}", hint=_WRONG)

    @contextmanager
    def _hub_like(self) -> Iterator[None]:
        try:
            yield
        except Unlike as error:
            raise self._unlike(str(error)) from error


_WRONG = "is there a login page of the network in between, or a wrong HF_ENDPOINT?"


def _tree(info: ModelInfo, files: dict[str, RepoFile], unsafe: frozenset[str], revision: str) -> RepoTree:
    return RepoTree(
        repo=info.repo,
        commit=info.commit,
        files=files,
        license=info.license,
        license_url=info.license_url,
        revision=revision,
        unsafe=unsafe,
    )


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """What TLS could not agree on, if that is the cause; an end in the middle of it may pass."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ssl.SSLError):
            return None if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) else cause
        cause = cause.__cause__ or cause.__context__
    return None


def _cause(error: BaseException) -> str:
    """What the system said, without addresses that may be signed."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    text = _ERRNO.sub("", text)
    return plain(text.split("http://")[0].split("https://")[0].strip()) or type(error).__name__


def _seconds(text: str) -> float | None:
    """Of a Retry-After: a number, or a date."""
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
