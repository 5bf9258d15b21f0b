"""Write tests/real/reference.json: what other programs make of the GGUF file of the suite on a real model.

python tools/make_real_reference.py SmolLM2-135M-Instruct.Q4_1.gguf

llama.cpp gives token ids and the log probability of a story, transformers (which reads the GGUF file with `gguf`, in
fp32) the ids of a chat, the log probabilities of the story and greedy answers. It needs torch, transformers 5,
accelerate, gguf, jinja2 and llama-cpp-python.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parent.parent / "tests" / "real" / "reference.json"
TEXTS = (
    "Hello there, it's 12:30. We'LL see: don't!",
    "def f(x):\n    if x:\n        return [1, 22, 333]\n\n\treturn None  # done\n",
    "Größe, été, mañana, Łódź — “quoted” … 10 €",
    "e\u0301cole \ufb01ne \u00bd x\u00b2 \u2126",
    "日本語と中文。 한국어 العربية हिन्दी ไทย",
    "👩‍👩‍👧 👍🏽 🇩🇪 ❤️‍🔥",
    " leading,   three spaces,\ttabs \r\n\r\nand lines \n \n",
    "https://a.b/c?d=1&e=%20#f C:\\x\\y $x^2$ 1234567890 3.14e-10",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|> <|im_end",
    '{"a": [1, 2.5, null], "b": "\\u00e9"}\n| a | b |\n|---|---|',
)
STORY = (
    "The lighthouse stood on a narrow spit of rock, two miles from the village. Every evening the keeper climbed the "
    "hundred and twelve steps to light the lamp, and every morning he climbed them again to put it out. In winter the "
    "storms were so loud that he could not hear his own voice, and in summer the sea was so quiet that he could hear the "
    "fishermen talking in their boats. He had lived there for thirty years, and he did not want to live anywhere else. "
    "One day a letter came from the town. It said that the lamp would be replaced by an electric light, which needed no "
    "keeper. The old man read the letter twice, folded it carefully, and put it in his pocket. Then he went upstairs and "
    "cleaned the glass, as he did every day."
)
CHAT = (
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the opposite of hot?"},
    {"role": "assistant", "content": "Cold."},
    {"role": "user", "content": "And of big?"},
)
PROMPTS = (
    "The capital of France is",
    "The Great Wall of",
    "The Earth revolves around the",
    "1, 2, 3, 4,",
    "def add(a, b):\n    return",
    "Water freezes at 0 degrees",
    "Dear Anna,\n\nThank you for your letter.",
    "William Shakespeare wrote the play Romeo and",
    "Once upon a time, there was a little",
    "# Shopping list\n\n- milk\n- bread\n-",
)
TOKENS = 32
END = (0, 2)  # <|endoftext|> and <|im_end|>
LEAST_GAP = 0.02  # between the best two logits; a closer choice says nothing


def main() -> None:
    path = Path(sys.argv[1]).absolute()
    found: dict[str, Any] = {"story": STORY, "chat": CHAT, **by_llama_cpp(path), **by_transformers(path)}
    REFERENCE.write_text(json.dumps(found, ensure_ascii=True, indent=None, separators=(",", ":")) + "\n")
    print({key: len(str(value)) for key, value in found.items()})


def by_llama_cpp(path: Path) -> dict[str, Any]:
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=512, logits_all=True, verbose=False)
    ids = model.tokenize(STORY.encode(), add_bos=False)
    model.eval(ids)
    total = 0.0
    for row, token in zip(model.scores[: len(ids) - 1], ids[1:], strict=True):
        highest = float(row.max())
        total += float(row[token]) - highest - math.log(sum(math.exp(float(x) - highest) for x in row))
    texts = [(text, model.tokenize(text.encode(), add_bos=False, special=True)) for text in TEXTS]
    return {"token_ids": texts, "llama_cpp_logprob": round(total / (len(ids) - 1), 4)}


def by_transformers(path: Path) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)

    @torch.inference_mode()
    def scores(ids: list[int]) -> Any:
        return model(torch.tensor([ids])).logits[0]

    def greedy(prompt: str) -> list[int]:
        ids = tokenizer.encode(prompt)
        answer: list[int] = []
        while len(answer) < TOKENS:
            best = scores([*ids, *answer])[-1].topk(2)
            token, gap = int(best.indices[0]), float(best.values[0] - best.values[1])
            if token in END or gap < LEAST_GAP:
                break
            answer.append(token)
        return answer

    ids = tokenizer.encode(STORY)
    logprobs = scores(ids)[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    chat = tokenizer.apply_chat_template(list(CHAT), add_generation_prompt=True, tokenize=True)
    return {
        "chat_ids": chat if isinstance(chat, list) else chat["input_ids"],
        "story_logprobs": [round(float(x), 4) for x in logprobs],
        "greedy": [(prompt, greedy(prompt)) for prompt in PROMPTS],
    }


if __name__ == "__main__":
    main()
