"""Every error that lmsupply raises on purpose, with a hint and an exit code.

    LmsupplyError                 1  anything that went wrong while running
    ├── UsageError                2  bad input: an option, a prompt, a file
    │   └── SettingsError         2  the settings file or an LMSUPPLY_ variable
    ├── ModelNotFound             1  no such alias, repo or folder
    ├── ModelNotInstalled         3  known, but not on this machine
    │   └── NotImported           3  a GGUF file or safetensors that must be imported first
    ├── DoesNotFit                4  a model or a cache beyond what memory holds
    │   └── ContextOverflow       4  a prompt beyond the context
    ├── LicenseNotAccepted        5  terms to accept, or access not granted
    ├── EngineError               1  the engine failed
    │   ├── EngineUnavailable     1  missing, or a version that was not tested
    │   ├── ProviderUnavailable   1  cuda, dml … requested but not available
    │   ├── ModelFilesError       1  a model folder that is incomplete or broken
    │   ├── WorkerDied            1  the process of a model ended while it answered
    │   └── UntrustedModelFiles   1  a model folder that wants to load or leave
    ├── FileError                 1  a file or folder that cannot be read or written
    ├── QueueFull                 1  too many requests wait for a model
    ├── QueueTimeout              1  a request waited too long
    ├── ServerGone                1  a running server does not answer, or ended while it did
    └── HubError                  1  the Hub or the network to it

`code` is the class in snake case; it is what `--json` reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Self


class LmsupplyError(Exception):
    """`message` says what happened, `hint` what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")

    @property
    def code(self) -> str:
        """The class in snake case, as `--json` reports it."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__.removesuffix("Error")).lower()


class UsageError(LmsupplyError):
    """Bad input: an option, a prompt, a file. Exit code 2. `param`: the parameter that is wrong, where that is known."""

    exit_code = 2
    param: str = ""

    def of(self, param: str) -> Self:
        """The same error, about this parameter."""
        self.param = param
        return self


class SettingsError(UsageError):
    """The settings file or an LMSUPPLY_ variable. Exit code 2. `key`: the setting whose value is wrong, if it is one."""

    key: str = ""


class ModelNotFound(LmsupplyError):
    """No such alias, repo or folder."""


class ModelNotInstalled(LmsupplyError):
    """Known, but not on this machine. Exit code 3."""

    exit_code = 3


class NotImported(ModelNotInstalled):
    """A GGUF file or a folder of safetensors that must be imported before it runs. Exit code 3. `source`: as it was named."""

    source: str = ""


class DoesNotFit(LmsupplyError):
    """A prompt or a model does not fit the context or memory. Exit code 4."""

    exit_code = 4


class ContextOverflow(DoesNotFit):
    """A prompt is longer than the context. Exit code 4."""


class LicenseNotAccepted(LmsupplyError):
    """There are terms to accept, or access is not granted. Exit code 5."""

    exit_code = 5


class EngineError(LmsupplyError):
    """The engine failed."""


class EngineUnavailable(EngineError):
    """The engine is missing, or its version is untested."""


class ProviderUnavailable(EngineError):
    """The requested execution provider is unavailable."""


class ModelFilesError(EngineError):
    """A model folder that is incomplete or broken."""


class UntrustedModelFiles(EngineError):
    """The model folder tries to load code or to access files outside itself."""


class WorkerDied(EngineError):
    """The process that runs a model ended while it answered."""


class FileError(LmsupplyError):
    """A file or folder that cannot be read or written."""


class QueueFull(LmsupplyError):
    """Too many requests wait for a model."""


class QueueTimeout(LmsupplyError):
    """A request waited too long."""


class ServerGone(LmsupplyError):
    """A running server does not answer, or ended while it did."""


class HubError(LmsupplyError):
    """The Hub or the network failed."""


def did_you_mean(word: str, known: Iterable[str], otherwise: str, *, cutoff: float = 0.6) -> str:
    """The hint for an unknown word: the `known` one most like it, whatever the case, else `otherwise`."""
    from difflib import get_close_matches

    spelled = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), spelled, n=1, cutoff=cutoff)
    return f"did you mean {spelled[near[0]]}?" if near else otherwise
