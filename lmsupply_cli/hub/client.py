"""The only door to the Hugging Face Hub: one listing, one small file, one file from a byte on.

Where the token and the endpoint come from is huggingface_hub's business. The requests are ours:
its download does not resume across processes, checks no hash over HTTP, has no time limit on
some calls and does not try again after a reset. The token goes to the Hub's own host only,
never to the host that it redirects to.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from lmsupply_cli._version import __version__
from lmsupply_cli.errors import HubError, LicenceNotAccepted, LmsupplyError, ModelNotFound
from lmsupply_cli.hub.retry import RetryPolicy, Transient, Unreachable, retrying
from lmsupply_cli.hub.tree import RepoFile, RepoTree, is_safe_path

_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = "check the network, a proxy (HTTPS_PROXY) or HF_ENDPOINT, and run it again: what arrived is kept"


@dataclass(frozen=True)
class Limits:
    """Seconds: to connect, of silence while reading, for a whole API call."""

    connect_s: float = 10
    silence_s: float = 30
    call_s: float = 60


@dataclass
class OpenFile:
    """A body that begins at byte `start`; `total_bytes` of the whole file, where the server says."""

    start: int
    total_bytes: int | None
    chunks: Iterator[bytes]


def is_offline() -> bool:
    """HF_HUB_OFFLINE, as the Hub's own client reads it."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@dataclass
