"""Waits for its parent's death, then ends the parent's child and all that descends from it.

Started by `flows.family.guarded` as `python -I -S guard.py NAME=WORD SECONDS`: standard library
only, a few milliseconds, no import of the packages. Standard input is a pipe that the parent holds
open and never writes to.
"""

import os
import signal
import sys
import time


def main(word: bytes, grace_seconds: float) -> None:
    """Wait; SIGTERM to all who carry the word in their environment; SIGKILL after the grace."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it outlives its parent for that moment
    while os.read(0, 4096):
        pass
    send_all(word, signal.SIGTERM)
    send_all(word, signal.SIGCONT)
    until = time.monotonic() + grace_seconds
    while time.monotonic() < until and find(word):
        time.sleep(0.05)
    for _ in range(20):
        if not send_all(word, signal.SIGKILL):
            break
        time.sleep(0.05)


def find(word: bytes) -> list[int]:
    """Living processes with that entry in their environment; a zombie's is empty."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as stream:
                    if word in stream.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                continue
    return found


def send_all(word: bytes, number: int) -> int:
    """Signal them all; how many there were."""
    found = find(word)
    for pid in found:
        try:
            os.kill(pid, number)
        except OSError:
            continue
    return len(found)


if __name__ == "__main__":
    main(os.fsencode(sys.argv[1]), float(sys.argv[2]))
