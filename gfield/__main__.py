"""``python -m gfield`` is the command `gfield`, where scripts are not on the path."""

from __future__ import annotations

from gfield.commandline.main import gfield

if __name__ == "__main__":
    gfield(prog_name="python -m gfield")
