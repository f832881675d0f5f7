"""The best finished sentences of one image in a beam search."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A finished sentence: ids with [CLS], without the end; `score` is a mean log-probability."""

    score: float
    ids: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Hypotheses:
    """At most `capacity` sentences.

    Attributes:
        length_penalty: Exponent of the length that a sum of log-probabilities is divided by.
        keeps_repeats: Let one sentence stand several times (compat C9).
        worst: Score that a new sentence has to beat once the list is full.

    Source: `oscar/modeling/modeling_utils.py:BeamHypotheses`; `specs/tasks.md` 3.5.
    """

    capacity: int
    length_penalty: float
    keeps_repeats: bool = False
    worst: float = 1e9
    found: list[Hypothesis] = field(default_factory=list)

    def add(self, ids: tuple[int, ...], sum_log_probabilities: float) -> None:
        """Offer a sentence; `ids` with [CLS] are as many as the words generated with the end."""
        new = Hypothesis(sum_log_probabilities / len(ids) ** self.length_penalty, ids)
        if not self.keeps_repeats:
            for place, old in enumerate(self.found):
                if old.ids == new.ids:
                    if new.score > old.score:
                        self.found[place] = new
                        self.worst = min(each.score for each in self.found)
                    return
        if len(self.found) >= self.capacity and new.score <= self.worst:
            return
        self.found.append(new)
        if len(self.found) > self.capacity:
            scores = sorted((each.score, place) for place, each in enumerate(self.found))
            del self.found[scores[0][1]]
            self.worst = scores[1][0]
        else:
            self.worst = min(self.worst, new.score)

    def is_done(self, best_sum: float, longest: int) -> bool:
        """Whether no beam can beat the worst kept sentence, were it `longest` words long."""
        is_full = len(self.found) >= self.capacity
        return is_full and self.worst >= best_sum / longest**self.length_penalty

    def best(self) -> list[Hypothesis]:
        """The sentences by falling score; of equal ones the earlier found first."""
        return sorted(self.found, key=lambda each: -each.score)
