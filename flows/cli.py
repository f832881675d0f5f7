"""The command line: parses, calls `flows.commands`, prints. No logic here.

Everything heavy is imported inside a sub-command, so that `oscar-flow --help` is instant.
"""

import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from flows.cli_operations import operations
from flows.cli_tables import tables

if TYPE_CHECKING:
    from flows.commands.run import Finished

app = typer.Typer(
    name="oscar-flow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(operations)
app.add_typer(tables)

RUNS = Path("runs")
EXIT_ERROR = 2
EXIT_CANCELLED = 130
_RESUMABLE = frozenset({"run", "demo", "resume", "describe", "import-regions"})
"""Commands that keep what they had finished when they are stopped."""

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. --set seed=3."),
]
Config = Annotated[
    Path,
    typer.Argument(metavar="CONFIG", help="A YAML file, or a shipped one by name, e.g. demo.yaml."),
]
RunPlace = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")]
TrainedRun = Annotated[
    Path | None, typer.Option("--run", help="A finished run, whose models are used.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run.")]
NoPrefect = Annotated[
    bool, typer.Option("--no-prefect", help="Run the same plan in a plain loop, without Prefect.")
]


@app.callback()
def every_command() -> None:
    """From raw images to vision-language metrics: one command, every step resumable."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = RUNS / "demo",
    seed: Annotated[int | None, typer.Option("--seed", help="Other scenes, other weights.")] = None,
    settings: Settings = None,
    no_prefect: NoPrefect = False,
) -> None:
    """Render scenes, learn from them, and report: the whole pipeline, offline, on the CPU."""
    chosen = [] if seed is None else [f"seed={seed}"]
    _run(Path("demo.yaml"), [*chosen, *(settings or [])], out, no_prefect=no_prefect)


@app.command()
def run(
    config: Config,
    settings: Settings = None,
    out: Out = None,
    no_prefect: NoPrefect = False,
    dry: Annotated[
        bool,
        typer.Option("--dry-run", help="Check paths, counts and room, estimate time and memory."),
    ] = False,
) -> None:
    """Run a configuration; what is finished already is left untouched."""
    place = out or RUNS / config.stem
    if dry:
        _look_ahead(config, settings or [], place)
    else:
        _run(config, settings or [], place, no_prefect=no_prefect)


def _look_ahead(config: Path, settings: list[str], out: Path) -> None:
    """Nothing is written; the problems are told as errors as soon as they are found."""
    from rich.console import Console

    from flows.commands.dry_run import dry_run, findings_table, sources_of
    from flows.config import read_config

    def tell_problem(problem: str) -> None:
        typer.echo(f"error: {problem}", err=True)

    chosen = read_config(config, settings)
    findings = dry_run(chosen, out, on_problem=tell_problem, on_progress=typer.echo)
    Console(soft_wrap=True, highlight=False).print(findings_table(findings))
    typer.echo("\n".join(("", *sources_of(findings), "", *findings.notes)))
    if findings.problems:
        typer.echo(f"\nin the way, each told above as an error: {len(findings.problems)}")
        raise typer.Exit(EXIT_ERROR)
    again = "".join(f" --set {shlex.quote(setting)}" for setting in settings)
    typer.echo(f"\nnothing stands in the way: oscar-flow run {config}{again} --out {out}")


def _run(config: Path, settings: list[str], out: Path, *, no_prefect: bool) -> None:
    from flows.commands.run import opening_line, run
    from flows.config import read_config

    chosen = read_config(config, settings)
    typer.echo(opening_line(chosen, str(config), out))
    _tell(run(chosen, out, with_prefect=not no_prefect, stream=sys.stdout), out)


def _tell(finished: "Finished", out: Path) -> None:
    """What came out of a run."""
    from rich.console import Console

    from flows.commands.show import metrics_table

    if not finished.has_news:
        typer.echo("nothing to do: every step is already done")
    if (out / "metrics.json").is_file():
        table = metrics_table(out / "metrics.json")
        if table.row_count:  # a run without tasks measures nothing
            Console(soft_wrap=True).print(table)
        typer.echo(f"\nreport   {out / 'report.html'}\nmetrics  {out / 'metrics.json'}")


@app.command()
def plan(config: Config, settings: Settings = None, out: Out = None) -> None:
    """Tell what a run would do and why, without doing it."""
    from rich.console import Console

    from flows.commands.show import plan_table
    from flows.config import read_config
    from flows.file_sources import already_here
    from flows.pipeline import plan_of

    place = out or RUNS / config.stem
    chosen = read_config(config, settings or [])
    Console(soft_wrap=True).print(plan_table(plan_of(chosen, already_here), place))
    chosen_again = "".join(f" --set {shlex.quote(setting)}" for setting in settings or [])
    typer.echo(f"\nin {place}; to do it: oscar-flow run {config}{chosen_again} --out {place}")


@app.command()
def resume(
    run: RunPlace,
    from_step: Annotated[
        str | None,
        typer.Option("--from", metavar="STEP", help="Do this step anew, and all that stand on it."),
    ] = None,
    settings: Settings = None,
    no_prefect: NoPrefect = False,
) -> None:
    """Go on with a run where it stopped, with the configuration that it keeps."""
    from flows.commands.resume import resume_run

    finished = resume_run(
        run,
        from_step=from_step,
        settings=settings or [],
        with_prefect=not no_prefect,
        stream=sys.stdout,
    )
    _tell(finished, run)


@app.command()
def status(
    run: RunPlace,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show it live.")] = False,
) -> None:
    """Tell how far a run is: every step, its time, its attempts, its last word."""
    from flows.commands.status import show_status

    show_status(run, watch=watch, stream=sys.stdout)


@app.command()
def report(run: RunPlace) -> None:
    """Write the report of a finished run anew, where anything of it changed."""
    from flows.commands.report import write_report

    typer.echo(f"report  {write_report(run, sys.stdout)}")


@app.command()
def shard(
    path: Annotated[str, typer.Argument(help="A .parquet file, or a folder of shards.")],
) -> None:
    """Show what a shard holds, readable."""
    from storage.describe import describe_shard

    for line in describe_shard(path):
        typer.echo(line)


@app.command()
def fetch(
    source: Annotated[
        str, typer.Argument(help="hf://owner/name[/file][@revision] or https://...#sha256=HEX.")
    ],
) -> None:
    """Fetch a file or a repository into the cache, and tell where it lies."""
    from flows.file_sources import fetched

    typer.echo(fetched(source, sys.stderr))


@app.command()
def corpus(
    source: Annotated[str, typer.Argument(metavar="CONFIG|RUN", help="A YAML file or a run.")],
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="The table as JSON.")] = False,
) -> None:
    """Count photos and texts of every source, and tell what did not join and why."""
    import json

    from rich.console import Console

    from flows.commands.corpus import corpus_table

    found = corpus_table(source, settings or [])
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False, indent=1))
        return
    for table in found.tables():
        Console(soft_wrap=True).print(table)
        typer.echo("")


@app.command()
def translate(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LABEL|FILE|-]...", help="Labels, or files of one a line."),
    ] = None,
    kind: Annotated[Literal["object", "attribute"], typer.Option("--kind")] = "object",
    as_json: Annotated[bool, typer.Option("--json", help="Tags and coverage as JSON.")] = False,
    dictionary: Annotated[
        str | None, typer.Option("--dictionary", help="A Mengzi dictionary beside our lexicon.")
    ] = None,
    policy: Annotated[
        Literal["keep", "drop", "fail"], typer.Option("--policy", help="For what has no word.")
    ] = "keep",
) -> None:
    """Translate labels of a detector into Chinese."""
    import json

    from flows.commands.translate import translate
    from flows.file_sources import of_option

    words = of_option(dictionary, sys.stderr)
    translated = translate(sources or [], kind=kind, dictionary=words, policy=policy)
    if not translated.tags:
        typer.echo("no label given: nothing was translated", err=True)
    if as_json:
        typer.echo(json.dumps(translated.as_json(), ensure_ascii=False, indent=1))
    else:
        typer.echo("\n".join(translated.lines()))


@app.command()
def detect(
    photo: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture file.")],
    save: Annotated[
        Path | None, typer.Option("--save", help="Draw boxes and tags on a copy.")
    ] = None,
    run: TrainedRun = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="A detector (folder or file), not the run's.")
    ] = None,
    labelmap: Annotated[
        Path | None, typer.Option("--labelmap", help="Names for weights without any beside them.")
    ] = None,
    precision: Annotated[Literal["exact", "fast"], typer.Option("--precision")] = "exact",
    rules: Annotated[
        Literal["vinvl_released", "vinvl_readme"] | None,
        typer.Option("--rules", help="Which regions are kept, instead of the detector's rules."),
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Least confidence of a box drawn.")
    ] = 0.2,
    most: Annotated[int, typer.Option("--most", help="Most boxes drawn.", min=0)] = 40,
) -> None:
    """Tell what a photo shows: boxes, objects, attributes, Chinese tags."""
    from rich.console import Console

    from flows.commands.detect import DetectorWishes, check_drawing, see_photo
    from flows.file_sources import of_option

    if save is not None:
        check_drawing(photo, save, threshold)
    wishes = DetectorWishes(
        weights=of_option(weights, sys.stderr), label_map=labelmap, precision=precision, rules=rules
    )
    seen = see_photo(photo, run=run, wishes=wishes)
    Console(soft_wrap=True).print(seen.table())
    typer.echo("\n".join(("", *seen.detector)))
    if save is not None:
        typer.echo(seen.save(save, threshold=threshold, most=most))


@app.command()
def caption(
    photo: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture file.")],
    run: TrainedRun = None,
) -> None:
    """Say in a sentence what a photo shows."""
    from flows.commands.caption import caption_photo

    said = caption_photo(photo, run)
    typer.echo(f"{said.caption}  (probability of a word {said.probability:.2f})")


@app.command()
def describe(
    photos: Annotated[
        str, typer.Argument(metavar="PHOTOS", help="A folder, tar, Parquet, TSV, list or URL.")
    ],
    below: Annotated[
        Path | None,
        typer.Option("--below", metavar="DIR", help="Where the photos of a list lie, if apart."),
    ] = None,
    run: Annotated[Path, typer.Option("--run", help="A finished run.")] = RUNS / "demo",
    out: Annotated[Path, typer.Option("--out", help="Where the results go.")] = RUNS / "mine",
    no_prefect: NoPrefect = False,
) -> None:
    """Make features, tags and captions of your own photos, with a trained run's models."""
    from flows.commands.describe import CAPTIONS, REGIONS, TAGS, describe_folder

    described = describe_folder(
        photos,
        run=run,
        out=out,
        with_prefect=not no_prefect,
        stream=sys.stdout,
        below=below,
    )
    for image_id, said in described.captions.items():
        typer.echo(f"{image_id}  {said}")
    if num := described.num_quarantined:
        some = "1 photo" if num == 1 else f"{num} photos"
        typer.echo(f"{some} left out: {out}/*/quarantine.jsonl")
    typer.echo(f"\nfeatures  {out / REGIONS}   (look: oscar-flow shard {out / REGIONS})")
    typer.echo(f"tags      {out / TAGS}\ncaptions  {out / CAPTIONS}")


def main() -> None:
    """Run the command of the command line; whatever goes wrong is one line and an exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = EXIT_CANCELLED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        _end(_line(error), EXIT_ERROR)
    if status == EXIT_CANCELLED:  # typer makes it of Ctrl-C, too
        goes_on = _RESUMABLE.issuperset(sys.argv[1:2])
        again = "; run the same command again to go on" if goes_on else ""
        _end(f"stopped{again}", EXIT_CANCELLED)
    sys.exit(status if isinstance(status, int) else 0)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does: the steps' children are ended, what is finished stays."""
    raise KeyboardInterrupt


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
