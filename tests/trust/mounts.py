"""Mounts that nobody else sees, and an owner whom permissions bind."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_CAPABILITY_VERSION = 0x20080522
_ABOVE_PERMISSIONS = 1 << 1 | 1 << 2 | 1 << 3  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER


def have_own_mounts() -> None:
    """Let this process, and those it starts, see mounts of their own, which go with them.

    Raises
    ------
    PermissionError
        Where the system lets nobody do so.
    """
    user, group = os.getuid(), os.getgid()
    if user != 0:
        _check(_libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    else:
        _check(_libc().unshare(_CLONE_NEWNS))
    _mount("none", Path("/"), "", _MS_REC | _MS_PRIVATE, "")


def small_disk(folder: Path, options: str) -> None:
    """Put a file system in memory on a folder, with options such as ``size=64k``."""
    _mount("trust", folder, "tmpfs", 0, options)


def resize(folder: Path, options: str) -> None:
    """Give a `small_disk` another size."""
    _mount("trust", folder, "tmpfs", _MS_REMOUNT, options)


def read_only(folder: Path) -> None:
    """Make a folder one that nobody can write to."""
    _mount(str(folder), folder, "", _MS_BIND, "")
    _mount("none", folder, "", _MS_BIND | _MS_REMOUNT | _MS_RDONLY, "")


def writable_again(folder: Path) -> None:
    """Undo `read_only`."""
    _check(_libc().umount2(os.fsencode(folder), _MNT_DETACH))


def obey_permissions() -> None:
    """Take from this process, where it is root's, what lets root pass over permissions; for good."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    words = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same for numbers from 32 on
    _check(_libc().capget(header, words))
    for word in range(3):
        words[word] &= ~_ABOVE_PERMISSIONS
    _check(_libc().capset(header, words))


def _mount(source: str, folder: Path, kind: str, flags: int, options: str) -> None:
    _check(_libc().mount(source.encode(), os.fsencode(folder), kind.encode(), flags, options.encode()))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
