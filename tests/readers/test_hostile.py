"""Damaged and hostile files are refused or read: no crash, no hang, no blow-up of memory."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from pychip_live.errors import CorruptError, IncompleteError, ReadError
from pychip_live.readers import evidence, open_file

SECONDS_A_FILE = 10
MAX_BYTES = 2 << 30


def read_in_child(paths: list[Path], folder: Path) -> list[dict[str, Any]]:
    listed = folder / "files.txt"
    listed.write_text("\n".join(map(str, paths)), encoding="utf-8")
    child = subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("hostile_child.py")), listed],
        capture_output=True,
        text=True,
        timeout=SECONDS_A_FILE * 12,
    )
    # nothing on stderr either: readers do not print
    assert (child.returncode, child.stderr) == (0, "")
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(path) for path in paths]
    slow = [line for line in lines if line["seconds"] > SECONDS_A_FILE]
    assert not slow
    assert max(line["peak"] for line in lines) < MAX_BYTES
    return lines


def test_shared_hostile_files(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted(p for p in (shared_data / "hostile").rglob("*") if p.is_file())
    assert len(paths) == 168
    lines = read_in_child(paths, tmp_path)
    counts = dict.fromkeys(("read", "IncompleteError", "UnsupportedError", "CorruptError"), 0)
    for line in lines:
        counts[line["outcome"]] += 1
    assert counts["read"] < 40
    for line in lines:
        if line["file"].endswith((".bmp", ".gif", ".svgz", ".j2k", ".psd", ".tga", ".dds")):
            assert line["outcome"] == "UnsupportedError"


def png(width: int, height: int, bits: int, colour: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(count >> 20)]
    return b"".join([*parts, packer.compress(bytes(count % (1 << 20))), packer.flush()])


def tiff(entries: dict[int, tuple[int, list[int]]], tail: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory, values up to 4 bytes, then ``tail``."""
    codes = {3: "H", 4: "I"}
    body = struct.pack("<H", len(entries))
    for code, (kind, values) in sorted(entries.items()):
        data = struct.pack(f"<{len(values)}{codes[kind]}", *values)
        body += struct.pack("<HHI", code, kind, len(values)) + data.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0) + tail


def image(width: int, height: int, **more: int) -> dict[int, tuple[int, list[int]]]:
    codes = {"bits": 258, "compression": 259, "offset": 273, "count": 279, "rows": 278}
    return {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8]),
        259: (3, [1]),
        262: (3, [1]),
        273: (4, [200]),
        279: (4, [64]),
    } | {codes[name]: (4, [value]) for name, value in more.items()}


def dm4(body: bytes) -> bytes:
    return struct.pack(">IQI", 4, len(body), 1) + body


def group(n_entries: int) -> bytes:
    return struct.pack(">BBQ", 1, 0, n_entries)


def bombs() -> dict[str, bytes]:
    return {
        "huge.tif": tiff(image(1 << 30, 1 << 30), bytes(range(256))),
        "two_gigapixel.tif": tiff(image(46000, 46000, compression=8), bytes(range(256))),
        "packed.tif": tiff(image(22000, 22000, compression=32773), b"\x81\1" * 200),
        "believed_but_empty.tif": tiff(image(2000, 2000, compression=8), zeros(4_000_000)[:64]),
        "one_row_strips.tif": tiff(image(1, 1 << 29, rows=1), bytes(range(256))),
        "circle.tif": b"II*\0" + struct.pack("<IHHHIII", 8, 1, 256, 3, 1, 5, 8) + b"\1",
        "huge.png": png(1 << 30, 1 << 30, 8, 0, zeros(1000)),
        "large.png": png(16000, 16000, 8, 0, zeros(16001 * 16000)),
        "large_colour.png": png(6000, 6000, 16, 2, zeros((6000 * 6 + 1) * 6000)),
        "lying.png": png(16000, 16000, 8, 0, zeros(1000)),
        "too_large.png": png(20000, 20000, 8, 0, zeros(1000)),
        "huge.jpg": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xda\0\2\xff\xd9",
        "nested.dm4": dm4(b"".join(group(1) + b"\x14\0\1a" + bytes(8) for _ in range(5000))),
        "many_tags.dm4": dm4(group(1 << 60)),
        "long_label.dm4": dm4(group(1) + b"\x14\xff\xff" + b"a" * 10),
        "huge_array.dm4": dm4(
            group(1) + b"\x15\0\1a" + bytes(8) + b"%%%%" + struct.pack(">4Q", 3, 20, 7, 1 << 62)
        ),
        "huge.mrc": struct.pack("<4i", 1 << 23, 1 << 23, 1, 2).ljust(208, b"\1")
        + b"MAP ".ljust(999, b"\1"),
        "huge.ser": struct.pack("<HHHII", 0x4949, 0x197, 0x210, 0x4122, 0x4152)
        + struct.pack("<3i", 1 << 30, 1 << 30, 30)
        + bytes(range(256)),
    }  # fmt: skip


def test_bombs(tmp_path: Path) -> None:
    for name, data in bombs().items():
        (tmp_path / name).write_bytes(data)
    with h5py.File(tmp_path / "bomb.emd", "w") as file:
        held = file.create_group("data/huge")
        held.attrs["emd_group_type"] = 1
        held.create_dataset("data", (1 << 20, 1 << 20), "u2", chunks=(1 << 10, 1 << 10))
    with h5py.File(tmp_path / "chunk.emd", "w") as file:
        held = file.create_group("data/chunk")
        held.attrs["emd_group_type"] = 1
        held.create_dataset(
            "data", (64, 16384, 16384), "u1", chunks=(1, 16384, 16384), compression="gzip"
        )[0] = 0
    lines = read_in_child(sorted(p for p in tmp_path.iterdir()), tmp_path)
    outcomes = {Path(line["file"]).name: line["outcome"] for line in lines}
    assert {name for name, found in outcomes.items() if found == "read"} == {
        "large.png",
        "large_colour.png",
    }
    refused = {"CorruptError", "IncompleteError", "UnsupportedError"}
    del outcomes["large.png"], outcomes["large_colour.png"]
    assert set(outcomes.values()) <= refused


@pytest.mark.parametrize(
    ("name", "data"),
    [("empty.tif", b""), ("zeros.dm4", bytes(5000)), ("magic.png", b"\x89PN"), ("one.ser", b"I")],
)
def test_hardly_begun(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    found = evidence(path)
    assert not found.complete
    assert found.awaited
    with pytest.raises(IncompleteError):
        open_file(path)


def test_a_missing_file_stays_an_os_error(tmp_path: Path) -> None:
    for call in (evidence, open_file):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "gone.tif")
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(OSError, match=r"folder\.tif"):
        open_file(tmp_path / "folder.tif")


def test_flipped_bytes_never_escape(tmp_path: Path) -> None:
    """Any single damaged stretch is refused by one of our errors, or still read."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 4000, (40, 30), dtype=np.uint16)
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, pixels, compression="zlib", description="ImageJ=1.0\nunit=nm\n")
    whole = path.read_bytes()
    outcomes = set()
    for _ in range(400):
        data = bytearray(whole)
        at = int(rng.integers(len(data)))
        data[at : at + 4] = rng.bytes(4)
        path.write_bytes(data)
        try:
            evidence(path)
            with open_file(path) as opened:
                opened.read(0)
            outcomes.add("read")
        except ReadError as error:
            outcomes.add(type(error).__name__)
    assert outcomes >= {"read", CorruptError.__name__}
