"""Tiny translation models with their tokenizers, written as `save_pretrained` writes them."""

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

SPECIAL = ("</s>", "<unk>")
WORDS = {
    "a": "一",
    "red": "红",
    "car": "汽车",
    "dog": "狗",
    "runs": "跑",
    "what": "什么",
    "sleeps": "睡",
    "man": "男人",
    "bus": "公交车",
    "color": "颜色",
}
"""A toy language: word by word, in the same order."""
SENTENCES = (
    *WORDS,
    "a red car",
    "a dog runs",
    "a man sleeps",
    "a red bus",
    "what runs",
    "what color a car",
    "a red dog sleeps",
    "what color a bus",
)
"""What a taught model knows by heart."""


def write_pieces(path: Path, words: Sequence[str]) -> None:
    """A SentencePiece model whose pieces are whole words."""
    import sentencepiece

    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words)] * 20 + list(words) * 5),
        model_writer=stream,
        model_type="word",
        vocab_size=len(words) + 3,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    path.write_bytes(stream.getvalue())


def write_marian(
    folder: Path,
    *,
    words: Mapping[str, str] = WORDS,
    codes: Sequence[str] = (),
    seed: int = 0,
    steps: int = 0,
) -> Path:
    """A MarianMT of two small layers; `steps` of training teach it `SENTENCES`."""
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder.mkdir(parents=True)
    write_pieces(folder / "source.spm", list(words))
    write_pieces(folder / "target.spm", list(words.values()))
    pieces = [f"\u2581{word}" for word in (*words, *words.values())]
    tokens = [*SPECIAL, *codes, *pieces, "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({each: at for at, each in enumerate(tokens)}))
    torch.manual_seed(seed)
    config = MarianConfig(
        vocab_size=len(tokens),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        pad_token_id=len(tokens) - 1,
        eos_token_id=0,
        decoder_start_token_id=len(tokens) - 1,
        forced_eos_token_id=0,
        dropout=0.0,
        init_std=0.3,  # positions are as large as 1; words must be seen beside them
        scale_embedding=True,
    )
    model = MarianMTModel(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sacremoses is recommended and not needed
        tokenizer = MarianTokenizer(
            source_spm=str(folder / "source.spm"),
            target_spm=str(folder / "target.spm"),
            vocab=str(folder / "vocab.json"),
        )
    if steps:
        _teach(model, tokenizer, words, steps)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_two_sided(folder: Path, kind: str) -> Path:
    """A random model of one of the kinds that name both languages by tokens: nllb, mbart, m2m."""
    from transformers import (
        M2M100Config,
        M2M100ForConditionalGeneration,
        MBartConfig,
        MBartForConditionalGeneration,
    )

    folder.mkdir(parents=True)
    tokenizer = _two_sided_tokenizer(folder, kind)
    sizes = {
        "vocab_size": 400,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "max_position_embeddings": 40,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
    }
    torch.manual_seed(0)
    model: torch.nn.Module
    if kind == "mbart":
        model = MBartForConditionalGeneration(MBartConfig(**sizes))
    else:
        model = M2M100ForConditionalGeneration(M2M100Config(**sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _two_sided_tokenizer(folder: Path, kind: str):
    from transformers import M2M100Tokenizer, MBartTokenizer, NllbTokenizer

    letters = ["\u2581", *"abcdefghijklmnopqrstuvwxyz"]
    if kind == "nllb":
        return NllbTokenizer(
            vocab={each: at for at, each in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters])},
            additional_special_tokens=["eng_Latn", "zho_Hans", "deu_Latn"],
        )
    if kind == "mbart":
        names = ["<s>", "<pad>", "</s>", "<unk>", *letters]
        codes = ["en_XX", "zh_CN", "de_DE", "<mask>"]
        return MBartTokenizer(vocab=[(each, -1.0) for each in (*names, *codes)])
    write_pieces(folder / "pieces.model", list(WORDS))
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"\u2581{each}" for each in WORDS)]
    (folder / "words.json").write_text(json.dumps({each: at for at, each in enumerate(words)}))
    return M2M100Tokenizer(str(folder / "words.json"), str(folder / "pieces.model"))


def _teach(model: torch.nn.Module, tokenizer, words: Mapping[str, str], steps: int) -> None:
    optimiser = torch.optim.Adam(model.parameters())
    targets = [" ".join(words[each] for each in sentence.split()) for sentence in SENTENCES]
    encoded = tokenizer(list(SENTENCES), text_target=targets, return_tensors="pt", padding=True)
    labels = encoded["labels"]
    encoded["labels"] = labels.masked_fill(labels == tokenizer.pad_token_id, -100)
    model.train()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        loss = model(**encoded).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
