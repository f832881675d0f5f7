"""Where the real detectron2 is found: installed, or as a source tree on the path.

OSCAR_DETECTRON2 names folders, separated as in PATH: the source tree of detectron2, and a folder
with the packages it imports (fvcore, iopath, yacs, omegaconf and so on) if these are elsewhere.
"""

import importlib.util
import os
import sys
import warnings

import pytest


def need_detectron2() -> None:
    """Skip the test where there is no detectron2; its own warnings are no concern of ours."""
    folders = os.environ.get("OSCAR_DETECTRON2", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in folders if folder and folder not in sys.path]
    if importlib.util.find_spec("detectron2") is None:
        pytest.skip(
            "no detectron2: install the extra, or set OSCAR_DETECTRON2 to its source tree (and to "
            "the folder of the packages it needs)"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import detectron2.modeling  # noqa: F401  # once, while its warnings are ignored
