"""Lists and runs the benchmarks: python -m benchmarks [NAME ...] [--json FILE].

A module measures figures (`measure() -> Iterable[Figure]`), or shows something in a way of its own
(`main(arguments) -> exit status`), with arguments of its own: python -m benchmarks faults --help.
"""

import argparse
import importlib
import json
import pkgutil
import sys
from datetime import date
from pathlib import Path

import benchmarks
from benchmarks.figure import Figure, machine


def names() -> list[str]:
    """Every module of this folder that measures or shows something."""
    found = (each.name for each in pkgutil.iter_modules(benchmarks.__path__) if not each.ispkg)
    return sorted(name for name in found if name not in ("__main__", "figure", "many_photos"))


def main() -> int:
    """Run the named benchmarks; without a name say which there are."""
    if len(sys.argv) > 1 and sys.argv[1] in names():
        module = importlib.import_module(f"benchmarks.{sys.argv[1]}")
        if hasattr(module, "main"):
            return int(module.main(sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", help="which to run; none: list them")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    if not arguments.names:
        for name in names():
            module = importlib.import_module(f"benchmarks.{name}")
            print(f"{name:20} {(module.__doc__ or '').splitlines()[0]}")
        return 0
    unknown = sorted(set(arguments.names) - set(names()))
    if unknown:
        print(
            f"error: no benchmark {unknown[0]!r}; there are {', '.join(names())}", file=sys.stderr
        )
        return 2
    print(f"{date.today()}  {machine()}")
    figures: list[Figure] = []
    for name in arguments.names:
        for figure in importlib.import_module(f"benchmarks.{name}").measure():
            figures.append(figure)
            print(figure, flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([figure.as_dict() for figure in figures], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
