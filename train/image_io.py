"""Pictures in, depth out: files of people and cameras are read with care, results are written whole or not at all."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from train.depth_picture import depth_picture
from train.errors import PictureError, TrainError
from train.files import write_atomically

# 16-bit millimetres end here; what is farther is written as this.
MAX_PNG_M = 65.535

_MAX_PIXELS = 64_000_000
_MAX_BYTES = 256 * 1024 * 1024
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_JPEG_HEAD = b"\xff\xd8\xff"
_JPEG_COLOURS = ("YCbCr", "RGB", "Gray")


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read a JPEG or PNG picture as it is meant to be seen.

    EXIF's orientation is applied; greys become equal colours; an alpha channel is left out; of 16 bits
    the upper 8 count. Size is told from the header before pixels are made, and damage is an error: decoders fill in
    what is missing and only warn.

    Parameters
    ----------
    path
        The file; its content tells the format, not its name.

    Returns
    -------
    ndarray
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises
    ------
    PictureError
        If the file cannot be read, is no JPEG or PNG, is damaged, in CMYK, or larger than 64 million pixels.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise PictureError(f"{path}: {size} bytes, wanted at most {_MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path}: {error.strerror}") from error
    if data.startswith(_PNG_HEAD):
        _check_png(path, data)
    elif data.startswith(_JPEG_HEAD):
        _check_jpeg(path, data)
    else:
        raise PictureError(f"{path}: begins with {data[:4].hex(' ') or 'nothing'}, wanted a JPEG or PNG picture")
    try:
        # OpenCV and not the JPEG library alone: it turns pictures by EXIF, and decodes JPEG to the same bits.
        bgr_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        bgr_HWC = None
    if bgr_HWC is None:
        raise PictureError(f"{path}: the pixels are damaged, wanted a whole picture")
    return cv2.cvtColor(bgr_HWC, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def prediction_stems(images: Sequence[Path], out: Path | None) -> dict[Path, Path]:
    """Where the predictions of pictures go: beside each, or all into one folder; no two to one place.

    Parameters
    ----------
    images
        Files of pictures. One that is named twice counts once.
    out
        The folder, or None.

    Returns
    -------
    dict
        Path without suffix, for `write_prediction`, by picture: ``room-depth`` for ``room.jpg``, or
        ``room.jpg-depth`` where ``room.png`` is there too.

    Raises
    ------
    TrainError
        If pictures of the same name from several folders would meet in ``out``.
    """
    given = list(dict.fromkeys(images))
    folders = [out or image.parent for image in given]
    short = [folder / f"{image.stem}-depth" for folder, image in zip(folders, given, strict=True)]
    long = [folder / f"{image.name}-depth" for folder, image in zip(folders, given, strict=True)]
    stems = short if len(set(short)) == len(given) else long
    if len(set(stems)) < len(given):
        one, other = [image for image, stem in zip(given, stems, strict=True) if stems.count(stem) > 1][:2]
        raise TrainError(f"{one} and {other}: one name, and one folder for the results; wanted an --out for each")
    return dict(zip(given, stems, strict=True))


def write_prediction(depth_HW: npt.NDArray[np.float32], stem: Path) -> tuple[Path, Path, Path]:
    """Write a prediction in three files, each whole or not at all, and each in place of what had its name.

    Parameters
    ----------
    depth_HW
        float32 metres; NaN where there is none.
    stem
        Path without suffix.

    Returns
    -------
    tuple of Path
        ``STEM.png``: 16-bit millimetres, rounded, 0 where there is no depth, 65535 beyond `MAX_PNG_M`.
        ``STEM-colour.png``: `train.depth_picture.depth_picture`. ``STEM.npy``: the array as it is.

    Raises
    ------
    TrainError
        If the files cannot be written.
    """
    millimetres_HW = np.rint(np.nan_to_num(depth_HW, nan=0.0).clip(0, MAX_PNG_M) * 1000).astype(np.uint16)
    array = BytesIO()
    np.save(array, np.ascontiguousarray(depth_HW, np.float32))
    bgr_HWC = np.ascontiguousarray(depth_picture(depth_HW)[..., ::-1])
    files = {
        Path(f"{stem}.png"): _encode_png(millimetres_HW),
        Path(f"{stem}-colour.png"): _encode_png(bgr_HWC),
        Path(f"{stem}.npy"): array.getvalue(),
    }
    for path, data in files.items():
        try:
            write_atomically(path, data)
        except OSError as error:
            raise TrainError(f"{path}: {error.strerror}, wanted a folder that can be written") from error
    png, colour, npy = files
    return png, colour, npy


def _check_png(path: Path, data: bytes) -> None:
    """Refuse a PNG that is too large, cut off or damaged: it is chunks of length, name, data and CRC-32, to IEND."""
    at = len(_PNG_HEAD)
    name = b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at) if at + 8 <= len(data) else (0, b"")
        end = at + 12 + length
        if not name or end > len(data):
            raise PictureError(f"{path}: ends after {len(data)} bytes within a chunk, wanted a whole PNG")
        if at == len(_PNG_HEAD):
            _check_png_size(path, name, data[at + 8 : end - 4])
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise PictureError(f"{path}: the checksum at byte {end - 4} is wrong, wanted an undamaged PNG")
        at = end


def _check_png_size(path: Path, name: bytes, header: bytes) -> None:
    if name != b"IHDR" or len(header) != 13:
        raise PictureError(f"{path}: its first chunk is {name!r}, wanted a PNG that begins with its size")
    _check_pixels(path, *struct.unpack_from(">II", header))


def _check_jpeg(path: Path, data: bytes) -> None:
    """Refuse a JPEG that is too large, in CMYK, cut off or damaged, by decoding it once where warnings are errors."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise PictureError(f"{path}: no readable JPEG header, wanted a JPEG picture") from error
    _check_pixels(path, width, height)
    if colours not in _JPEG_COLOURS:
        raise PictureError(f"{path}: colours are {colours}, wanted {', '.join(_JPEG_COLOURS)}")
    try:
        simplejpeg.decode_jpeg(data, "GRAY", strict=True)
    except ValueError as error:
        raise PictureError(f"{path}: {error}, wanted a whole JPEG") from error


def _check_pixels(path: Path, width: int, height: int) -> None:
    if not 0 < width * height <= _MAX_PIXELS:
        raise PictureError(f"{path}: {width} x {height} pixels, wanted 1 to {_MAX_PIXELS} in all")


def _encode_png(array: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    done, data = cv2.imencode(".png", array)
    assert done
    return data.tobytes()
