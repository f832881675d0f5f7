"""The command line of those who keep runs going: server, schedule, models, comparing, cleaning."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

operations = typer.Typer(add_completion=False)
models = typer.Typer(add_completion=False, no_args_is_help=True)
operations.add_typer(
    models, name="models", help="Registered models of a run: which, and since when."
)

RUNS = Path("runs")

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. --set seed=3."),
]
RunPlace = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")]
Version = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="As `models list` names it.")
]


@operations.command()
def server(
    port: Annotated[int, typer.Option("--port", help="Of the pages and of the API.")] = 4200,
    host: Annotated[
        str,
        typer.Option("--host", help="Other than loopback: with a password, which is printed once."),
    ] = "127.0.0.1",
    database: Annotated[
        str | None,
        typer.Option("--db", metavar="URL", help="postgresql+asyncpg://...; SQLite without it."),
    ] = None,
    home: Annotated[
        Path, typer.Option("--home", help="Where the server keeps what is its own.")
    ] = RUNS / ".prefect",
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="No password, whoever can reach it.")
    ] = False,
) -> None:
    """Start Prefect's server, until it is stopped."""
    from flows.orchestration.server import serve

    serve(
        port=port, host=host, database=database, home=home, has_auth=not no_auth, stream=sys.stdout
    )


@operations.command()
def deploy(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A YAML file, or a shipped one by name.")
    ],
    cron: Annotated[
        str | None, typer.Option("--cron", help='When to look for new data, e.g. "0 3 * * *".')
    ] = None,
    every: Annotated[
        float | None, typer.Option("--every", metavar="SECONDS", help="Instead of --cron.")
    ] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.")] = None,
) -> None:
    """Serve a run under Prefect: looks for new data when told to, and retrains on it."""
    from flows.commands.deploy import deploy_run

    deploy_run(
        config, settings or [], out or RUNS / config.stem, cron=cron, every=every, stream=sys.stdout
    )


@models.command("list")
def list_models(run: RunPlace) -> None:
    """Every version: when, from which data, its metrics, which one is current."""
    from rich.console import Console

    from flows.commands.models import models_table

    Console(soft_wrap=True).print(models_table(run))


@models.command("promote")
def promote_model(run: RunPlace, version: Version = None) -> None:
    """Make a version the current one, whatever the gate says; the newest without VERSION."""
    from flows.commands.models import promote

    typer.echo(promote(run, version))


@models.command("rollback")
def rollback_model(run: RunPlace, version: Version = None) -> None:
    """Go back to the version that was current before this one, or to VERSION."""
    from flows.commands.models import rollback

    typer.echo(rollback(run, version))


@operations.command()
def compare(
    first: RunPlace, second: Annotated[Path, typer.Argument(metavar="DIR", help="Another one.")]
) -> None:
    """Two runs side by side: their metrics, and where their configurations differ."""
    from rich.console import Console

    from flows.commands.compare import comparison

    for number, table in enumerate(comparison(first, second)):
        Console(soft_wrap=True).print(*([""] if number else []), table, sep="\n")


@operations.command()
def clean(
    run: RunPlace,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it only shown.")] = False,
) -> None:
    """Free what no run needs any more: folders of older settings, of older data, leftovers."""
    from rich.console import Console

    from flows.commands.clean import cleanable, free

    found = cleanable(run)
    Console(soft_wrap=True).print(found.table())
    if yes:
        typer.echo(f"freed {free(run, found)}")
    elif found.items:
        typer.echo(f"to free it: oscar-flow clean {run} --yes")


@operations.command()
def doctor(
    runs: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder of runs, or one run.", show_default=True)
    ] = RUNS,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what is wrong.")] = False,
    reap: Annotated[
        bool,
        typer.Option("--reap", help="Mark runs as crashed that Prefect still calls running."),
    ] = False,
) -> None:
    """Look whether this environment has everything a run needs."""
    from flows.doctor import examine

    if reap:
        from flows.commands.reap import reap_runs

        typer.echo(reap_runs(runs))
        return
    remedies = 0
    for finding in examine(runs):
        remedies += not finding.is_well
        if not finding.is_well or not quiet:
            mark = "ok  " if finding.is_well else "MEND"
            typer.echo(f"{mark}  {finding.name}: {finding.found}", err=not finding.is_well)
            if finding.remedy:
                typer.echo(f"      {finding.remedy}", err=True)
    raise typer.Exit(1 if remedies else 0)


@operations.command()
def calibrate(
    detector: Annotated[Path, typer.Argument(metavar="DETECTOR", help="Its folder or file.")],
    photos: Annotated[
        Path, typer.Argument(metavar="PHOTOS", help="A folder of photos like those to come.")
    ],
    most: Annotated[int, typer.Option("--photos", help="How many are looked at.", min=2)] = 8,
) -> None:
    """Measure what 8-bit arithmetic needs to know of a detector, for `precision: fast`."""
    from flows.commands.calibrate import calibrate_detector

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    typer.echo("\n".join(calibrate_detector(detector, photos, most=most, tell=tell)))


@operations.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder, a detector's file, or hf://owner/name[@revision]."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Becomes the new folder.")],
    to: Annotated[
        Literal["ours", "published", "hub", "detectron2"],
        typer.Option(
            "--to",
            help="Our folder, the published layout, transformers' own, or detectron2's.",
        ),
    ] = "ours",
    task: Annotated[
        str | None,
        typer.Option("--as", metavar="TASK", help="Of the model; else its heads decide."),
    ] = None,
    start_anew: Annotated[
        list[str] | None,
        typer.Option(
            "--start-anew",
            metavar="PART",
            help="May be drawn if it is missing: answers, words, contrast, regions or pooler.",
        ),
    ] = None,
    widen_contrast: Annotated[
        bool, typer.Option("--widen-contrast", help="Make a two-way head a three-way one.")
    ] = False,
    vocabulary: Annotated[
        str | None, typer.Option("--vocabulary", help="Instead of the folder's vocab.txt.")
    ] = None,
    answers: Annotated[
        str | None, typer.Option("--answers", help="JSON list, in the order of the outputs.")
    ] = None,
    label_map: Annotated[
        str | None, typer.Option("--labelmap", help="Names for a published detector.")
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option("--settings", help="YAML of the program that made a published detector."),
    ] = None,
    geometry: Annotated[
        Literal["width_first", "height_first"] | None,
        typer.Option(
            "--geometry", help="Last two box numbers of the regions a published model learned from."
        ),
    ] = None,
    cased: Annotated[bool, typer.Option("--cased", help="Do not lower-case Latin text.")] = False,
) -> None:
    """Turn a published model into ours, or ours into the published layout."""
    from flows.commands.convert import Wishes, convert
    from flows.commands.convert_detector import Beside
    from flows.file_sources import of_option

    folder = of_option(source, sys.stderr) or Path(source)
    wishes = Wishes(
        task=task,
        starts_anew=start_anew or (),
        widens_contrast=widen_contrast,
        vocabulary=of_option(vocabulary, sys.stderr),
        answers=of_option(answers, sys.stderr),
        lower_case=not cased,
        geometry=geometry,
        beside=Beside(
            label_map=of_option(label_map, sys.stderr), settings=of_option(settings, sys.stderr)
        ),
    )
    typer.echo("\n".join(convert(folder, out, to=to, wishes=wishes)))
