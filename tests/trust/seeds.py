"""The valid files that are damaged: small ones, of every layout that a reader here has a way of its own for."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import h5py
import numpy as np
import numpy.typing as npt

from gfield.formats.matv5 import write_numeric
from gfield.sample.nyu_mat import LabelledFrame, write_nyu_mat, write_splits

Hot = tuple[tuple[int, int], ...]
FRAMES = 2
X = "img-a-p-001t000.jpg", "depth_sph_corr-a-p-001t000.mat"


@dataclass(frozen=True)
class Seed:
    """A valid file: its bytes, where in it meaning is dense, and texts of its format."""

    name: str
    data: bytes
    hot: Hot = ()
    words: tuple[bytes, ...] = field(default=(), repr=False)


def hdf5_seeds(folder: Path) -> list[Seed]:
    """Labelled files in chunks of every kind, in one piece, and in HDF5's newest form."""
    seeds = []
    kinds: Mapping[str, Mapping[str, object]] = {
        "gzip": {},
        "shuffle": {"shuffle": True, "fletcher32": True},
        "span": {"chunks": 2},
        "tiles": {"chunks": (1, 160, 480)},
        "lzf": {"compression": "lzf"},
        "contiguous": {"chunks": None, "compression": None},
    }
    for name, options in kinds.items():
        path = folder / f"{name}.mat"
        write_nyu_mat(path, _rooms(), ["den_0001a", "den_0001b"][:FRAMES], ["den"] * FRAMES, **options)  # type: ignore[arg-type]
        seeds.append(_hdf5_seed(name, path))
    latest = folder / "latest.mat"
    with h5py.File(folder / "shuffle.mat") as old, h5py.File(latest, "w", libver="latest") as new:
        for variable in ("images", "depths", "scenes", "#refs#"):
            old.copy(variable, new)
    return [*seeds, _hdf5_seed("latest", latest)]


def _rooms() -> list[LabelledFrame]:
    flat_HW = np.zeros((480, 640), np.float32)
    rgb_HWC = np.zeros((480, 640, 3), np.uint8)
    rooms = []
    for number in range(FRAMES):
        rgb_HWC[100:300, 50 * number : 200] = 40 + number
        rooms.append(LabelledFrame(rgb_HWC.copy(), flat_HW + 1.5, flat_HW + 1.25, flat_HW.astype(np.uint16) + 1))
    return rooms


def _hdf5_seed(name: str, path: Path) -> Seed:
    """What lies between the chunks is what says where and of what kind they are."""
    data = path.read_bytes()
    taken = np.zeros(len(data) + 1, bool)
    with h5py.File(path) as file:
        shift = 0
        for variable in ("images", "depths", "rawDepths", "labels", "instances"):
            if variable not in file:
                continue
            dataset = file[variable]
            if dataset.chunks is None:
                start = dataset.id.get_offset()
                taken[start : start + dataset.id.get_storage_size()] = True
                continue
            dataset.id.chunk_iter(lambda c: taken.__setitem__(slice(shift + c.byte_offset, c.byte_offset + c.size), 1))
    taken[-1] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[True], taken]).astype(np.int8)))
    hot = tuple((int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True))
    words = (b"SNOD", b"TREE", b"HEAP", b"OHDR", b"FRHP", b"OCHK", b"images", b"depths", b"/etc/passwd\0", b"\xff" * 8)
    return Seed(name, data, hot, words)


