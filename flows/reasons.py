"""Why a step must run again: what of its identity changed, field by field.

An identity is what a fingerprint is made of (`flows.identity`): stage, version, config, inputs
(name -> fingerprint of an earlier step's output) and outside (key -> content digest).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flows.digests import Listing, changed_files, counted

Identity = Mapping[str, Any]
SHOWN_NAMES = 3
SHOWN_CHARACTERS = 40


def reasons(
    old: Identity,
    new: Identity,
    sources: Mapping[str, str],
    listing: Callable[[str], Listing | None],
) -> list[str]:
    """Every difference of two identities of one step, in words.

    Args:
        old: of what was made before.
        new: of what would be made, as JSON would give it back.
        sources: input name -> earlier step that it is taken from.
        listing: what a folder of some digest held, where that is known.
    """
    return [
        *_stage(old, new),
        *_config(old.get("config"), new.get("config"), "config"),
        *_outside(_mapping(old, "outside"), _mapping(new, "outside"), listing),
        *_inputs(_mapping(old, "inputs"), _mapping(new, "inputs"), sources),
    ]


def _stage(old: Identity, new: Identity) -> Iterator[str]:
    for name, said in (("stage", "stage"), ("version", "stage version")):
        if old.get(name) != new.get(name):
            yield f"{said} {_short(old.get(name))} -> {_short(new.get(name))}"


def _config(old: object, new: object, key: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _config(old.get(name), new.get(name), f"{key}.{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (before, now) in enumerate(zip(old, new, strict=True)):
            yield from _config(before, now, f"{key}.{at}")
    elif old != new:
        yield f"{key} {_short(old)} -> {_short(new)}"


def _outside(
    old: Mapping[str, str], new: Mapping[str, str], listing: Callable[[str], Listing | None]
) -> Iterator[str]:
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if before is None:
            yield f"{key}: new, from outside"
        elif now is None:
            yield f"{key}: no longer taken"
        else:
            yield f"{key}: {_became(listing(before), listing(now))}"


def _became(old: Listing | None, new: Listing | None) -> str:
    files = changed_files(
        None if old is None else old.digests, None if new is None else new.digests
    )
    if files is None:
        return "other contents"
    said = [
        f"{counted(len(names), 'file')} {what} ({_some(names)})"
        for what, names in files.items()
        if names
    ]
    return ", ".join(said) or "other contents"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    return f"{shown}, ..." if len(names) > SHOWN_NAMES else shown


def _inputs(
    old: Mapping[str, str], new: Mapping[str, str], sources: Mapping[str, str]
) -> Iterator[str]:
    """Steps that change before it, once each; inputs that came or went by their names."""
    changing: list[str] = []
    for name, mark in new.items():
        if name in old and old[name] != mark and sources[name] not in changing:
            changing.append(sources[name])
    if changing:
        yield f"made anew before it: {', '.join(changing)}"
    came = [f"{name} from {sources[name]}" for name in new if name not in old]
    if came:
        yield f"takes more: {', '.join(came)}"
    gone = [name for name in old if name not in new]
    if gone:
        yield f"takes no longer: {', '.join(gone)}"


def _mapping(identity: Identity, key: str) -> Mapping[str, str]:
    value = identity.get(key)
    return value if isinstance(value, dict) else {}


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
