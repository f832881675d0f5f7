"""What can go wrong in this room; each error is one line: what, where, how to mend."""


class OscarCoreError(Exception):
    """Base of all errors of this room."""


class ModelConfigError(OscarCoreError):
    """A model's settings contradict one another."""


class VocabularyError(OscarCoreError):
    """A vocabulary file cannot be read, or lacks one of the five special tokens."""


class PackingError(OscarCoreError):
    """Text or regions cannot be laid out as asked (empty batch, feature width, lengths)."""


class WeightsError(OscarCoreError):
    """Stored weights do not fit the model: a tensor is missing, left over or of another shape."""


class GenerationError(OscarCoreError):
    """Sentences cannot be generated with these settings."""


class SentenceTranslationError(OscarCoreError):
    """A folder holds no translation model, or one that does not know the languages asked for."""


class TaskError(OscarCoreError):
    """A task is unknown, has no examples, or its settings contradict one another."""


class TrainingError(OscarCoreError):
    """A training cannot go on: the loss is not finite, or a checkpoint does not fit."""


class TrainingStoppedError(OscarCoreError):
    """A training was asked to stop; its checkpoint holds all it learned."""