def mat5_seeds(folder: Path) -> list[Seed]:
    """``splits.mat`` and depth grids of Make3D: packed and plain, of both byte orders, with other variables about."""
    grid_HW4 = (np.random.default_rng(0).integers(200, 900, (55, 305, 4)) // 100 * 1.0).astype(np.float64)
    path = folder / "x.mat"
    seeds = []

    def add(name: str) -> None:
        words = (struct.pack("<II", 14, 64), struct.pack("<II", 15, 64), struct.pack("<I", 0x00040005), b"x\x9c")
        data = path.read_bytes()
        seeds.append(Seed(name, data, ((100, 136), (128, 260), (128, min(len(data), 700))), words))

    write_splits(path, [1], [2])
    add("splits")
    write_numeric(path, {"trainNdxs": np.array([[1]], np.uint16), "testNdxs": np.array([[2.0]])}, compress=False)
    add("splits plain")
    for compress in (True, False):
        write_numeric(path, {"other": np.eye(3), "Position3DGrid": grid_HW4}, compress=compress)
        add("grid" if compress else "grid plain")
    path.write_bytes(_big_endian_splits())
    add("splits big-endian")
    return seeds


def _big_endian_splits() -> bytes:
    data = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H2s", 0x0100, b"MI")
    for name, number in ((b"trainNdxs", 1), (b"testNdxs", 2)):
        body = struct.pack(">4I", 6, 8, 11, 0) + struct.pack(">2I2i", 5, 8, 1, 1)
        body += struct.pack(">2I", 1, len(name)) + name.ljust(16, b"\0") + struct.pack(">HHHH", 2, 4, number, 0)
        data += struct.pack(">2I", 14, len(body)) + body
    return data


def jpeg_seeds() -> list[Seed]:
    """Baseline, progressive, grey, with EXIF, with restart markers, of odd sizes, and a few PNGs."""
    rng = np.random.default_rng(0)
    rgb_HWC = cv2.resize(rng.integers(0, 256, (8, 6, 3), np.uint8), (90, 120))
    kinds = {
        "baseline": (rgb_HWC, {}),
        "progressive": (rgb_HWC, {cv2.IMWRITE_JPEG_PROGRESSIVE: 1}),
        "restart": (rgb_HWC, {cv2.IMWRITE_JPEG_RST_INTERVAL: 2, cv2.IMWRITE_JPEG_OPTIMIZE: 1}),
        "grey": (rgb_HWC[..., 0], {}),
        "odd": (rgb_HWC[:61, :47], {cv2.IMWRITE_JPEG_SAMPLING_FACTOR: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411}),
    }
    words = (b"\xff\xd8", b"\xff\xda", b"\xff\xc2", b"\xff\xc4\0\x1f", b"\xff\xdb", b"\xff\xdd\0\4", b"\xff\xff",
             b"\xff\xd9", b"\xff\xe1\xff\xff", b"Exif\0\0", b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\2")  # fmt: skip
    seeds = [
        Seed(name, cv2.imencode(".jpg", pixels, [x for pair in options.items() for x in pair])[1].tobytes(),
             ((0, 640),), words) for name, (pixels, options) in kinds.items()
    ]  # fmt: skip
    tiff = b"II*\0\10\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    plain = seeds[0].data
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    seeds.append(Seed("exif", turned, ((0, 60), (0, 680)), words))
    chunks = (b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"eXIf", b"acTL")
    for name, pixels in (("png", rgb_HWC), ("grey png", rgb_HWC[..., 0]), ("deep png", rgb_HWC[..., 0] * np.uint16(9))):
        seeds.append(Seed(name, cv2.imencode(".png", pixels)[1].tobytes(), ((0, 60),), chunks))
    return seeds


def densedepth_members() -> dict[str, bytes]:
    """Three training pairs and two test pairs of ``nyu_data.zip``, and its lists."""
    grey_HW = np.repeat(np.repeat(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64), 10, 0), 10, 1)
    rgb_HWC = np.stack([grey_HW // 16] * 3, -1).astype(np.uint8)
    jpg = cv2.imencode(".jpg", rgb_HWC)[1].tobytes()
    depth, deep = (cv2.imencode(".png", grey_HW.astype(kind))[1].tobytes() for kind in (np.uint8, np.uint16))
    pairs = [f"data/nyu2_train/{scene}_out/{n}" for scene, n in (("den_0001a", 3), ("den_0001a", 10), ("office", 1))]
    members = {f"{name}{end}": data for name in pairs for end, data in ((".jpg", jpg), (".png", depth))}
    members |= {f"data/nyu2_test/{n:05d}_colors.png": cv2.imencode(".png", rgb_HWC)[1].tobytes() for n in range(2)}
    members |= {f"data/nyu2_test/{n:05d}_depth.png": deep for n in range(2)}
    members["data/nyu2_train.csv"] = "".join(f"{name}.jpg,{name}.png\n" for name in pairs).encode()
    members["data/nyu2_test.csv"] = b"".join(
        b"data/nyu2_test/%05d_colors.png,data/nyu2_test/%05d_depth.png\r\n" % (n, n) for n in range(2)
    )
    return members


def eigen_members() -> dict[str, bytes]:
    """One frame of ``nyu_test.zip``."""
    return {
        "eigen_test_rgb.npy": npy(np.full((1, 480, 640, 3), 9, np.uint8)),
        "eigen_test_depth.npy": npy(np.full((1, 480, 640), 2.5, np.float32)),
        "eigen_test_crop.npy": npy(np.array([20, 459, 24, 615])),
    }


def npy(array: npt.NDArray[np.generic]) -> bytes:
    """An array as NumPy saves it."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, zip64: bool = False) -> bytes:
    """An archive of them, with ZIP64's records on demand."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=1) as archive:
        for name, data in members.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=zip64) as file:
                file.write(data)
    return stream.getvalue()
