"""Where commands are run with something in their way: each works, or ends with one line that says why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cli
from gfield.frame import UserError
from gfield.store import open_store
from tests.trust.campaign import Wrong
from tests.trust.checks import check_store
from tests.trust.children import Child, ChildDied, in_child
from tests.trust.inputs import LEVELS_WH, Small
from train.frames import Frames
from train.stream import Stream

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
_STREAMED = {"rgb": "80x60/rgb", "gradient": "80x60/gradient"}


@dataclass
class Room:
    """Where a case happens.

    Attributes
    ----------
    small
        The input, and the store of an uninterrupted build of it.
    folder
        The case's own folder.
    mat
        Its copy of the input.
    store
        The store to be built, in a folder of its own.
    """

    small: Small
    folder: Path
    mat: Path
    store: Path

    def to_relative(self) -> None:
        """Go to the case's folder, and name all from there, so that nothing that is put over it is in the way."""
        os.chdir(self.folder)
        self.mat, self.store = self.mat.relative_to(self.folder), self.store.relative_to(self.folder)
        self.folder = Path()

    def build(self, *options: str) -> list[str]:
        """The command that builds the store of `Small`."""
        levels = [word for w, h in LEVELS_WH for word in ("--level", f"{w}x{h}")]
        shards = ["--frames-per-shard", str(self.small.spec.frames_per_shard)]
        return ["build", "nyu", *levels, *shards, *options, "--", str(self.mat), str(self.store)]

    def run(self, command: list[str], before: Callable[[], Any] = lambda: None) -> bool:
        """Run a `gfield` command in a child, after ``before``; whether it did its work, else it has said why not.

        Raises
        ------
        Wrong
            If it did not, and said so in another way than by an exit code and one line.
        """
        said = self.folder / "said"
        said.unlink(missing_ok=True)
        try:
            code = Child(_run, command, before, says=said).result(SECONDS)
        except ChildDied as died:
            raise Wrong(f"{command[0]}: {died}; said {said.read_text(errors='replace')!r}") from died
        return self.judge(command, code, said.read_bytes())

    def run_anew(self, command: list[str], how: str, **environment: str) -> bool:
        """The same in a new interpreter, started by a shell in which it stands where ``how`` has ``$@``."""
        clean = {name: text for name, text in os.environ.items() if name in ("PATH", "LANG")}
        program = [sys.executable, "-c", "import cli; cli.gfield(prog_name='gfield')"]
        done = subprocess.run(
            ["/bin/sh", "-c", how, "sh", *program, *command],
            env={**clean, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            check=False,
            timeout=SECONDS,
        )
        return self.judge(command, done.returncode, done.stderr)

    def judge(self, command: list[str], code: int, said: bytes) -> bool:
        """Whether a command has done its work; `Wrong` unless it did, or said in one line why not."""
        text = said.decode(errors="replace")
        if "Traceback" in text or "Exception ignored" in text or "Warning" in text:
            raise Wrong(f"{' '.join(command)}: ended with {code}, and says {text}")
        if code == 0:
            return True
        # A name may hold an end of line itself.
        lines = text.replace(str(self.folder), "").replace(self.store.name, "").strip().splitlines()
        if code not in (1, 2) or len(lines) != 1 or not lines[0].startswith("Error: "):
            raise Wrong(f"{' '.join(command)}: ended with {code}, and not with one line: {text!r}")
        return False

    def see(self, before: Callable[[], Any] = lambda: None) -> None:
        """Look at the store by every way of reading; each works or says why not, and none reads what is wrong."""
        self.run(["info", "--", str(self.store)], before)
        self.run(["verify", "--all", "--", str(self.store)], before)
        if in_child(_streamed, self.store, before, seconds=SECONDS) not in (_pictures(self.small.store), None):
            raise Wrong("a stream gives other pictures than the store has")

    def mend(self) -> None:
        """Build once more, with nothing in the way, and see that the store is whole and alone."""
        if not self.run(self.build()):
            raise Wrong(f"does not build where nothing is in the way: {(self.folder / 'said').read_text()}")
        check_store(self.store, {self.small.root})
        if not self.run(["verify", "--all", "--", str(self.store)]):
            raise Wrong("verify finds something")


def _run(command: list[str], before: Callable[[], Any]) -> int:
    before()
    try:
        cli.gfield.main(command, prog_name="gfield")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _pictures(store: Path) -> list[bytes]:
    """Each frame's picture and field of a level."""
    opened = open_store(store)
    rows = range(len(opened))
    return [b"".join(opened.read(key, [row]).tobytes() for key in _STREAMED.values()) for row in rows]


def _streamed(path: Path, before: Callable[[], Any]) -> list[bytes] | None:
    """The same by a training stream; None where it says that it cannot."""
    before()
    try:
        store = open_store(path)
        frames = Frames([(store, range(len(store)))], _STREAMED)
        found = [b""] * len(frames)
        stream = Stream(frames, batch=2, seed=0, cache="none", threads=2)
        try:
            for batch in stream.batches(0, stream.steps_per_epoch):
                for place, index in enumerate(batch.index_N.tolist()):
                    found[index] = b"".join(batch.arrays[name][place].numpy().tobytes() for name in _STREAMED)
        finally:
            stream.close()
    except (UserError, OSError, MemoryError, RuntimeError):
        return None
    return found
