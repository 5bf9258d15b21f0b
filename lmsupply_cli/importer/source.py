"""What is imported: a GGUF file, or a folder of safetensors. Both look like a repository of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lmsupply_cli.importer.weights import Tensor


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """The ids of the tokens that begin and end a text, of padding and of what is unknown; `notes` are sentences for the user, such as what is not exact."""

    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int | None
    notes: tuple[str, ...] = ()
    unk_id: int | None = None


class Source(Protocol):
    """A model to import, opened and checked."""

    @property
    def format(self) -> str:
        """Either GGUF or safetensors."""
        ...

    @property
    def name(self) -> str:
        """As the source calls itself; may be ""."""
        ...

    @property
    def license(self) -> str:
        """As the source declares it; "" if it does not."""
        ...

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The keys of a config.json of transformers."""
        ...

    @property
    def generation(self) -> Mapping[str, Any]:
        """The keys of a generation_config.json that the source states; may be empty."""
        ...

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """By the names of transformers, rows in the order of transformers."""
        ...

    @property
    def folded_norms(self) -> bool:
        """Whether the norms of Gemma hold 1 + w, as GGUF files store them."""
        ...

    def write_tokenizer(self, folder: Path) -> TokenizerFacts:
        """Write tokenizer.json and tokenizer_config.json (chat template included). Raises ModelFilesError, FileError."""
        ...
