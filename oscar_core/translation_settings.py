"""What a translation of sentences can be told; nothing heavy is imported here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """From which language into which.

    source, target:           "en", "zh", or anything if the codes are given
    source_code, target_code: the model's own names of them; "" looks for the usual ones
    prefix:                   words that the model wants before every sentence
    """

    source: str = "en"
    target: str = "zh"
    source_code: str = ""
    target_code: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How sentences are searched for.

    num_beams:      1 takes the likeliest token each time
    max_new_tokens: a translation that is longer counts as unfinished; one of more than twice the
                    tokens of the longest sentence of its batch and 16 does, too
    """

    num_beams: int = 4
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        """Leave something to be said."""
        if self.num_beams < 1 or self.max_new_tokens < 1:
            raise ValueError("num_beams and max_new_tokens must be 1 or more")
