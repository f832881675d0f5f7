"""A model in transformers' own layout: `model.safetensors`, `config.json`, and our `vocab.txt`."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from oscar_core.encoder import OscarPreTrained
from oscar_core.errors import ModelConfigError, WeightsError
from oscar_core.hub_config import MODEL_TYPE, OscarHubConfig
from oscar_core.published.checkpoints import MODELS
from oscar_core.tokens import Tokenizer, read_vocabulary, write_vocabulary

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.txt"


def is_hub_folder(folder: Path) -> bool:
    """Whether transformers' `save_pretrained` of one of our models wrote it."""
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("model_type") == MODEL_TYPE


def write_hub_folder(folder: Path, model: OscarPreTrained, tokenizer: Tokenizer) -> None:
    """Write what `from_pretrained` reads, and the vocabulary.

    Raises:
        OSError: A file cannot be written.
    """
    model.save_pretrained(folder)
    write_vocabulary(folder / VOCABULARY, tokenizer.vocabulary)


def read_hub_folder(folder: Path, *, lower_case: bool = True) -> tuple[OscarPreTrained, Tokenizer]:
    """Read a folder of transformers' layout, strictly: every tensor is there, none is left over.

    Returns:
        The model in evaluation mode, of the class that was saved.

    Raises:
        WeightsError: A tensor is missing, left over or of another shape, or the file is damaged.
        ModelConfigError: config.json is of no model of ours.
        VocabularyError: There is no vocabulary, or a damaged one.
    """
    config = OscarHubConfig.from_pretrained(folder, local_files_only=True)
    classes = {each.__name__: each for each in MODELS.values()}
    name = next(iter(config.architectures or []), "")
    if name not in classes:
        raise ModelConfigError(f"{folder / CONFIG}: architectures {name!r} is no model of ours")
    tokenizer = read_vocabulary(folder / VOCABULARY, lower_case=lower_case)
    with torch.random.fork_rng(devices=[]):
        model = classes[name](config)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{folder / WEIGHTS}: does not fit its config.json ({reason})"
        ) from error
    model.train(mode=False)
    return model, tokenizer
