"""What can go wrong with words; each error is one line: what, where, how to mend."""


class TranslationError(Exception):
    """Base of all errors of this room."""


class DictionaryError(TranslationError):
    """A dictionary or lexicon file cannot be read, or holds entries that are none."""


class LabelFileError(TranslationError):
    """A file of labels cannot be read as text."""


class UntranslatedError(TranslationError):
    """The policy is to fail, and a word has no translation.

    Attributes:
        missing: the words, each once, in the order they were met.
    """

    def __init__(self, missing: tuple[str, ...]) -> None:
        shown = ", ".join(repr(word) for word in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        super().__init__(
            f"no translation for {shown}{more}; add them to a dictionary, or choose the policy "
            "'keep' or 'drop'"
        )
        self.missing = missing
