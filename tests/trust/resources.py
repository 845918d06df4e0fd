"""Too little of something, or an odd one: descriptors, memory, disk, permissions, names, clocks, standard streams."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import cli  # noqa: F401  # what is forked from this process shall find all loaded
from gfield.cluster.opening import local_cluster  # noqa: F401
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import in_child
from tests.trust.inputs import Small, small
from tests.trust.mounts import also_at, have_own_mounts, obey_permissions, read_only, resize, small_disk, writable_again
from tests.trust.room import Room, pictures_of

MIB = 1 << 20
NAMES = {
    "of letters of many scripts": "Küche 部屋 комната 🛋.zarr",
    "with spaces and quotes": " a 'store' of \"mine\" .zarr",
    "with an end of line": "two\nlines.zarr",
    "that is a pattern": "[a-z]*?.zarr",
    "that looks like an option": "--help",
    "that is no UTF-8": os.fsdecode(b"k\xfcche.zarr"),
    "of 230 letters": "n" * 230,
    "of 255 letters": "n" * 255,
    "of 300 letters": "n" * 300,
}


def descriptors(room: Room, count: int) -> None:
    """A process may have no more than so many open files."""
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (count, count))
    room.run(room.build(), limit)
    room.mend()
    room.see(limit)


def memory(room: Room, more: int) -> None:
    """A process may have no more than so many MiB of addresses, besides those that it begins with.

    Where there is not enough for another thread, only what needs none is run: Python 3.11 itself may wait for ever for
    a thread that found no memory to begin with (`threading.Thread.start`).
    """

    def limit() -> None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more * MIB, now + more * MIB))

    if more >= 256:
        room.run(room.build(), limit)
        room.mend()
        room.see(limit)
    else:
        room.mend()
        room.run(["info", "--", str(room.store)], limit)
        room.run(["plan", *room.build()[1:]], limit)


def full_disk(room: Room, options: str) -> None:
    """The target's disk is too small for the store."""
    have_own_mounts()
    small_disk(room.store.parent, options)
    if room.run(room.build()):
        raise Wrong(f"a store was built on a disk of {options}")
    resize(room.store.parent, "size=64m,nr_inodes=10k")
    room.mend()


def full_disk_under_a_store(room: Room) -> None:
    """A store is read, and built again, where nothing more fits on its disk."""
    have_own_mounts()
    small_disk(room.store.parent, "size=1m")
    room.mend()
    with (room.store.parent / "rest").open("wb", buffering=0) as rest:
        try:
            while True:
                rest.write(bytes(4096))
        except OSError:
            pass
    for command in (["info", str(room.store)], ["verify", "--all", str(room.store)], room.build()):
        if not room.run(command):
            raise Wrong(f"{command[0]} wants room on the disk")
    room.run(room.build("--low", "20", "--overwrite"))
    (room.store.parent / "rest").unlink()
    room.see()
    room.run(room.build("--overwrite"))
    room.mend()


def full_shared_memory(room: Room) -> None:
    """Nothing more fits into /dev/shm."""
    have_own_mounts()
    # The case's folder may lie in it.
    place = Path("/mnt")
    also_at(room.folder, place)
    room.mat, room.store = (place / path.relative_to(room.folder) for path in (room.mat, room.store))
    room.folder = place
    small_disk(Path("/dev/shm"), "size=4k,nr_inodes=2")
    Path("/dev/shm/full").write_bytes(bytes(4096))
    room.run(room.build("--workers", "1"))
    room.mend()
    room.see()


def read_only_disk(room: Room) -> None:
    """The target's folder is on a disk that nobody may write to: before a build, in the midst of one, and after."""
    have_own_mounts()
    _refused_then_mended(room, partial(read_only, room.store.parent), partial(writable_again, room.store.parent))


def no_permission(room: Room) -> None:
    """The target's folder is not ours to write to."""
    _refused_then_mended(
        room, partial(room.store.parent.chmod, 0o555), partial(room.store.parent.chmod, 0o755), obey_permissions
    )


def _refused_then_mended(
    room: Room, forbid: Callable[[], object], allow: Callable[[], object], before: Callable[[], object] = lambda: None
) -> None:
    forbid()
    if room.run(room.build(), before):
        raise Wrong("a store was built where nobody may write")
    allow()
    room.run(room.build("--part", "1/2"))
    forbid()
    if room.run(room.build("--part", "2/2"), before):
        raise Wrong("a part was built where nobody may write")
    allow()
    room.mend()
    forbid()
    for command in (["info", str(room.store)], ["verify", "--all", str(room.store)], room.build()):
        if not room.run(command, before):
            raise Wrong(f"{command[0]} wants to write to a finished store")
    if room.run(room.build("--overwrite"), before):
        raise Wrong("a store was replaced where nobody may write")
    allow()
    room.see()


def unreadable_input(room: Room) -> None:
    """The input is not ours to read."""
    room.mat.chmod(0)
    if room.run(room.build(), obey_permissions):
        raise Wrong("an input was read that nobody may read")
    room.mat.chmod(0o644)
    room.mend()


def name_of_the_store(room: Room, name: str) -> None:
    """The store has an odd name."""
    room.store = room.store.with_name(name)
    _see_a_name(room)


def name_of_the_input(room: Room, name: str) -> None:
    """The input lies in a folder with an odd name; then it has one itself, which is part of the store."""
    room.mat = room.mat.parent.rename(room.folder / name[:250]) / room.mat.name
    room.mend()
    room.mat = room.mat.rename(room.mat.with_name(name[:250] + ".mat"))
    room.store = room.store.with_name("other.zarr")
    room.run(room.build("--on-error", "skip"))


