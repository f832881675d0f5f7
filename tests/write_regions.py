"""A process that writes region shards: FOLDER NUM_IMAGES [--kill-at N] [--file-bytes N].

It dies by SIGKILL before the N-th image, or is not allowed files above N bytes.
"""

import argparse
import os
import resource
import signal
import sys
from collections.abc import Iterator

from storage.records import ImageRegions
from storage.region_slices import RegionSettings, write_regions
from tests.builders_storage import many_regions

ROWS_PER_SHARD = 4


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("num_images", type=int)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--file-bytes", type=int)
    arguments = parser.parse_args()
    if arguments.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.file_bytes, arguments.file_bytes))
    try:
        write_regions(
            arguments.folder,
            dying(arguments.num_images, arguments.kill_at),
            RegionSettings(detector="d1", feature_width=8),
            rows_per_shard=ROWS_PER_SHARD,
        )
    except OSError as error:
        print(f"{error.errno} {error.filename} {error.strerror}")
        return 74
    return 0


def dying(num_images: int, kill_at: int | None) -> Iterator[ImageRegions]:
    for number, regions in enumerate(many_regions(num_images)):
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        yield regions


if __name__ == "__main__":
    sys.exit(main())
