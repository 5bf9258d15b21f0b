"""The public name of the library: everything that `lmsupply_cli` exports.

    import lmsupply

    with lmsupply.load("guide") as model:
        print(model.generate("How do I download a model?"))

Names are imported when they are used, as in `lmsupply_cli`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lmsupply_cli as _package
from lmsupply_cli import __version__ as __version__

if TYPE_CHECKING:
    from lmsupply_cli import *  # noqa: F403  (the names, for type checkers and editors)
else:
    __all__ = _package.__all__


def __getattr__(name: str) -> Any:
    if name not in _package.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_package, name)


def __dir__() -> list[str]:
    return sorted(_package.__all__)
