"""The places where the original scorers are wrong and ours are right; False is ours."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCompat:
    """One switch per behaviour of the originals that is not kept.

    pipes_split_references: pycocoevalcap (meteor.py:_stat) removes `|||` from the candidate only;
        a reference with `|||` in it reaches METEOR as several references. Ours removes it from
        both.
    equal_answers_vanish: VQA (vqaEval.py:evaluate) leaves one human answer out by comparing whole
        answer objects; without unique `answer_id`s all equal answers are left out together, so ten
        agreeing people score 0. Ours leaves out exactly one.
    """

    pipes_split_references: bool = False
    equal_answers_vanish: bool = False


OURS = MetricCompat()
"""Nothing of the originals' faults."""
