"""What a run survives: a table of faults that are really made to happen, one row each.

python -m benchmarks faults [--only NAME]... [--short] [--list] [--json FILE] [--keep FOLDER]

Each row tells what was done, how it is known that it happened, what the run said, which steps were
worked on after, and whether the metrics are the undisturbed run's. Exit status 1 when a run did not
survive; a fault that could not be made to happen counts as not survived.
"""

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from benchmarks import fault_cases
from benchmarks.fault_cases.ground import Ground
from benchmarks.fault_cases.row import Fault, NotInjectedError, NotPossibleError, Row
from benchmarks.figure import machine


def faults() -> list[Fault]:
    """Every fault of every module of `benchmarks.fault_cases`."""
    names = sorted(each.name for each in iter_modules(fault_cases.__path__))
    modules = [import_module(f"{fault_cases.__name__}.{name}") for name in names]
    return [fault for module in modules for fault in getattr(module, "FAULTS", ())]


def tried(fault: Fault, ground: Ground) -> Iterator[Row]:
    """The rows of a fault; what keeps it from happening is a row, too.

    Raises:
        NotPossibleError: This machine cannot make it.
    """
    try:
        yield from fault.inject(ground)
    except NotPossibleError:
        raise
    except NotInjectedError as error:
        yield Row(name=fault.name, done="", proof="", happened=f"not injected: {error}")
    except (
        Exception
    ) as error:  # a row that breaks is a row that did not survive, and the rest goes on
        traceback.print_exc()
        yield Row(name=fault.name, done="", proof="", happened=f"{type(error).__name__}: {error}")


def as_line(row: Row) -> str:
    """A row of the table, in several short lines."""
    verdict = "survived" if row.is_survived else "NOT SURVIVED"
    lines = [
        f"{row.name:44} {verdict:12} {row.seconds:6.1f} s",
        f"    done     {row.done} ({row.proof or 'not seen to happen'})",
        f"    then     {row.happened}",
        f"    worked   {', '.join(row.rerun) or 'nothing'}",
        f"    metrics  {row.metrics or 'none'}",
        *(f"    AMISS    {each}" for each in row.complaints),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Try faults and print the table."""
    options = _options(arguments)
    chosen = [
        fault
        for fault in faults()
        if (not options.names or any(fault.name.startswith(name) for name in options.names))
        and (fault.is_short or not options.short)
    ]
    if options.list:
        print("\n".join(fault.name for fault in chosen))
        return 0
    if not chosen:
        print(f"error: no fault {options.names[0]!r}; see --list", file=sys.stderr)
        return 2
    print(f"{date.today()}  {machine()}", flush=True)
    rows: list[Row] = []
    left_out: list[str] = []
    with _place(options.keep) as folder:
        ground = Ground(folder, options.keep is not None)
        for fault in chosen:
            try:
                for row in tried(fault, ground):
                    rows.append(row)
                    print(as_line(row), flush=True)
            except NotPossibleError as error:
                left_out.append(f"{fault.name}: {error}")
            finally:
                ground.clear()
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    for each in left_out:
        print(f"not tried: {each}")
    survived = sum(row.is_survived for row in rows)
    print(f"faults: {len(rows)} tried, {survived} survived")
    return 0 if survived == len(rows) else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults", description=__doc__)
    parser.add_argument(
        "--only",
        dest="names",
        metavar="NAME",
        nargs="+",
        action="extend",
        default=[],
        help="faults whose names begin so",
    )
    parser.add_argument(
        "--short", action="store_true", help="the selection that goes with the tests"
    )
    parser.add_argument("--list", action="store_true", help="name them, try none")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    return parser.parse_args(arguments)


@contextmanager
def _place(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="oscar-faults-") as folder:
        yield Path(folder).resolve()
