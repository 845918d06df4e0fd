"""The figures that the paper prints: Shim and Kim, "Learning a Geometric Representation for Data-Efficient Depth
Estimation via Gradient Field and Contrastive Loss", ICRA 2021, arXiv 2011.03207.

It gives neither seeds nor deviations. Its rows stand under the names that studies here have for the same starts.
"""

from __future__ import annotations

from collections.abc import Mapping

CITATION = "Shim and Kim, ICRA 2021, arXiv 2011.03207"
ENCODERS = {"densedepth": "densenet161", "fcrn": "resnet50"}
# The network of its table of label shares and of its Make3D table is not told; DenseDepth is inferred.
INFERRED_NETWORK = "densedepth"
# Protocols whose figures may be set beside the paper's: its tables of NYU, and those of Make3D.
NYU_PROTOCOLS = ("nyu-eigen",)
MAKE3D_PROTOCOLS = ("make3d-c1", "make3d-c2", "make3d-c1-crop")

METHODS_METRICS = ("d1", "d2", "d3", "abs_rel", "rms", "log10")
_METHODS = {
    "densedepth": {
        "random": (0.743, 0.932, 0.980, 0.175, 0.599, 0.073),
        "imagenet": (0.826, 0.967, 0.999, 0.131, 0.484, 0.057),  # d3 as printed
        "rotation": (0.693, 0.911, 0.974, 0.189, 0.666, 0.082),
        "exemplar": (0.516, 0.810, 0.938, 0.255, 0.923, 0.117),
        "moco": (0.755, 0.933, 0.981, 0.168, 0.592, 0.071),
        "gradient-moco": (0.801, 0.952, 0.986, 0.147, 0.532, 0.062),
    },
    "fcrn": {
        "random": (0.672, 0.899, 0.969, 0.207, 0.710, 0.087),
        "imagenet": (0.773, 0.950, 0.989, 0.157, 0.553, 0.067),
        "rotation": (0.608, 0.871, 0.961, 0.239, 0.791, 0.098),
        "exemplar": (0.598, 0.861, 0.954, 0.242, 0.822, 0.101),
        "moco": (0.692, 0.909, 0.974, 0.201, 0.668, 0.082),
        "gradient-moco": (0.709, 0.917, 0.976, 0.192, 0.656, 0.080),
    },
}
LABELS_METRICS = ("d1", "d2", "d3")
LABELS_SHARES = (0.01, 0.03, 0.05, 0.10)
_LABELS = {
    "random": {
        "d1": (0.469, 0.530, 0.623, 0.685),
        "d2": (0.767, 0.813, 0.878, 0.909),
        "d3": (0.909, 0.931, 0.960, 0.973),
    },
    "gradient-moco": {
        "d1": (0.598, 0.654, 0.701, 0.737),
        "d2": (0.870, 0.904, 0.921, 0.934),
        "d3": (0.957, 0.974, 0.978, 0.984),
    },
}
MAKE3D_METRICS = ("abs_rel", "rms_normalised", "log10")
# By what the encoder saw: N is NYU, M is Make3D, N->M one after the other.
_MAKE3D = {
    ("random", ""): (0.378, 0.190, 0.200),
    ("gradient-moco", "M"): (0.340, 0.168, 0.164),
    ("gradient-moco", "N"): (0.331, 0.160, 0.162),
    ("gradient-moco", "N->M"): (0.302, 0.156, 0.148),
}

METHODS: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    network: {row: dict(zip(METHODS_METRICS, values, strict=True)) for row, values in rows.items()}
    for network, rows in _METHODS.items()
}
"""Table of NYU Depth v2, all labels: by network, row and metric."""

LABELS: Mapping[str, Mapping[str, Mapping[float, float]]] = {
    row: {
        metric: {
            **dict(zip(LABELS_SHARES, values, strict=True)),
            # All labels are those of the other table.
            1.0: METHODS[INFERRED_NETWORK][row][metric],
        }
        for metric, values in metrics.items()
    }
    for row, metrics in _LABELS.items()
}
"""Table of labelled-data efficiency, with the other table's figures at all labels: by row, metric and share."""

MAKE3D: Mapping[tuple[str, str], Mapping[str, float]] = {
    key: dict(zip(MAKE3D_METRICS, values, strict=True)) for key, values in _MAKE3D.items()
}
"""Table of Make3D: by method and pre-training data, and metric."""


def make3d_data(method: str, pretrained_on: list[str], store: str) -> tuple[str, str] | None:
    """The row of `MAKE3D` that a study's row repeats, by what its encoder saw; None if it is none of them.

    Parameters
    ----------
    method
        As ``"gradient-moco"``.
    pretrained_on
        Names of stores, one after the other.
    store
        Name of the store that it is scored on, which is M; one whose name begins with "nyu" is N.
    """
    letters = ["M" if name == store else "N" if name.lower().startswith("nyu") else name for name in pretrained_on]
    key = (method, "->".join(letters))
    return key if key in MAKE3D else None
