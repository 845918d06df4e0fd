"""The same pairs of RGB + field in the formats of other libraries: how each is written, and read in shuffled batches.

Every format holds raw arrays, uncompressed and without checksums, as that is what each reads fastest; zarr-python also
reads our own store. With ``by_hand``, a batch is put together by one's own function. A reader is a function of a path
and a number of DataLoader workers, and gives an `Epoch`: what gives the batches of an epoch by its number, as torch
tensors rgb uint8 (64, 480, 640, 3) and gradient float16 (64, 480, 640).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, default_collate

from gfield import open_store

BATCH = 64
FRAMES_PER_TAR = 32
SHAPES = {"rgb": (480, 640, 3), "gradient": (480, 640)}
TYPES = {"rgb": np.uint8, "gradient": np.float16}
KEYS = {name: f"640x480/{name}" for name in SHAPES}
Pair = tuple[torch.Tensor, torch.Tensor]
Epoch = Callable[[int], Iterator[Pair]]

# Bytes that belong to a file or a message are taken for tensors that nobody writes to.
warnings.filterwarnings("ignore", message="The given (NumPy array|buffer) is not writable")


def pairs_of(store: Path) -> Iterator[dict[str, Any]]:
    """Row, and both arrays, of every frame of one of our stores."""
    opened = open_store(store)
    for row in range(len(opened)):
        yield {"row": row, **{name: opened.read(key, [row])[0] for name, key in KEYS.items()}}


def pair(store: Path, row: int) -> dict[str, torch.Tensor]:
    """One pair of one of our stores."""
    opened = open_store(store)
    return {name: torch.from_numpy(opened.read(key, [row])[0]) for name, key in KEYS.items()}


def _collated(samples: list[Any]) -> Pair:
    """A batch of samples, each a mapping or a pair of arrays or tensors, by torch, as all of these libraries do."""
    rgb, gradient = default_collate(_as_pairs(samples))
    return rgb, gradient


def _stacked(samples: list[Any]) -> Pair:
    """The same by NumPy, several times as fast outside workers: it asks the system for huge pages, torch does not."""
    rgb, gradient = (torch.from_numpy(np.stack(column)) for column in zip(*_as_pairs(samples), strict=True))
    return rgb, gradient


def _as_pairs(samples: list[Any]) -> list[Any]:
    return [tuple(one[name] for name in SHAPES) if isinstance(one, dict) else one for one in samples]


def _loader(data: Any, workers: int, **options: Any) -> Any:
    return DataLoader(data, num_workers=workers, persistent_workers=workers > 0, **options)


# LitData


def write_litdata(store: Path, folder: Path) -> None:
    """`optimize` needs a function that its processes can import."""
    from litdata import optimize

    optimize(
        fn=partial(pair, store),
        inputs=list(range(len(open_store(store)))),
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
    )


def read_litdata(path: Path, workers: int, by_hand: bool = False) -> Epoch:
    """Its own data set and loader."""
    from litdata import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(str(path), shuffle=True, drop_last=True)
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = StreamingDataLoader(data, batch_size=BATCH, collate_fn=_stacked if by_hand else _collated, **options)
    return lambda epoch: iter(loader)


# zarr-python


def write_zarr(store: Path, folder: Path) -> None:
    """A file a frame, which zarr-python reads faster than frames of a shard."""
    import zarr

    root, frames = zarr.open_group(folder, mode="w"), len(open_store(store))
    arrays = {
        key: root.create_array(
            key,
            shape=(frames, *SHAPES[name]),
            chunks=(1, *SHAPES[name]),
            dtype=TYPES[name],
            compressors=None,
        )
        for name, key in KEYS.items()
    }
    for one in pairs_of(store):
        for name, key in KEYS.items():
            arrays[key][one["row"]] = one[name]


class ZarrPairs(Dataset[Any]):
    """Frames of a Zarr store by zarr-python, one by one: many at once, by ``oindex``, take it several times as long."""

    def __init__(self, path: Path) -> None:
        import zarr

        self._path = path
        self._arrays: list[Any] = []
        self._frames = zarr.open_group(path, mode="r")[KEYS["rgb"]].shape[0]

    def __len__(self) -> int:
        """Number of frames."""
        return int(self._frames)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        """Both arrays of a frame."""
        import zarr

        if not self._arrays:  # in the process that reads
            root = zarr.open_group(self._path, mode="r")
            self._arrays = [root[key] for key in KEYS.values()]
        return tuple(array[row] for array in self._arrays)


def read_zarr(path: Path, workers: int, by_hand: bool = False) -> Epoch:
    """A data set of one's own under torch's loader."""
    loader = _loader(
        ZarrPairs(path),
        workers,
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        collate_fn=_stacked if by_hand else _collated,
    )
    return lambda epoch: iter(loader)


# MosaicML Streaming


def write_mosaic(store: Path, folder: Path) -> None:
    """MDS shards of 64 MiB, arrays of a fixed shape and type."""
    from streaming import MDSWriter

    kinds = {name: f"ndarray:{np.dtype(TYPES[name])}:{','.join(map(str, SHAPES[name]))}" for name in SHAPES}
    with MDSWriter(out=str(folder), columns=kinds) as writer:
        for one in pairs_of(store):
            writer.write({name: one[name] for name in SHAPES})


def read_mosaic(path: Path, workers: int, by_hand: bool = False) -> Epoch:
    """Its data set on local files, under torch's loader."""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    data = StreamingDataset(local=str(path), shuffle=True, batch_size=BATCH)
    loader = _loader(data, workers, batch_size=BATCH, drop_last=True, collate_fn=_stacked if by_hand else _collated)
    return lambda epoch: iter(loader)


