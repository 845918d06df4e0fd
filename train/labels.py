"""Which training frames may show their depth: subsets by share or number, each inside every larger one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from train.errors import TrainError
from train.random import generator


def parse_labels(text: str) -> float | int:
    """``"0.01"`` and ``"1%"`` are shares, ``"80"`` is a number of frames, ``"all"`` is everything.

    Raises
    ------
    TrainError
        If it is none of these, or outside its range.

    Examples
    --------
    >>> from train.labels import parse_labels
    >>> parse_labels("1%"), parse_labels("80"), parse_labels("all")
    (0.01, 80, 1.0)
    """
    wanted = f"labels {text!r}: wanted a share such as 0.01 or 1%, a number of frames such as 80, or all"
    try:
        if text == "all":
            return 1.0
        if text.endswith("%"):
            share = float(text[:-1]) / 100
        elif text.isdigit():
            count = int(text)
            if count < 1:
                raise TrainError(wanted)
            return count
        else:
            share = float(text)
    except ValueError:
        raise TrainError(wanted) from None
    if not 0 < share <= 1:
        raise TrainError(wanted)
    return share


def spelled_labels(where: str, label: Any) -> str:
    """Labels in one spelling: shares in per cent, numbers of frames as they are.

    Raises
    ------
    TrainError
        If they are neither.
    """
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        raise TrainError(f"{where}: {label!r}, wanted a share such as 0.01 or 1%, a number of frames, or all")
    try:
        parsed = parse_labels(str(label).replace(" ", ""))
    except TrainError as error:
        raise TrainError(f"{where}: {error}") from error
    return str(parsed) if isinstance(parsed, int) else f"{100 * parsed:g}%"


def label_subset(rows_N: npt.NDArray[np.intp], labels: float | int, seed: int) -> npt.NDArray[np.intp]:
    """The labelled rows of a share or number.

    One order of all rows is drawn from the seed, and a subset is its beginning: 1 % lies inside 3 %, 3 % inside 10 %.

    Parameters
    ----------
    rows_N
        Rows of the training split.
    labels
        Share of them (float; at least one frame), or their number (int).
    seed
        Another seed, other frames.

    Returns
    -------
    ndarray
        The rows chosen, in rising order.

    Raises
    ------
    TrainError
        If there is no row, or more are wanted than there are.

    Examples
    --------
    A smaller subset is inside a larger one of the same seed.

    >>> import numpy as np
    >>> from train.labels import label_subset
    >>> rows_N = np.arange(100, 200)
    >>> few, more = label_subset(rows_N, 0.03, seed=0), label_subset(rows_N, 0.10, seed=0)
    >>> len(few), len(more), set(few) <= set(more)
    (3, 10, True)
    """
    if not len(rows_N):
        raise TrainError("no labelled frame: the store's train split is empty")
    count = labels if isinstance(labels, int) else max(1, round(labels * len(rows_N)))
    if count > len(rows_N):
        raise TrainError(f"--labels {count}: the train split has {len(rows_N)} frames")
    order: npt.NDArray[Any] = generator(seed, "labels").permutation(len(rows_N))
    return np.sort(rows_N[order[:count]])
