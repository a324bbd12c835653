"""Data sets that are larger than what may be kept in memory: the process does not grow by them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from archives import contents, pack
from children import with_helpers
from images import encoded, picture

SIDE, IMAGES = 512, 160  # 126 MB, decoded, and as bitmaps on the disk
PROGRAM = """
import sys
from children import peak
from robust_transfer.data import load_task, split
limit, small, large = int(sys.argv[1]), sys.argv[2], sys.argv[3]
split.MEMORY_LIMIT = limit

def read(path):
    task = load_task(path, val=0)
    seen = sum(len(labels) for part in (task.train, task.test) for _, labels, _ in part.at_size(96).batches(8))
    return seen, peak()

(few, before), (many, after) = read(small), read(large)
print(few, many, after - before)
"""


def bitmaps(folder: Path, count: int) -> Path:
    folder.mkdir()
    rows = [(f"{i}.bmp", "ab"[i % 2]) for i in range(count)]
    for i, (name, _) in enumerate(rows):
        (folder / name).write_bytes(encoded(picture(i, 0, SIDE), "BMP"))
    (folder / "labels.csv").write_text("image,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    root = tmp_path_factory.mktemp("sets")
    small, large = bitmaps(root / "small", 16), bitmaps(root / "large", IMAGES)
    packed = {
        kind: tuple(pack(root / f"{folder.name}.{kind}", contents(folder)) for folder in (small, large))
        for kind in ("zip", "tar", "tar.gz")
    }
    return {"csv": (small / "labels.csv", large / "labels.csv"), **packed}  # type: ignore[dict-item]


def growth(limit: int, small: Path, large: Path) -> int:
    """Bytes by which a process that has read the small set grows when it reads the large one."""
    command = [sys.executable, "-c", PROGRAM, str(limit), str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=with_helpers())
    few, many, grown = map(int, done.stdout.split())
    assert (few, many) == (16, IMAGES)
    return grown


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "zip", "tar"])
def test_what_does_not_fit_is_read_image_by_image(sets: dict[str, tuple[Path, Path]], kind: str) -> None:
    bounded, kept = growth(2**20, *sets[kind]), growth(2**31, *sets[kind])
    print(f"{kind}: {bounded / 2**20:.1f} MiB with a limit of 1 MiB, {kept / 2**20:.1f} MiB without")
    decoded = 3 * SIDE**2 * IMAGES
    assert bounded < decoded / 6
    assert kept > decoded * 0.7, "or the test could not see it"


@pytest.mark.slow
def test_a_compressed_tar_that_does_not_fit_is_refused_before_it_is_read(sets: dict[str, tuple[Path, Path]]) -> None:
    program = PROGRAM.partition("(few, before)")[0] + (
        "from robust_transfer.errors import DataError\n"
        "before = peak()\n"
        "try: load_task(large)\n"
        "except DataError as error: print(peak() - before, error)\n"
    )
    small, large = sets["tar.gz"]
    command = [sys.executable, "-c", program, str(2**22), str(small), str(large)]
    grown, _, said = subprocess.run(
        command, capture_output=True, text=True, check=True, env=with_helpers()
    ).stdout.partition(" ")
    assert int(grown) < 2**25
    assert "is compressed, and more than the 4194304 bytes that are kept in memory come out of it" in said
