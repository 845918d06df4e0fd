"""``python -m gfield.confined``: answer calls until nobody asks any more. Started by `gfield.confine`."""

from __future__ import annotations

import importlib
import json
import mmap
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gfield.confined import CALLS
from gfield.confined.result import Memory, Result, Room
from gfield.frame import InputError

MEMORY_BYTES = 1 << 30


def main() -> None:
    """Serve calls from standard input, with the shared memory whose descriptor is the first argument."""
    if len(sys.argv) < 2:
        sys.exit("this process is started by gfield.confine; all that it needs to start is there")
    memory = Memory(int(sys.argv[1]))
    _limit()
    for module in sys.argv[2:]:
        importlib.import_module(f"gfield.confined.{module}")
    # What a library may print goes elsewhere, lest it be taken for an answer.
    with open(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        for line in sys.stdin.buffer:
            request = json.loads(line)
            _allow(request["seconds"])
            with suppress(OSError, TypeError):
                os.chdir(request["folder"])
            answers.write(json.dumps(_answered(request, memory)).encode() + b"\n")
            answers.flush()


def _limit() -> None:
    """A gibibyte more than there is now, no file written, no core dumped."""
    with suppress(OSError, ValueError), open("/proc/self/statm") as pages:
        used = int(pages.read().split()[0]) * mmap.PAGESIZE
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = used + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (wanted if most < 0 else min(wanted, most), most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _allow(seconds: int) -> None:
    """So much more processor time; a process that goes on after that is ended by the system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if most < 0 else min(wanted, most), most))


def _answered(request: dict[str, Any], memory: Memory) -> dict[str, Any]:
    what = request["what"]
    try:
        module, function = CALLS[request["call"]]
        parse: Callable[..., Result] = getattr(importlib.import_module(f"gfield.confined.{module}"), function)
        room = Room(memory, request["bytes"])
        result = parse(what=what, room=room, **request["arguments"])
        return {"value": result.value, "arrays": [room.place(array) for array in result.arrays]}
    except InputError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {
            "refused": f"{what}: takes more than {MEMORY_BYTES >> 20} MiB of memory to parse; a smaller file wanted"
        }
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
