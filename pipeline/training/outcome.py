"""What a training run did, in words."""

from dataclasses import dataclass, field
from pathlib import Path

from models.checkpoint import Training
from pipeline.report import counted, in_words, some

MOST_SETBACKS = 3  # in a row, then the run ends


@dataclass
class TrainReport:
    """What a training run did."""

    folder: Path
    ended_by: str = ""
    epoch: int = 0
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    people: dict[str, Training] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    setbacks: list[str] = field(default_factory=list)
    verdict: list[str] = field(default_factory=list)
    undone: int = 0
    is_first: bool = True
    has_diverged: bool = False

    def lines(self) -> list[str]:
        """What was trained, and where it is; of several processes only the first says so."""
        if not self.is_first:
            return []
        rate = self.samples / self.seconds if self.seconds else 0
        lines = [
            f"trained {counted(self.steps, 'step')}, {counted(self.samples, 'sample')} in {in_words(self.seconds)} "
            f"({rate:.1f} samples/s); ended by {self.ended_by}"
        ]
        if self.undone:
            lines.append(f"{self.undone} of these steps were undone:")
        lines += [f"  set back: {setback}" for setback in self.setbacks]
        for person, training in sorted(self.people.items()):
            state = "not trained here yet" if training.samples else "not trained yet"  # the first: imported
            if training.loss is not None:
                state = f"smoothed L1 {training.loss:.4f} after {training.samples} samples"
            lines.append(f"  {person}: {state}")
        lines += self.verdict
        return [*lines, f"model and previews: {self.folder}"]

    def problems(self) -> list[str]:
        """Pictures that were left out, and that training diverged again and again."""
        problems = []
        if self.unreadable and self.is_first:
            pictures = counted(len(self.unreadable), "unreadable picture")
            rest = "the model was trained on the others; delete or replace these"
            problems.append(f"left out {pictures}: {some(self.unreadable)}; {rest}")
        if self.has_diverged:
            problems.append(
                f"training was set back {MOST_SETBACKS} times in a row and ended; what was saved before is as it was: "
                "go on with a lower --lr (3e-4 and 5e-5 are usual)"
            )
        return problems
