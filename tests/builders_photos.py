"""Collections of photos of every kind, made of the same few pictures."""

import base64
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(shade: int, *, size: tuple[int, int] = (20, 16), kind: str = "PNG") -> bytes:
    """The file of a picture of one shade; size: width and height."""
    stream = io.BytesIO()
    Image.new("RGB", size, (shade, 255 - shade, 90)).save(stream, kind)
    return stream.getvalue()


def pictures(num: int = 4) -> dict[str, bytes]:
    """Names without ending -> files; some in a folder."""
    return {f"{'b/' if at % 2 else ''}p{at}": picture(10 * at) for at in range(num)}


def lay_folder(place: Path, photos: Mapping[str, bytes]) -> Path:
    for name, content in photos.items():
        path = place / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


def lay_tar(path: Path, photos: Mapping[str, bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in photos.items():
            for ending, each in ((".png", content), (".json", b"{}")):
                member = tarfile.TarInfo(f"{name}{ending}")
                member.size = len(each)
                tar.addfile(member, io.BytesIO(each))
    return path


def lay_table(path: Path, photos: Mapping[str, bytes]) -> Path:
    """An image table with its index and sizes."""
    starts, at, rows, sizes = [], 0, [], []
    for name, content in photos.items():
        row = f"{name}\t{base64.b64encode(content).decode()}\n"
        with Image.open(io.BytesIO(content)) as shown:
            told = [{"height": shown.height, "width": shown.width}]
        starts.append(at)
        rows.append(row)
        sizes.append(f"{name}\t{json.dumps(told)}\n")
        at += len(row)
    path.write_text("".join(rows))
    path.with_suffix(".lineidx").write_text("".join(f"{start}\n" for start in starts))
    path.with_suffix(".hw.tsv").write_text("".join(sizes))
    return path


def lay_parquet(path: Path, photos: Mapping[str, bytes], rows_per_group: int = 3) -> Path:
    """As `datasets` writes pictures."""
    rows = [{"bytes": content, "path": f"{name}.png"} for name, content in photos.items()]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(rows, kind), "label": list(range(len(rows)))})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def lay_coco(path: Path, photos: Mapping[str, bytes], size: tuple[int, int] = (20, 16)) -> Path:
    """size: width and height that the file tells."""
    images = [
        {"id": at, "file_name": f"{name}.png", "width": size[0], "height": size[1]}
        for at, name in enumerate(photos)
    ]
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": []}))
    return path
