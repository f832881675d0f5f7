"""Our models -> a folder in the published layout, as the original's `save_pretrained` leaves it."""

import json
from collections import OrderedDict
from pathlib import Path

import torch

from oscar_core.encoder import OscarEncoder, OscarPreTrained
from oscar_core.published.bert_names import to_published
from oscar_core.published.checkpoints import CONFIG, MODELS
from oscar_core.published.config_json import Kind, published_config
from oscar_core.published.vocabulary import ADDED, VOCABULARY
from oscar_core.published.weights_file import PICKLED
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer, write_vocabulary
from storage.artifacts import atomic_path, atomic_write_text

SPECIAL = "special_tokens_map.json"
_SPECIAL_WORDS = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


def write_published(folder: Path, model: OscarPreTrained, tokenizer: Tokenizer) -> Kind:
    """Write `pytorch_model.bin`, `config.json`, `vocab.txt` and the two files of special tokens.

    Every file appears whole; names, order and copies of tensors are the original's.

    Returns:
        What kind of model was written.

    Raises:
        WeightsError: A tensor has no published name.
        OSError: A file cannot be written.

    Source: specs/oscar.md 3.1-3.3.
    """
    kind = next(kind for kind, model_class in MODELS.items() if type(model) is model_class)
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    if isinstance(model, OscarEncoder):
        state = {f"encoder.{name}": value for name, value in state.items()}
    published = OrderedDict(
        (name, value.contiguous()) for name, value in to_published(state).items()
    )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / PICKLED) as partial:
        torch.save(published, partial)
    write_vocabulary(folder / VOCABULARY, tokenizer.vocabulary)
    special = dict(sorted(zip(_SPECIAL_WORDS, SPECIAL_TOKENS, strict=True)))
    atomic_write_text(folder / SPECIAL, _json(special))
    atomic_write_text(folder / ADDED, _json({}))
    config = published_config(model.config, kind)
    atomic_write_text(folder / CONFIG, _json(config, indent=2) + "\n")
    return kind


def _json(value: object, indent: int | None = None) -> str:

    return json.dumps(value, ensure_ascii=False, indent=indent)
