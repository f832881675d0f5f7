"""What has changed in published checkpoints over the years, one named change each.

A migration works on tensors by their published names. Those of `MIGRATIONS` are applied where
they are needed, and named; `widened_contrast` is applied where it is asked for.

Letters: H hidden width, V vocabulary size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oscar_core.errors import WeightsError

State = Mapping[str, Tensor]

_PARALLEL = "module."
_ENCODER = "bert."
_HEADS = ("cls.", "classifier", "transform.", "decoder.")
_OLD_CAPTION_HEAD = {
    "transform.dense.weight": "cls.predictions.transform.dense.weight",
    "transform.dense.bias": "cls.predictions.transform.dense.bias",
    "transform.LayerNorm.weight": "cls.predictions.transform.LayerNorm.weight",
    "transform.LayerNorm.bias": "cls.predictions.transform.LayerNorm.bias",
    "decoder.weight": "cls.predictions.decoder.weight",
}
_WORD_BIAS, _DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"
CONTRAST_WEIGHT, CONTRAST_BIAS = "cls.seq_relationship.weight", "cls.seq_relationship.bias"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One change.

    name:    what it is called where it is told
    what:    what it does, for people
    is_due:  whether a checkpoint needs it
    apply:   the checkpoint after it
    """

    name: str
    what: str
    is_due: Callable[[State], bool]
    apply: Callable[[State], dict[str, Tensor]]

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def without_parallel_prefix(state: State) -> dict[str, Tensor]:
    """`module.bert...` -> `bert...`, as a model saved inside its parallel wrapper has it."""
    return _renamed(state, lambda name: name.removeprefix(_PARALLEL))


def with_layer_norm_words(state: State) -> dict[str, Tensor]:
    """`gamma` -> `weight`, `beta` -> `bias` anywhere in a name, as of old TensorFlow conversions.

    Source: `pt/modeling_utils.py:PreTrainedModel.from_pretrained`.
    """
    return _renamed(state, lambda name: name.replace("gamma", "weight").replace("beta", "bias"))


def with_encoder_prefix(state: State) -> dict[str, Tensor]:
    """`embeddings...` -> `bert.embeddings...`, as of a file of the encoder alone."""
    return _renamed(state, lambda name: name if name.startswith(_HEADS) else _ENCODER + name)


def with_word_head(state: State) -> dict[str, Tensor]:
    """`transform.*`, `decoder.weight` -> `cls.predictions.*`; the head had no bias then: zeros.

    Source: `oscar/modeling/modeling_bert.py:BertForImageCaptioning` before VinVL (2020).
    """
    renamed = _renamed(state, lambda name: _OLD_CAPTION_HEAD.get(name, name))
    rows = renamed["cls.predictions.decoder.weight"]
    renamed.setdefault(_WORD_BIAS, rows.new_zeros(len(rows)))
    return renamed


def with_bias_of_decoder(state: State) -> dict[str, Tensor]:
    """`cls.predictions.decoder.bias` -> `cls.predictions.bias`: later libraries share the two.

    Source: transformers, `BertLMPredictionHead`; safetensors keeps one of shared tensors.
    """
    return _renamed(state, lambda name: _WORD_BIAS if name == _DECODER_BIAS else name)


def _renamed(state: State, rename: Callable[[str], str]) -> dict[str, Tensor]:
    """The tensors under other names.

    Raises:
        WeightsError: Two would have one name, and either could be the right one.
    """
    before: dict[str, str] = {}
    for name in state:
        other = before.setdefault(rename(name), name)
        if other != name:
            raise WeightsError(
                f"tensors {other!r} and {name!r} are both {rename(name)!r}; which of them is it? "
                "want a file with one of them"
            )
    return {now: state[name] for now, name in before.items()}


def _has_bias_of_decoder(state: State) -> bool:
    return _DECODER_BIAS in state and _WORD_BIAS not in state


def _has_parallel_prefix(state: State) -> bool:
    return bool(state) and all(name.startswith(_PARALLEL) for name in state)


def _has_tensorflow_words(state: State) -> bool:
    return any(name.endswith((".gamma", ".beta")) for name in state)


def _is_bare_encoder(state: State) -> bool:
    return "embeddings.word_embeddings.weight" in state


def _has_old_caption_head(state: State) -> bool:
    return "decoder.weight" in state and any(n.startswith("transform.dense.") for n in state)


MIGRATIONS = (
    Migration(
        name="parallel_prefix",
        what="took module. from the front of every name",
        is_due=_has_parallel_prefix,
        apply=without_parallel_prefix,
    ),
    Migration(
        name="gamma_beta",
        what="LayerNorm gamma and beta are its weight and bias",
        is_due=_has_tensorflow_words,
        apply=with_layer_norm_words,
    ),
    Migration(
        name="encoder_alone",
        what="put bert. before the names of a file of the encoder alone",
        is_due=_is_bare_encoder,
        apply=with_encoder_prefix,
    ),
    Migration(
        name="old_caption_head",
        what="transform.* and decoder.weight are the word head cls.predictions.*; its bias, which "
        "did not exist then, is 0",
        is_due=_has_old_caption_head,
        apply=with_word_head,
    ),
    Migration(
        name="decoder_bias",
        what="cls.predictions.decoder.bias is cls.predictions.bias, which is not there",
        is_due=_has_bias_of_decoder,
        apply=with_bias_of_decoder,
    ),
)


def migrated(state: State) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Bring a checkpoint to today's published names.

    Returns:
        The tensors, and what was done, a line each.

    Raises:
        WeightsError: A change would give two tensors one name, or the two biases of the word head
            differ.
    """
    now, done = dict(state), []
    for migration in MIGRATIONS:
        if migration.is_due(now):
            now = migration.apply(now)
            done.append(str(migration))
    if _DECODER_BIAS in now and not torch.equal(now[_DECODER_BIAS], now[_WORD_BIAS]):
        raise WeightsError(
            f"tensors {_DECODER_BIAS!r} and {_WORD_BIAS!r} differ, the model has one bias; "
            "take the wrong one out of the file"
        )
    return now, tuple(done)


def widened_contrast(
    state: State, initializer_range: float, generator: torch.Generator
) -> tuple[dict[str, Tensor], str]:
    """Make a two-way contrast head a three-way one.

    Row 0 (text and image belong together) and row 1 (vanilla Oscar: they do not; three-way: the
    second text is another's) are kept; row 2 (the first text is another's) is new: weights from
    N(0, range), bias 0.

    Returns:
        The tensors, and what was done.

    Raises:
        WeightsError: There is no two-way head.
    """
    weight, bias = state.get(CONTRAST_WEIGHT), state.get(CONTRAST_BIAS)
    if weight is None or bias is None or len(weight) != 2:
        found = "none" if weight is None else f"one of {len(weight)} classes"
        raise WeightsError(
            f"tensor {CONTRAST_WEIGHT!r}: a two-way head was to be widened, found {found}"
        )
    row = torch.empty_like(weight[:1]).normal_(std=initializer_range, generator=generator)
    widened = {
        CONTRAST_WEIGHT: torch.cat([weight, row]),
        CONTRAST_BIAS: torch.cat([bias, bias.new_zeros(1)]),
    }
    what = (
        "contrast_2_to_3: rows 0 (matched) and 1 (wrong second text) of the two-way head are kept, "
        f"row 2 (wrong first text) is new, from N(0, {initializer_range}), bias 0"
    )
    return {**state, **widened}, what
