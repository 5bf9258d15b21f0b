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

HERE = Path(__file__).parent
Message = dict[str, str]

ACTION = """how do I {}|how do I {}|how do i {}|how can I {}|how to {}|how to {}|how could I {}|{}|{}|{}|I want to {}
I need to {}|i would like to {}|I'd like to {}|can I {}|could I {}|is it possible to {}|is there a way to {}|let me {}
what is the command to {}|which command do I use to {}|command to {}|what do I type to {}|what's the way to {}|ways to {}
help me {}|tell me how to {}|show me how to {}|explain how to {}|I have to {}|what should I do to {}|how would I {}
how does one {}|i try to {}|trying to {}|the command that lets me {}|what is the easiest way to {}|where can I {}
what option do I need to {}|which flag do I need to {}|do you know how to {}|any way to {}|what do i have to do to {}|option to {}"""
NOUN = """what is {}|what is {}|what are {}|what's {}|{}|{}|{}|explain {}|tell me about {}|how does {} work|how do I use {}
what does {} do|what does {} mean|describe {}|I have a question about {}|info on {}|more about {}|what about {}|how about {}
can you explain {}|help with {}|I don't understand {}|define {}|meaning of {}|tell me more about {}|something about {}"""
BEFORE = [
    "please ",
    "hi, ",
    "hey, ",
    "hello, ",
    "quick question: ",
    "so ",
    "ok, ",
    "and ",
    "sorry, ",
    "excuse me, ",
    "well, ",
]
AFTER = [
    " please",
    " pls",
    ", please",
    " thanks",
    " in lmsupply",
    " with lmsupply",
    " with this tool",
    " here",
    " now",
    " ?",
    " then",
]
LEAD = [
    "I have a question. ",
    "One more thing: ",
    "I need some help. ",
    "Hi there! ",
    "Maybe a silly question, but ",
    "I wonder: ",
]
LEAD += [
    "My problem: ",
    "For my project, ",
    "I am not sure about this: ",
    "I read the readme but ",
    "Tell me, ",
    "Do you know, ",
]
TAIL = [
    ", how do I do that",
    ", how does that work",
    ", any idea",
    ", please help",
    ", is that possible",
    ", what do I need",
]
TAIL += [
    ", what should I do",
    ", can I do that",
    ". How",
    ", what is the command",
    " or not",
    ", what can I do about it",
    ", tell me",
]
TAIL += [
    " on my machine",
    " as well",
    " somehow",
    " quickly",
    " again",
    " from now on",
    ", which option is it",
    " if possible",
]
FILLING = set(
    [
        "a",
        "an",
        "the",
        "to",
        "is",
        "are",
        "can",
        "could",
        "do",
        "does",
        "did",
        "i",
        "we",
        "my",
        "me",
        "it",
        "this",
        "that",
        "for",
        "of",
        "in",
        "on",
        "with",
        "please",
        "you",
        "be",
    ]
)
SYSTEM = [
    "You are a helpful assistant.",
    "You are a terse assistant.",
    "Answer briefly.",
    "Be polite.",
    "You are an expert.",
]
SWAPS = {
    "want": ["wish", "would like", "intend"], "show": ["display", "give"], "see": ["view", "look at"], "use": ["work with"],
    "change": ["modify", "alter"], "stop": ["halt"], "big": ["large"], "fast": ["quick"], "program": ["tool", "app"],
    "answer": ["reply", "response"], "answers": ["replies", "responses"], "command": ["cmd"], "I": ["we", "one"],
    "model": ["llm", "language model"], "machine": ["computer", "pc"], "get": ["obtain"], "text": ["string"],
    "machine-readable": ["machine readable"], "my": ["the"], "folder": ["directory"], "what is": ["what's", "whats"],
    "do not": ["don't", "dont"], "does not": ["doesn't", "doesnt"], "lmsupply": ["this tool", "it"], "remove": ["delete"],
}  # fmt: skip


@dataclass(frozen=True)
class Topic:
    name: str
    answer: str
    phrases: tuple[str, ...]


def read_corpus(path: Path = HERE / "corpus.toml") -> tuple[list[Topic], dict[str, list[str]]]:
    """The topics, and the lists that fill `{name}` slots."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    actions, nouns = (re.split(r"[|\n]", forms) for forms in (ACTION, NOUN))
    topics = []
    for name, row in data.items():
        framed = [(actions, p) for p in row.get("actions", [])] + [(nouns, p) for p in row.get("nouns", [])]
        phrases = ["(" + "|".join(frames).replace("{}", "\0") + ")\1" + phrase for frames, phrase in framed]
        topics.append(Topic(name, row["answer"], tuple(phrases + row["questions"])))
    return topics, data["off_topic"]["lists"]


def read_heldout(path: Path = HERE / "heldout.toml") -> list[tuple[str, str]]:
    """(question, topic) pairs that the model is scored on and never trained on."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return [(q, topic) for topic, questions in data["questions"].items() for q in questions]


def normalized(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9 ]", " ", text.lower()).split())


class Sampler:
    """Draws conversations; the same seed draws the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.topics, self.lists = read_corpus()
        self.off_topic = next(t for t in self.topics if t.name == "off_topic")
        self.held_out = {normalized(q) for q, _ in read_heldout()}

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

    def roughen(self, text: str, *, after: list[str]) -> str:
        """Say it as people type it: fillers, other words, typos, any case, any punctuation."""
        r = self.random
        if r.random() < 0.35:
            for word in r.sample(list(SWAPS), 8):
                if re.search(rf"\b{word}\b", text):
                    text = re.sub(rf"\b{word}\b", r.choice(SWAPS[word]), text, count=1)
                    break
        if r.random() < 0.2:
            text = r.choice(BEFORE) + text
        if r.random() < 0.15:
            text += r.choice(after)
        if r.random() < 0.12:
            text += r.choice(TAIL)
        if r.random() < 0.08:
            text = r.choice(LEAD) + text
        words = text.split()
        if len(words) > 3 and r.random() < 0.08:  # as one types into a search field
            words = [word for word in words if word.lower() not in FILLING] or words
        elif len(words) > 3 and r.random() < 0.3:
            words = [word for word in words if r.random() > 0.12] or words
        if r.random() < 0.18:
            i = r.randrange(len(words))
            words[i] = self._typo(words[i])
        text = " ".join(words)
        text = text[:1].upper() + text[1:] if r.random() < 0.45 else text
        text = text.lower() if r.random() < 0.35 else text
        text = text.replace("'", "") if r.random() < 0.3 else text
        if text[-1:] not in "?!.":
            text += r.choice(["", "", "", "?", "?", "?", ".", "!"])
        return text

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

    def question(self, topic: Topic) -> str:
        while True:
            text = self.expand(self.random.choice(topic.phrases))
            if topic is not self.off_topic and self.random.random() < 0.12:
                text += self.random.choice([", ", ". ", "? ", " and ", "; ", ", so "]) + self.expand(
                    self.random.choice(topic.phrases)
                )
            rough = self.roughen(text, after=AFTER if topic is not self.off_topic else AFTER[:4])
            if not {normalized(text), normalized(rough)} & self.held_out:
                return rough

    def conversation(self, turns: int) -> list[Message]:
        r = self.random
        messages = [{"role": "system", "content": r.choice(SYSTEM)}] if r.random() < 0.12 else []
        for _ in range(turns):
            topic = self.off_topic if r.random() < 0.16 else r.choice(self.topics)
            messages.append({"role": "user", "content": self.question(topic)})
            messages.append({"role": "assistant", "content": topic.answer})
        return messages
