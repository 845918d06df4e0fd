"""A synthetic sample in the formats of the real data sets: rooms as in NYU Depth v2, streets as in Make3D."""

from gfield.sample.render import RenderedFrame, render_room
from gfield.sample.scene import CLASS_NAMES
from gfield.sample.write import SamplePaths, write_sample

__all__ = ["CLASS_NAMES", "RenderedFrame", "SamplePaths", "render_room", "write_sample"]
