"""Hostile stores, with manifests whose root hash is right, as anybody can make them."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3
from numcodecs import zstd

from gfield.manifest import MANIFEST_PATH, Entry, Manifest, read_manifest
from tests.trust.hostile.kit import Arguments, Hostile, Kit

_SHARD = "80x60/rgb/c/1/0/0/0"
_TEXT = "name/c/0"
Change = Callable[[dict[str, Any], dict[str, Entry], Path, Path], None]


def _copied(kit: Kit, folder: Path) -> Path:
    shutil.copytree(kit.store, folder / "s.zarr")
    return folder / "s.zarr"


def _forged(change: Change, command: str = "verify") -> Callable[[Kit, Path, Path], Arguments]:
    """A store with another manifest, and files to it: ``change(attributes, files, store, outside)``."""

    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        store = _copied(kit, folder)
        manifest = read_manifest(store)
        attributes, files = json.loads(json.dumps(manifest.attributes)), dict(manifest.files)
        change(attributes, files, store, outside)
        (store / MANIFEST_PATH).write_bytes(Manifest(attributes, files).to_bytes())
        return ["gfield", command, store]

    return make


def _damaged(change: Callable[[Path, Path], None], *more: str, command: str = "verify") -> Callable[..., Arguments]:
    """A store whose files were changed, and repaired on demand: ``change(store, outside)``."""

    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        store = _copied(kit, folder)
        change(store, outside)
        return ["gfield", command, store, *[kit.store_mat if one == "MAT" else one for one in more]]

    return make


def _instead(path: str, make: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """Something else in the place of a file."""

    def change(store: Path, outside: Path) -> None:
        (store / path).unlink()
        make(store / path, outside)

    return change


def _pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def _device(path: Path, outside: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder_elsewhere(store: Path, outside: Path) -> None:
    """A folder of shards that leads to another one, where a repair would write."""
    shutil.rmtree(store / "80x60" / "rgb")
    (store / "80x60" / "rgb").symlink_to(outside)


def _spec(**values: Any) -> Change:
    return lambda attributes, files, store, outside: attributes["spec"].update(values)


def _listed(name: Callable[[Path], str]) -> Change:
    """One more file in the manifest."""

    def change(attributes: dict[str, Any], files: dict[str, Entry], store: Path, outside: Path) -> None:
        files[name(outside)] = Entry(24, "0" * 64, "")

    return change


def _text(chunk: Callable[[int], bytes]) -> Change:
    """Another chunk of names, of so many frames."""

    def change(attributes: dict[str, Any], files: dict[str, Entry], store: Path, outside: Path) -> None:
        data = chunk(attributes["spec"]["frames"])
        (store / _TEXT).write_bytes(data)
        files[_TEXT] = Entry(len(data), blake3(data).hexdigest(), "")

    return change


def _names(*lengths: int) -> Callable[[int], bytes]:
    def chunk(frames: int) -> bytes:
        texts = b"".join(struct.pack("<I", length) for length in lengths)
        return zstd.compress(struct.pack("<I", frames) + texts, 3, checksum=True)

    return chunk


def _zstd_bomb(frames: int) -> bytes:
    """A frame of Zstandard that says of itself that it holds 2**40 bytes."""
    return b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + struct.pack("<Q", 1 << 40) + b"\1\0\0"


def _long_name(frames: int) -> bytes:
    """One name that every other one would get as much room as."""
    body = struct.pack("<I", frames) + struct.pack("<I", 1 << 27) + b"x" * (1 << 27) + bytes(4 * (frames - 1))
    return zstd.compress(body, 1, checksum=True)


def _source_elsewhere(attributes: dict[str, Any], files: dict[str, Entry], store: Path, outside: Path) -> None:
    attributes["source_files"].append({"name": f"{outside}/secret", "size": 1, "sha256": ""})


def _terminal(attributes: dict[str, Any], files: dict[str, Entry], store: Path, outside: Path) -> None:
    attributes["title"] = "\x1b[2J\x1b]0;owned\x07"
    attributes["left_out"] = [{"name": "a\x1b[31m", "reason": "b\nc"}]
    attributes["source_files"] = [{"name": "\x1b[31m", "size": 1, "sha256": ""}]


def _deep(store: Path, outside: Path) -> None:
    (store / MANIFEST_PATH).write_bytes(b'{"attributes":' * 100_000)


def _digits(store: Path, outside: Path) -> None:
    (store / MANIFEST_PATH).write_bytes(b'{"attributes":{"files":{},"attributes":' + b"9" * 10_000 + b"}}")


def _lists(store: Path, outside: Path) -> None:
    (store / MANIFEST_PATH).write_bytes(b'{"attributes":[' + b"[]," * 8_000_000 + b"[]]}")


def _endless(store: Path, outside: Path) -> None:
    with (store / MANIFEST_PATH).open("r+b") as file:
        file.truncate(1 << 40)


_SAID = ["s.zarr"]
_NONE = [*_SAID, "of no store that can be"]
_SIDE = 1 << 30
STORES = {
    "a shard is a pipe": Hostile(_damaged(_instead(_SHARD, _pipe)), [_SHARD], 3),
    "a shard is /dev/zero": Hostile(_damaged(_instead(_SHARD, _device)), [_SHARD], 3),
    "a shard is another's file": Hostile(
        _damaged(_instead(_SHARD, lambda path, outside: path.symlink_to("/etc/passwd"))), [_SHARD], 3
    ),
    "names are a pipe": Hostile(_damaged(_instead(_TEXT, _pipe), command="preview"), [*_SAID, "not a regular file"]),
    "names' metadata are /dev/zero": Hostile(_damaged(_instead("split/zarr.json", _device), command="preview"), _SAID),
    "the manifest is a pipe": Hostile(_damaged(_instead(MANIFEST_PATH, _pipe)), [*_SAID, "not a regular file"]),
    "the manifest is /dev/zero": Hostile(_damaged(_instead(MANIFEST_PATH, _device)), [*_SAID, "not a regular file"]),
    "the manifest has a terabyte": Hostile(_damaged(_endless), [*_SAID, "bytes"]),
    "the manifest is 100,000 deep": Hostile(_damaged(_deep), [*_SAID, "damaged"]),
    "a number of 10,000 digits": Hostile(_damaged(_digits), [*_SAID, "damaged"]),
    "eight million lists": Hostile(_damaged(_lists), [*_SAID, "damaged"]),
    "repair behind a link": Hostile(
        _damaged(_folder_elsewhere, "--repair", "MAT"), [*_SAID, "a link, wanted a folder"]
    ),
    "a file outside": Hostile(
        _forged(_listed(lambda outside: "../outside/secret")), [*_SAID, "leads out of the store"]
    ),
    "a file at an absolute path": Hostile(
        _forged(_listed(lambda outside: f"{outside}/secret")), [*_SAID, "leads out of the store"]
    ),
    "a file whose name is for terminals": Hostile(
        _forged(_listed(lambda outside: "\x1b[2J")), [*_SAID, "leads out of the store"]
    ),
    "10**12 frames": Hostile(_forged(_spec(frames=10**12)), _NONE),
    "frames without shards": Hostile(_forged(_spec(frames=4_000_000)), _NONE),
    "shards of 4 million frames": Hostile(
        _forged(_spec(frames=4_000_000, frames_per_shard=4_000_000)), [_SHARD[:5]], 3
    ),
    "no frames a shard": Hostile(_forged(_spec(frames_per_shard=0)), _NONE),
    "pictures of 2**30 x 2**30": Hostile(_forged(_spec(size_WH=[_SIDE, _SIDE], levels_WH=[[_SIDE, _SIDE]])), _NONE),
    "negative pictures": Hostile(_forged(_spec(size_WH=[-640, 480])), _NONE),
    "an unknown codec": Hostile(_forged(_spec(codec="pickle")), _NONE),
    "an unknown array": Hostile(_forged(_spec(arrays=["rgb", "gradient", "../../x"])), _NONE),
    "an unknown kind": Hostile(_forged(_spec(kind="\x1b[2J"), "info"), ["root hash"], 0),
    "an operator that is none": Hostile(_forged(_spec(operator={"low": "rm -rf"})), [*_SAID, "operator has low"]),
    "a region outside the picture": Hostile(
        _forged(_spec(valid_region={"top": 0, "bottom": 9999, "left": 0, "right": 8})), _NONE
    ),
    "a source elsewhere": Hostile(_forged(_source_elsewhere), _NONE),
    "names of 2**40 bytes": Hostile(_forged(_text(_zstd_bomb), "preview"), [*_SAID, "bytes of text; at most"]),
    "a name of 4 GB": Hostile(_forged(_text(_names(0xFFFFFFF0)), "preview"), [*_SAID, "does not decode"]),
    "a name that all make room for": Hostile(_forged(_text(_long_name), "preview"), [*_SAID, "at most"]),
    "texts for terminals": Hostile(_forged(_terminal, "info"), ["root hash"], 0),
}
