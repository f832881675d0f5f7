"""What runs on this machine below a process, read from /proc."""

import time
from pathlib import Path


def descendants(leader: int) -> dict[int, str]:
    """All living processes below one -> their command lines."""
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            command = (entry / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue  # it has gone meanwhile
        if state != "Z":
            parents[int(entry.name)] = int(parent)
            commands[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    found = {leader}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return {each: commands[each] for each in found - {leader} if each in commands}


def survivors(known: dict[int, str], seconds: float = 20) -> dict[int, str]:
    """Which of some processes still live after so long; waits for their end."""
    until = time.monotonic() + seconds
    while True:
        left = {each: command for each, command in known.items() if _is_alive(each, command)}
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.1)


def _is_alive(process: int, command: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        now = Path(f"/proc/{process}/cmdline").read_bytes()
    except (OSError, IndexError):
        return False
    # Ray's processes rename themselves as they work, so only the first word must agree
    words = now.replace(b"\0", b" ").decode(errors="replace").split()
    return state != "Z" and words[:1] == command.split()[:1]
