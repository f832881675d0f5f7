"""The command line of tables in the layouts of others: regions out and in."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

tables = typer.Typer(add_completion=False)

Out = Annotated[Path, typer.Argument(metavar="OUT", help="Becomes the folder; must be empty.")]
Order = Annotated[
    Literal["width_first", "height_first"] | None,
    typer.Option("--order", help="Of the last two box numbers of a feature."),
]


@tables.command("export-regions")
def export_regions(
    source: Annotated[
        str, typer.Argument(metavar="RUN|SHARDS", help="A run, or a folder of region shards.")
    ],
    out: Out,
    layout: Annotated[
        Literal["vinvl", "captioning", "predictions"],
        typer.Option("--layout", help="Whose tables: Oscar's, its captioning's, the detector's."),
    ] = "vinvl",
    keys: Annotated[
        Literal["name", "id"],
        typer.Option("--keys", help="Image keys: the last part of an image id, or all of it."),
    ] = "name",
    order: Order = None,
) -> None:
    """Write regions as the tables that Oscar, VinVL and their detector read and write."""
    from flows.commands.tables import export_regions as export

    typer.echo("\n".join(export(source, out, layout=layout, keys=keys, order=order)))


@tables.command("import-regions")
def import_regions(
    folder: Annotated[Path, typer.Argument(metavar="TABLES", help="Folder of the tables.")],
    out: Out,
    namespace: Annotated[
        str, typer.Option("--namespace", help="Put before each image key, as in coco/9.")
    ] = "",
    digits: Annotated[
        int,
        typer.Option(
            "--digits",
            help="Fill keys that are numbers up with zeros, as COCO does: 12.",
            min=0,
            max=32,
        ),
    ] = 0,
    label_map: Annotated[
        Path | None, typer.Option("--labelmap", help="Numbers of the names, where known.")
    ] = None,
    split: Annotated[
        bool,
        typer.Option("--split", help="Leave out the six box numbers; the shards say their order."),
    ] = False,
    order: Order = None,
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option("--dtype", help="In which features are kept.")
    ] = "float32",
) -> None:
    """Read features and detections of Oscar, VinVL or their detector into region shards.

    A run starts from them by `data.regions`. An interrupted import goes on by the same command.
    """
    from flows.commands.import_regions import ImportWishes
    from flows.commands.import_regions import import_regions as take_in
    from flows.display import told_in_lines

    wishes = ImportWishes(
        namespace=namespace,
        digits=digits,
        label_map=label_map,
        splits_boxes=split,
        order=order,
        dtype=dtype,
    )
    typer.echo("\n".join(take_in(folder, out, wishes, told_in_lines(sys.stderr))))
