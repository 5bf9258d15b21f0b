"""What ends the program is no fault of a tokenizer."""

from __future__ import annotations

import pytest

from lmsupply_cli.cli.exit import Terminated
from lmsupply_cli.engine.tokenizer import translated
from lmsupply_cli.errors import ModelFilesError

Panic = type("PanicException", (BaseException,), {})  # as the Rust library raises it


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated, SystemExit, GeneratorExit])
def test_what_ends_the_program_passes(error: type[BaseException]) -> None:
    with pytest.raises(error), translated():
        raise error


@pytest.mark.parametrize("error", [Exception, Panic])
def test_what_the_library_raises_is_named(error: type[BaseException]) -> None:
    with pytest.raises(ModelFilesError, match=r"tokenizer\.json fails: boom"), translated():
        raise error("boom")
