"""Score a guide model on the held-out questions, greedy: used by the build and by the tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from guide.expand import read_corpus, read_heldout


@dataclass(frozen=True)
class Requirement:
    right_percent: float
    declined_percent: float
    int4_loss_points: float


REQUIRED = Requirement(right_percent=82.0, declined_percent=90.0, int4_loss_points=2.0)


@dataclass
class Score:
    """`right`: the topic's own answer, exactly, to a question about lmsupply; `declined`: off-topic ones."""

    asked: int = 0
    right: int = 0
    off_topic: int = 0
    declined: int = 0
    wrong: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def right_percent(self) -> float:
        return 100 * self.right / self.asked

    @property
    def declined_percent(self) -> float:
        return 100 * self.declined / self.off_topic

    def kept(self, required: Requirement) -> bool:
        return self.right_percent >= required.right_percent and self.declined_percent >= required.declined_percent

    def __str__(self) -> str:
        return (
            f"{self.right} of {self.asked} right ({self.right_percent:.1f} %), "
            f"{self.declined} of {self.off_topic} off-topic declined ({self.declined_percent:.1f} %)"
        )

    def report(self) -> str:
        wrong = [f"  {topic}: {question}\n      {answer}" for question, topic, answer in self.wrong]
        return "\n".join([str(self), *wrong])


def score_folder(folder: Path) -> Score:
    from lmsupply_cli import load

    answers = {topic.name: topic.answer for topic in read_corpus()[0]}
    score = Score()
    with load(folder) as model:
        for question, topic in read_heldout():
            answer = model.generate_chat([{"role": "user", "content": question}], temperature=0).text
            good = answer == answers[topic]
            if topic == "off_topic":
                score.off_topic += 1
                score.declined += good
            else:
                score.asked += 1
                score.right += good
            if not good:
                score.wrong.append((question, topic, answer))
    return score
