"""The command line: parses, calls `flows.commands`, prints. No logic here.

Everything heavy is imported inside a sub-command, so that `oscar-flow --help` is instant.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="oscar-flow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RUNS = Path("runs")
EXIT_ERROR = 2
EXIT_CANCELLED = 130

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. --set seed=3."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run.")]
NoPrefect = Annotated[
    bool, typer.Option("--no-prefect", help="Run the same plan in a plain loop, without Prefect.")
]


@app.callback()
def every_command() -> None:
    """From raw images to vision-language metrics: one command, every step resumable."""


@app.command()
def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what is wrong.")] = False,
) -> None:
    """Look whether this environment has everything a run needs."""
    from flows.doctor import examine

    remedies = 0
    for finding in examine(RUNS):
        remedies += not finding.is_well
        if not finding.is_well or not quiet:
            mark = "ok  " if finding.is_well else "MEND"
            typer.echo(f"{mark}  {finding.name}: {finding.found}", err=not finding.is_well)
            if finding.remedy:
                typer.echo(f"      {finding.remedy}", err=True)
    raise typer.Exit(1 if remedies else 0)


def main() -> None:
    """Run the command of the command line; whatever goes wrong is one line and an exit status."""
    try:
        status = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _end("stopped; run the same command again to go on", EXIT_CANCELLED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        _end(_line(error), EXIT_ERROR)
    sys.exit(status if isinstance(status, int) else 0)


def _line(error: Exception) -> str:
    """What to tell about an error; several mistakes of a configuration keep their own lines."""
    from typer.exceptions import TyperException

    from flows.errors import ConfigError, one_line

    if isinstance(error, TyperException):
        message = error.format_message()  # empty where the help was printed instead
        return f"{message} (see oscar-flow --help)" if message else ""
    if isinstance(error, ConfigError):
        return str(error)
    return one_line(error)


def _end(text: str, status: int) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"error: {line}\n")
    sys.exit(status)