# WebDataset


def write_webdataset(store: Path, folder: Path) -> None:
    """Raw bytes in tar files of 32 frames."""
    import webdataset

    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%04d.tar"), maxcount=FRAMES_PER_TAR, verbose=0) as writer:
        for one in pairs_of(store):
            writer.write({"__key__": f"{one['row']:06d}", **{name: one[name].tobytes() for name in SHAPES}})


def _decoded(sample: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(np.frombuffer(sample[name], TYPES[name]).reshape(SHAPES[name]) for name in SHAPES)


def read_webdataset(path: Path, workers: int, by_hand: bool = False) -> Epoch:
    """Tar files in random order, through a shuffle buffer of two batches; batches made by the workers."""
    import webdataset

    tars = sorted(map(str, path.glob("*.tar")))
    data = (
        webdataset.WebDataset(tars, shardshuffle=len(tars), empty_check=False)
        .shuffle(2 * BATCH)
        .map(_decoded)
        .batched(BATCH, collation_fn=_stacked if by_hand else _collated, partial=False)
    )
    loader = _loader(data, workers, batch_size=None)
    return lambda epoch: iter(loader)


# Hugging Face datasets


def write_huggingface(store: Path, folder: Path) -> None:
    """Arrow files, a column of lists of fixed length an array: read several times as fast as `Array3D` columns."""
    import datasets
    import pyarrow

    datasets.disable_progress_bars()
    tables = [
        pyarrow.table(
            {
                name: pyarrow.FixedSizeListArray.from_arrays(one[name].ravel(), math.prod(shape))
                for name, shape in SHAPES.items()
            }
        )
        for one in pairs_of(store)
    ]
    datasets.Dataset(pyarrow.concat_tables(tables)).save_to_disk(str(folder))


def _from_numpy(columns: Any) -> Pair:
    rgb, gradient = (torch.from_numpy(columns[name].reshape(-1, *SHAPES[name])) for name in SHAPES)
    return rgb, gradient


def _from_arrow(table: Any) -> Pair:
    """One copy of each frame, out of the mapped file."""
    rgb, gradient = (
        torch.from_numpy(np.concatenate([part.flatten().to_numpy() for part in table[name].chunks]).reshape(-1, *shape))
        for name, shape in SHAPES.items()
    )
    return rgb, gradient


def read_huggingface(path: Path, workers: int, how: Literal["numpy", "arrow"]) -> Epoch:
    """Memory-mapped tables under torch's loader, a batch in one call: as NumPy's arrays, or by hand from Arrow's."""
    import datasets

    # Without it, NumPy's arrays would be of int64 and float32.
    types: dict[str, Any] = {"dtype": None} if how == "numpy" else {}
    data = datasets.load_from_disk(str(path)).with_format(how, **types)
    batches = BatchSampler(RandomSampler(data), BATCH, drop_last=True)
    collate = _from_arrow if how == "arrow" else _from_numpy
    loader = _loader(data, workers, batch_size=None, sampler=batches, collate_fn=collate)
    return lambda epoch: iter(loader)
