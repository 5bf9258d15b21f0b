"""Turn corpus.toml into training conversations: phrasings expanded, then roughened.

A phrase holds `(a|b|)` alternatives and `{name}` slots; `\\0` marks where a frame takes its phrase. Everything drawn here is text;
`build_guide.py` does the tokens and the training.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Message = dict[str, str]

OFF_TOPIC_SHARE = 0.2
ONSETS = [
    "b",
    "c",
    "ch",
    "d",
    "f",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "qu",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "z",
]
CODAS = ["", "", "n", "r", "s", "l", "t", "m", "nd", "ck", "sh", "ng"]


@dataclass(frozen=True)
class Topic:
    name: str
    answer: str
    phrases: tuple[str, ...]


def read_corpus() -> tuple[list[Topic], dict[str, list[str]]]:
    """The topics, and the lists that fill `{name}` slots."""
    data, phrasing = _read("corpus.toml"), _read("phrasing.toml")
    topics = []
    for name, row in data.items():
        framed = [(phrasing["action_frames"], phrase) for phrase in row.get("actions", [])]
        framed += [(phrasing["noun_frames"], phrase) for phrase in row.get("nouns", [])]
        phrases = ["(" + "|".join(frames).replace("{}", "\0") + ")\1" + phrase for frames, phrase in framed]
        topics.append(Topic(name, row["answer"], tuple(phrases + row["questions"])))
    return topics, data["off_topic"]["lists"]


def read_heldout() -> list[tuple[str, str]]:
    """(question, topic) pairs that the model is scored on and never trained on."""
    return [(q, topic) for topic, questions in _read("heldout.toml")["questions"].items() for q in questions]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def normalized(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9 ]", " ", text.lower()).split())


class Sampler:
    """Draws conversations; the same seed draws the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.topics, self.lists = read_corpus()
        self.off_topic = next(t for t in self.topics if t.name == "off_topic")
        self.held_out = {normalized(q) for q, _ in read_heldout()}
        self.words = _read("phrasing.toml")

    def conversation(self, turns: int) -> list[Message]:
        r = self.random
        messages = [{"role": "system", "content": r.choice(self.words["system"])}] if r.random() < 0.12 else []
        for _ in range(turns):
            topic = self.off_topic if r.random() < OFF_TOPIC_SHARE else r.choice(self.topics)
            messages.append({"role": "user", "content": self.question(topic)})
            messages.append({"role": "assistant", "content": topic.answer})
        return messages

    def question(self, topic: Topic) -> str:
        while True:
            text = self.expand(self.random.choice(topic.phrases))
            if topic is not self.off_topic and self.random.random() < 0.12:
                text += self.random.choice(self.words["joiners"]) + self.expand(self.random.choice(topic.phrases))
            rough = self.roughen(text, topic)
            if not {normalized(text), normalized(rough)} & self.held_out:
                return rough

    def expand(self, phrase: str) -> str:
        frame, _, rest = phrase.rpartition("\1")
        text = self._choose(rest)
        if frame:
            text = self._choose(frame).replace("\0", text)
        for slot in re.findall(r"\{(\w+)\}", text):
            text = text.replace("{" + slot + "}", self.random.choice(self.lists[slot]), 1)
        return " ".join(text.split())

    def _choose(self, text: str) -> str:
        while match := re.search(r"\(([^()]*\|[^()]*)\)", text):
            text = text[: match.start()] + self.random.choice(match.group(1).split("|")) + text[match.end() :]
        return text

    def roughen(self, text: str, topic: Topic) -> str:
        """Say it as people type it: fillers, other words, British spelling, typos, any case, any punctuation."""
        r, words_of = self.random, self.words
        found = {
            word: rf"(?<![\w/:.-]){word}\b(?![-:])" for word in words_of["swaps"]
        }  # not in a flag, command or role
        known = [word for word, pattern in found.items() if re.search(pattern, text)]
        for word in r.sample(known, min(len(known), r.choice([0, 0, 0, 1, 1, 2]))):
            text = re.sub(found[word], r.choice(words_of["swaps"][word]), text, count=1)
        if r.random() < 0.2:
            for american, british in words_of["british"].items():
                text = text.replace(american, british)
        if r.random() < 0.2:
            text = r.choice(words_of["before"]) + text
        if r.random() < 0.15:
            text += r.choice(words_of["after"] if topic is not self.off_topic else words_of["after"][:4])
        if r.random() < 0.12:
            text += r.choice(words_of["tail"])
        if r.random() < 0.08:
            text = r.choice(words_of["lead"]) + text
        words = text.split()
        if len(words) > 3 and r.random() < 0.08:  # as one types into a search field
            words = [word for word in words if word.lower() not in words_of["filling"]] or words
        elif len(words) > 3 and r.random() < 0.3:
            words = [word for word in words if r.random() > 0.12] or words
        if r.random() < 0.18:
            i = r.randrange(len(words))
            words[i] = self._typo(words[i])
        if r.random() < (0.35 if topic is self.off_topic else 0.1):  # a word never seen, as most are
            i = r.randrange(len(words))
            words[i] = self._unheard()
        return self._punctuate(" ".join(words))

    def _punctuate(self, text: str) -> str:
        r = self.random
        text = text[:1].upper() + text[1:] if r.random() < 0.45 else text
        text = text.lower() if r.random() < 0.35 else text
        text = text.replace("'", "") if r.random() < 0.3 else text
        return text if text[-1:] in "?!." else text + r.choice(["", "", "", "?", "?", "?", ".", "!"])

    def _unheard(self) -> str:
        r = self.random
        count = r.choice([1, 2, 2, 3])
        return "".join(r.choice(ONSETS) + r.choice("aeiouy") + r.choice(CODAS) for _ in range(count))

    def _typo(self, word: str) -> str:
        if len(word) < 4 or not word.isalpha():
            return word
        i = self.random.randrange(len(word) - 1)
        kind = self.random.randrange(3)
        if kind == 0:
            return word[:i] + word[i + 1 :]
        if kind == 1:
            return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        return word[:i] + word[i] + word[i:]
