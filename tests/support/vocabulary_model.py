"""A TextModel with a real vocabulary and no weights: it wants to say a text, or anything at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.chat.control import control_strings
from lmsupply_cli.chat.formats.families import (
    ChatML,
    Gemma,
    Llama3,
    MistralTekken,
    MistralV3,
    Phi4Mini,
    Qwen,
)
from lmsupply_cli.chat.formats.template import Template
from lmsupply_cli.chat.formatter import PromptFormat
from lmsupply_cli.chat.reasoning import find_markers
from lmsupply_cli.engine.base import ModelShape, check_append
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import GuidanceVocabulary, Matcher
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.tokenizer import ModelTokenizer
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.generator import GeneratorLimits, TextGenerator

ROOT = Path(__file__).parent.parent
ENDS = {
    "qwen25": "<|im_end|>", "qwen3": "<|im_end|>", "phi4mini": "<|end|>", "llama3_1": "<|eot_id|>",
    "mistral_v3": "</s>", "tekken": "</s>", "gptoss": "<|return|>", "smollm2": "<|im_end|>", "gemma3": "<end_of_turn>",
}  # fmt: skip
HARMONY = (
    "{% if tools %}<|start|>developer<|message|># Tools\n\nnamespace functions:\n"
    "{% for tool in tools %}type {{ tool.function.name }} = (_: {{ tool.function.parameters|tojson }}) => any;{% endfor %}"
    "<|end|>{% endif %}{% set last = namespace(name=none) %}{% for m in messages %}"
    "{% if m.role == 'tool' %}<|start|>functions.{{ last.name }} to=assistant<|channel|>commentary<|message|>"
    "{{ m.content|tojson }}<|end|>{% elif 'tool_calls' in m %}"
    "{% if m.content and m.thinking %}{{ raise_exception('both') }}{% endif %}"
    "{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "{% set call = m.tool_calls[0].function %}{% set last.name = call.name %}"
    "<|start|>assistant to=functions.{{ call.name }}<|channel|>commentary json<|message|>{{ call.arguments|tojson }}<|call|>"
    "{% elif m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}<|start|>assistant"
)


class VocabularyModel:
    """`says`: what it wants to say, answer by answer, control tokens included; none for a random token at each step."""

    tokenizer_note = ""

    def __init__(self, name: str, folder: Path, *, says: Sequence[str] = (), seed: int = 0) -> None:
        made = Path(shutil.copytree(ROOT / "models" / "toy", folder / name, dirs_exist_ok=True))
        shutil.copy(ROOT / "data" / "tokenizers" / f"{name}.json", made / "tokenizer.json")
        config = json.loads((made / "genai_config.json").read_text())
        vocabulary = json.loads((made / "tokenizer.json").read_text(encoding="utf-8"))
        self.added = {row["content"]: row["id"] for row in vocabulary["added_tokens"]}
        size = max([*vocabulary["model"]["vocab"].values(), *self.added.values()]) + 1
        config["model"] |= {"vocab_size": size, "eos_token_id": self.added[ENDS[name]]}
        (made / "genai_config.json").write_text(json.dumps(config))
        self.folder = open_folder(made)
        self.control = control_strings(self.folder.added_tokens)
        self.markers = find_markers(self.folder.added_strings)
        visible = self.markers.visible if self.markers else ()
        self.tokenizer = ModelTokenizer(self.folder, visible=visible)
        self.shape = ModelShape(None, name, 8000, size, frozenset({self.added[ENDS[name]]}), None)
        self.hidden_ids = self.tokenizer.hidden_ids
        self.says, self.answers = says, 0
        self.rng = np.random.default_rng(seed)
        self._names = {row["id"]: row["content"] for row in self.folder.added_tokens if row.get("special")}
        self._guided: GuidanceVocabulary | None = None

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def new_detokenizer(self, *, continues: bool = False) -> Any:
        return self.tokenizer.new_detokenizer(continues=continues)

    def token_text(self, token: int) -> str:
        data = self.tokenizer.token_bytes(token)
        return self._names.get(token, "") if data is None else data.decode(errors="replace")

    def new_matcher(self, guidance: Guidance) -> Matcher:
        self._guided = self._guided or GuidanceVocabulary(self.shape.vocabulary, self.tokenizer, self._names)
        return Matcher(guidance, self._guided)

    def new_decoder(self, *, capacity_tokens: int, share_buffer: bool | None = None) -> VocabularyDecoder:
        return VocabularyDecoder(self, capacity_tokens)

    def new_batch(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def batching_blocker(self) -> str | None:
        return "no weights"

    def drafting_blocker(self) -> str | None:
        return "no weights"

    def close(self) -> None:
        self.tokenizer.close()


class VocabularyDecoder:
    longrope_threshold = 0

    def __init__(self, model: VocabularyModel, capacity_tokens: int) -> None:
        self.capacity_tokens, self._model = capacity_tokens, model
        self._tokens: list[int] = []
        self._wanted = [model.encode(text) for text in model.says]
        self._begun, self._reads = 0, False

    @property
    def tokens(self) -> Sequence[int]:
        return list(self._tokens)

    def append(self, ids: Sequence[int]) -> None:
        size = self._model.shape.vocabulary
        check_append(ids, held_tokens=len(self._tokens), capacity_tokens=self.capacity_tokens, vocabulary=size)
        self._tokens.extend(ids)
        if len(ids) > 1:
            self._model.answers += not self._reads
            self._begun = len(self._tokens)
        self._reads = len(ids) > 1

    def logits(self) -> Any:
        scores = self._model.rng.normal(size=self._model.shape.vocabulary).astype(np.float32)
        if self._wanted:
            said, wanted = len(self._tokens) - self._begun, self._wanted[self._model.answers - 1]
            scores[wanted[said] if said < len(wanted) else next(iter(self._model.shape.eos_ids))] = 100.0
        return scores

    def wide_logits(self, count: int) -> Any:
        raise NotImplementedError

    def rewind(self, count: int) -> None:
        del self._tokens[count:]

    def close(self) -> None:
        self._tokens = []


def formatter_of(name: str) -> Any:
    made = {
        "qwen25": Qwen,
        "qwen3": lambda: Qwen(can_think=True),
        "phi4mini": Phi4Mini,
        "llama3_1": Llama3,
        "mistral_v3": MistralV3,
        "tekken": MistralTekken,
        "smollm2": ChatML,
        "gemma3": Gemma,
        "gptoss": lambda: Template(HARMONY, {}, trusted=True),
    }
    return made[name]()  # type: ignore[no-untyped-call, operator]


def vocabulary_generator(name: str, folder: Path, *, says: Sequence[str] = (), seed: int = 0) -> TextGenerator:
    """A generator with the vocabulary and the chat format of a family."""
    model = VocabularyModel(name, folder, says=says, seed=seed)
    info = ModelInfo(name, None, UNKNOWN_LICENSE, "cpu", 1, 8000)
    options = GenerationOptions(temperature=0, repetition_penalty=1.0, max_tokens=600)
    format = PromptFormat(formatter_of(name), model.control, model.markers)
    limits = GeneratorLimits(reserve_tokens=8000)
    return TextGenerator(model, format, info, options=options, limits=limits)  # type: ignore[arg-type]
