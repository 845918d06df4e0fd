"""Pretexts: what an encoder learns from pictures without labels; one file a method, named after it.

To add a method is to add its file, with a `train.pretexts.pretext.Method` named ``METHOD``, and a line to `METHODS`.
This module loads nothing heavy, so that commands can list the methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.pretexts.pretext import Method

# The name of each method, and what its network has to find out.
METHODS = {
    "gradient-moco": "a picture's gradient field among those of others (Shim and Kim 2021)",
    "moco": "another view of a picture among those of others (He et al. 2020)",
    "simclr": "the other view of a picture within the batch (Chen et al. 2020)",
    "rotation": "which of four ways a picture is turned (Gidaris et al. 2018)",
    "exemplar": "which picture of the data a view is of (Dosovitskiy et al. 2014)",
    "jigsaw": "how a picture's nine tiles are mixed up (Noroozi and Favaro 2016)",
}


def method_named(name: str) -> Method:
    """The method of a name.

    Raises
    ------
    TrainError
        If there is none; lists them.
    """
    from importlib import import_module

    from train.errors import TrainError

    if name not in METHODS:
        raise TrainError(f"method {name!r} is unknown, wanted {', '.join(METHODS)}")
    method: Method = import_module(f"train.pretexts.{name.replace('-', '_')}").METHOD
    return method
