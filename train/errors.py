"""What goes wrong through no fault of the code: one line that names what was seen and what was wanted."""

from __future__ import annotations

from gfield import UserError


class TrainError(UserError):
    """A mistake in the options, the store or the files of a run, told in one line."""


class PictureError(TrainError):
    """A picture that cannot be read or predicted; others may be."""