class HubClient:
    """Every method raises HubError, ModelNotFound or LicenceNotAccepted, with the host named."""

    limits: Limits = field(default_factory=Limits)
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        import httpx2
        from huggingface_hub import constants, get_token

        self.endpoint: str = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self._token = get_token()
        self._answered: set[str] = set()  # hosts
        self._http = httpx2
        timeout = httpx2.Timeout(self.limits.silence_s, connect=self.limits.connect_s)
        agent = {"User-Agent": f"lmsupply/{__version__}", "Accept-Encoding": "identity"}
        try:
            self._client = httpx2.Client(timeout=timeout, headers=agent, follow_redirects=False)
        except (ValueError, ImportError) as error:  # a proxy variable that is no address
            raise HubError(
                f"the proxy settings cannot be used: {error}", hint="check HTTPS_PROXY and ALL_PROXY"
            ) from error

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fetch_tree(self, repo: str, revision: str | None = None) -> RepoTree:
        """All files at one commit, and the text of each genai_config.json."""
        base = f"{self.endpoint}/api/models/{repo}"
        info = self._json(f"{base}/revision/{quote(revision or 'main', safe='')}", repo)[0]
        if not isinstance(info, dict) or not isinstance(info.get("sha"), str):
            raise self._not_a_hub()
        commit = info["sha"]
        files: dict[str, RepoFile] = {}
        url: str | None = f"{base}/tree/{commit}?recursive=true&expand=false"
        while url:
            rows, url = self._json(url, repo)
            files |= {file.path: file for file in self._files(rows)}
        card = info.get("cardData") or {}
        name = card.get("license_name") or card.get("license") or ""
        tree = RepoTree(
            repo=repo,
            commit=commit,
            files=files,
            licence=name if isinstance(name, str) else "",
            licence_url=card.get("license_link") or "",
            gated=bool(info.get("gated")),
            revision=revision or "main",
        )
        paths = [path for path in files if path.rsplit("/", 1)[-1] == "genai_config.json"]
        return RepoTree(**{**vars(tree), "configs": {path: self.fetch_text(tree, path) for path in paths}})

    def fetch_text(self, tree: RepoTree, path: str, *, limit_bytes: int = 2_000_000) -> str:
        """A small text file of the repo."""

        def read() -> bytes:
            data = b""
            with self.open_file(tree.repo, tree.commit, path, 0) as file:
                for chunk in file.chunks:
                    data += chunk
                    if len(data) > limit_bytes:
                        raise HubError(f"{path} of {tree.repo} is larger than {limit_bytes:,} bytes")
            return data

        return retrying(read, self.policy).decode("utf-8", errors="replace")

    @contextmanager
    def open_file(self, repo: str, commit: str, path: str, start: int) -> Iterator[OpenFile]:
        """A file from byte `start` on; each call asks the Hub anew, so a signed address is never stale.

        Raises Transient for what may pass: the caller tries again.
        """
        url = f"{self.endpoint}/{repo}/resolve/{commit}/{quote(path)}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        for _ in range(6):
            with (
                self._translated(url),
                self._client.stream("GET", url, headers=headers | self._authorization(url)) as response,
            ):
                self._answered.add(urlsplit(url).netloc)
                if response.status_code in _REDIRECTS:
                    url = urljoin(url, response.headers.get("location", ""))
                    continue
                self._raise_for(response, repo, path, url)
                if self._ours(url) and "x-repo-commit" not in response.headers:
                    raise self._not_a_hub()
                yield self._opened(response, start)
                return
        raise HubError(f"{self.host} redirects in circles")

    def _opened(self, response: Any, start: int) -> OpenFile:
        """The body in the pieces that arrive: with a chunk size, what is short of one is lost when it breaks."""
        length = response.headers.get("content-length", "")
        if response.status_code == 206:
            bounds = response.headers.get("content-range", "").removeprefix("bytes ").partition("/")
            first, total = bounds[0].partition("-")[0], bounds[2]
            begins = int(first) if first.isdigit() else start
            return OpenFile(begins, int(total) if total.isdigit() else None, response.iter_raw())
        return OpenFile(0, int(length) if length.isdigit() else None, response.iter_raw())

    def _json(self, url: str, repo: str) -> tuple[Any, str | None]:
        """(the parsed body, the address of the next page)."""
        return retrying(lambda: self._json_once(url, repo), self.policy)

    def _json_once(self, url: str, repo: str) -> tuple[Any, str | None]:
        deadline = time.monotonic() + self.limits.call_s
        body = b""
        with self._translated(url), self._client.stream("GET", url, headers=self._authorization(url)) as response:
            self._answered.add(urlsplit(url).netloc)
            if response.status_code in _REDIRECTS:  # a renamed repo: only ever on the Hub itself
                moved = urljoin(url, response.headers.get("location", ""))
                if not self._ours(moved):
                    raise self._not_a_hub()
                return self._json_once(moved, repo)
            self._raise_for(response, repo, "", url)
            for chunk in response.iter_raw():
                body += chunk
                if time.monotonic() > deadline:
                    raise self._transient(f"{self.host} did not finish its answer in {self.limits.call_s:g} s")
            following = response.links.get("next", {}).get("url")
        try:
            parsed = json.loads(body)
        except ValueError as error:
            raise self._not_a_hub() from error
        if following and not self._ours(urljoin(url, following)):
            raise self._not_a_hub()
        return parsed, urljoin(url, following) if following else None

    def _files(self, rows: Any) -> list[RepoFile]:
        if not isinstance(rows, list):
            raise self._not_a_hub()
        found = []
        for row in rows:
            if not isinstance(row, dict) or row.get("type") != "file":
                continue
            path, size, lfs = row.get("path"), row.get("size"), row.get("lfs") or {}
            if not isinstance(path, str) or not isinstance(size, int):
                raise self._not_a_hub()
            if not is_safe_path(path):
                raise HubError(f"the repo holds a path that is not safe: {path!r}", hint="do not use this repo")
            sha256, blob = lfs.get("oid"), row.get("oid")
            found.append(RepoFile(path, size, f"sha256:{sha256}" if sha256 else f"git-sha1:{blob}" if blob else ""))
        return found

    def _ours(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]

    def _authorization(self, url: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token and self._ours(url) else {}

    @contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        host = urlsplit(url).netloc
        http = self._http
        try:
            yield
        except (http.ConnectError, http.ConnectTimeout) as error:
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
        except http.InvalidURL as error:
            raise HubError(f"not an address: {host}", hint="check HF_ENDPOINT") from error

    def _raise_for(self, response: Any, repo: str, path: str, url: str) -> None:
        status, code = response.status_code, response.headers.get("x-error-code", "")
        host = urlsplit(url).netloc
        if status < 400:
            return
        if status == 429 or status >= 500:
            error = self._transient(f"{host} answered {status}")
            error.retry_after_s = _seconds(response.headers.get("retry-after", ""))
            raise error
        if not self._ours(url):  # an address that expired, or a cache that lost the file: ask the Hub for a new one
            raise self._transient(f"{host} answered {status} for {path}")
        raise self._refused(status, code, repo, path)

    def _refused(self, status: int, code: str, repo: str, path: str) -> LmsupplyError:
        page = f"{self.endpoint}/{repo}"
        if code == "GatedRepo":
            if not self._token:
                return LicenceNotAccepted(
                    f"{repo} is gated and no token is set", hint=f"accept its terms at {page}, then set HF_TOKEN"
                )
            return LicenceNotAccepted(
                f"{repo} is gated and this account has no access to it",
                hint=f"accept its terms at {page}, or wait until access is granted",
            )
        if code == "RevisionNotFound":
            return ModelNotFound(f"{repo} has no such revision", hint=f"its revisions are at {page}")
        if code == "EntryNotFound":
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

    def _not_a_hub(self) -> HubError:
        return HubError(
            f"{self.host} did not answer like a Hub",
            hint="is there a login page of the network in between, or a wrong HF_ENDPOINT?",
        )


def _cause(error: BaseException) -> str:
    """What the system said, without addresses that may be signed."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.split("http://")[0].split("https://")[0].strip() or type(error).__name__


def _seconds(text: str) -> float | None:
    return float(text) if text.replace(".", "", 1).isdigit() else None
