"""What can go wrong in the detector; each error is one line: what, where, how to mend."""


class DetectorError(Exception):
    """Base of all errors of this room."""


class DetectorConfigError(DetectorError):
    """Settings that contradict each other or cannot be built."""


class CheckpointError(DetectorError):
    """Weights that do not fit the configured model, or a detector folder that is not whole."""


class DamagedCheckpointError(DetectorError):
    """A checkpoint of an interrupted training is cut or spoiled."""


class NotFiniteError(DetectorError):
    """The network computes infinity, or what is no number."""


class DetectorStoppedError(DetectorError):
    """A training was asked to stop; its checkpoint holds all it learned."""
