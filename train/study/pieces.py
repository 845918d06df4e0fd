"""The pieces of a study: pre-trainings, and cells that are fine-tuned and scored; and all of them, the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gfield import Store
from train.study.study_file import Grid, Study


@dataclass(frozen=True)
class Pretraining:
    """One run of `train pretrain`.

    Attributes
    ----------
    id
        Name of its folder.
    method, encoder, seed
        As in `train.pretrain.pretrain`.
    stores
        Names of the stores that it trains on together.
    chain
        What was trained on until here, one after the other, several stores together as ``"a+b"``.
    options
        All others of the command, by their names there.
    frames
        Frames that it trains on.
    after
        The one whose encoder it starts from.
    """

    id: str
    method: str
    encoder: str
    seed: int
    stores: tuple[str, ...]
    chain: tuple[str, ...]
    options: Mapping[str, Any]
    frames: int
    after: Pretraining | None

    @property
    def title(self) -> str:
        """For people."""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.method}, {self.encoder}, on {' then '.join(self.chain)}{seed}"


@dataclass(frozen=True)
class Cell:
    """One fine-tuning with its scores.

    Attributes
    ----------
    id
        Name of its folder.
    rows
        Rows of the tables that it stands in.
    method, network, encoder, store, seed
        What the encoder starts from, and so on by name.
    labels, share, labelled_frames
        As ``"1%"`` or ``"80"``, as a share or None, and as the frames they are.
    options
        Of `train finetune`, by their names there.
    pretraining
        Where the encoder comes from, or None.
    protocols
        Names of those to score by.
    tables
        Tables of the grids that it belongs to.
    """

    id: str
    rows: tuple[str, ...]
    method: str
    network: str
    encoder: str
    store: str
    seed: int
    labels: str
    share: float | None
    labelled_frames: int
    options: Mapping[str, Any]
    pretraining: Pretraining | None
    protocols: tuple[str, ...]
    tables: tuple[str, ...]

    @property
    def title(self) -> str:
        """For people."""
        return f"{' = '.join(self.rows)}, {self.network}, {self.labels}, {self.store}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All work of a study.

    Attributes
    ----------
    study
        What it was made from.
    stores
        The stores that are used, by name.
    grids
        Those whose stores are given.
    cells
        In order: seed by seed, so that after the first every row has a number.
    notes
        What the user should know: grids left out, and labels that are the same frames.
    """

    study: Study
    stores: Mapping[str, Store]
    grids: Sequence[Grid]
    cells: Sequence[Cell]
    notes: Sequence[str]

    @property
    def pretrainings(self) -> list[Pretraining]:
        """Those that some cell needs, each after the one that it starts from."""
        return needed_pretrainings(self.cells)

    def title(self, piece: Cell | Pretraining) -> str:
        """A piece for people, with its place among all."""
        pieces: Sequence[Cell | Pretraining] = self.cells if isinstance(piece, Cell) else self.pretrainings
        place = next(number for number, other in enumerate(pieces, start=1) if other.id == piece.id)
        return f"{'cell' if isinstance(piece, Cell) else 'pre-training'} {place} of {len(pieces)}: {piece.title}"


def needed_pretrainings(cells: Sequence[Cell]) -> list[Pretraining]:
    """The pre-trainings that some cells need, each once and after the one that it starts from."""
    found: dict[str, Pretraining] = {}
    for cell in cells:
        for link in reversed(list(_links(cell.pretraining))):
            found.setdefault(link.id, link)
    return list(found.values())


def planned_steps(options: Mapping[str, Any], frames: int) -> int:
    """Steps that a training with these options takes on so many frames."""
    return int(options["steps"] or options["epochs"] * (frames // options["batch"]))


def _links(pretraining: Pretraining | None) -> Iterator[Pretraining]:
    while pretraining is not None:
        yield pretraining
        pretraining = pretraining.after