def _see_a_name(room: Room) -> None:
    if room.run(room.build()):
        room.mend()
        room.see()
        room.run(room.build("--low", "20"))
        room.run(["info", "--json", "--", str(room.store)])
    elif len(os.fsencode(room.store.name)) < 230:
        raise Wrong(f"no store of the name {room.store.name!r} can be built")


def clocks(room: Room, first: float, then: float) -> None:
    """All files seem to have been written at one time, and, when a build goes on, at another."""
    for seconds in (first, then):
        for path in (room.mat, *room.store.parent.rglob("*")):
            os.utime(path, (seconds, seconds))
        room.run(room.build("--part", "1/2"))
    room.mend()
    for path in room.store.rglob("*"):
        os.utime(path, (first, first))
    room.see()
    room.mend()


def closed_streams(room: Room, closed: str) -> None:
    """Standard streams are closed when a command begins, which is no reason not to do its work."""
    room.deaf = "2>&-" in closed
    for command in (room.build(), ["verify", "--all", "--", str(room.store)], room.build("--json")):
        if not room.run_anew(command, f'exec "$@" {closed}'):
            raise Wrong(f"{command[0]} does nothing with {closed}")
    room.mend()
    room.see()


def full_output(room: Room) -> None:
    """Standard output leads to a full disk."""
    for command in (room.build(), ["verify", "--all", "--", str(room.store)], ["info", "--", str(room.store)]):
        if room.run_anew(command, 'exec "$@" > /dev/full'):
            raise Wrong(f"{command[0]} does not say that nobody has heard it")
    room.mend()


def no_home(room: Room) -> None:
    """HOME is not set, and TMPDIR leads nowhere."""
    for command in (room.build(), ["info", str(room.store)], ["verify", str(room.store)]):
        if not room.run_anew(command, 'exec "$@"', TMPDIR="/nowhere"):
            raise Wrong(f"{command[0]} wants a home")
    room.mend()


def no_temporary_folder(room: Room) -> None:
    """TMPDIR is not ours to write to, and local processes build."""
    folder = room.folder / "tmp"
    folder.mkdir(mode=0o555)

    def before() -> None:
        obey_permissions()
        os.environ["TMPDIR"] = str(folder)

    room.run(room.build("--workers", "1"), before)
    room.mend()
    room.see(before)


def no_current_folder(room: Room) -> None:
    """The current folder is gone."""

    def before() -> None:
        gone = room.folder / "gone"
        gone.mkdir()
        os.chdir(gone)
        gone.rmdir()

    if not room.run(room.build(), before):
        raise Wrong("a build by full paths wants a current folder")
    room.see(before)
    room.store, store = Path("s.zarr"), room.store
    if room.run(room.build(), before):
        raise Wrong("a store was built in a folder that is gone")
    room.store = store
    room.mend()


CASES: dict[str, Callable[[Room], None]] = {
    **{f"{count} descriptors": partial(descriptors, count=count) for count in (64, 32, 24, 16, 12, 9)},
    **{f"{more} MiB more": partial(memory, more=more) for more in (0, 8, 64, 256, 512, 1024)},
    **{f"a disk of {size}": partial(full_disk, options=f"size={size}") for size in ("8k", "24k", "48k", "72k", "96k")},
    **{f"{n} inodes": partial(full_disk, options=f"size=1m,nr_inodes={n}") for n in (2, 5, 12, 30, 50)},
    "a store on a full disk": full_disk_under_a_store,
    "a full /dev/shm": full_shared_memory,
    "a read-only disk": read_only_disk,
    "no permission": no_permission,
    "an unreadable input": unreadable_input,
    **{f"a store's name {what}": partial(name_of_the_store, name=name) for what, name in NAMES.items()},
    **{f"an input's name {what}": partial(name_of_the_input, name=name) for what, name in NAMES.items()},
    "a clock that goes back": partial(clocks, first=4e9, then=1e9),
    "a clock at zero": partial(clocks, first=0.0, then=0.0),
    "a clock before 1970": partial(clocks, first=-1e9, then=1e9),
    **{f"streams {how}": partial(closed_streams, closed=how) for how in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")},
    "standard output on a full disk": full_output,
    "no HOME": no_home,
    "no TMPDIR": no_temporary_folder,
    "no current folder": no_current_folder,
}


def _prepare(folder: Path) -> tuple[Small, list[bytes]]:
    of = small(folder)
    return of, pictures_of(of.store)


def _case(prepared: tuple[Small, list[bytes]], number: int, rng: np.random.Generator, folder: Path) -> str:
    del rng
    name, (of, pictures) = [*CASES][number], prepared
    inputs, stores = folder / "inputs", folder / "stores"
    inputs.mkdir()
    stores.mkdir()
    mat = Path(shutil.copy(of.mat, inputs / of.mat.name))
    shutil.copy(of.folder / "splits.mat", inputs / "splits.mat")
    # In a child, with which its mounts go.
    return in_child(_inside, name, Room(of, folder, mat, stores / "s.zarr", pictures), seconds=SECONDS)


def _inside(name: str, room: Room) -> str:
    CASES[name](room)
    return name


SECONDS = 110.0
CAMPAIGNS = [
    Campaign(
        "resources",
        "too few descriptors, too little memory, disk or permission, odd names, clocks and standard streams",
        "each command works, or ends with an exit code and one line that says why not; once nothing is in its way the "
        "build gives the store of an undisturbed one",
        quick=len(CASES),
        soak=len(CASES),
        prepare=_prepare,
        case=_case,
    )
]
