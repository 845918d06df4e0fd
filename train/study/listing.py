"""What a study is going to do, what is done of it, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from train.study.folder import StudyFolder
from train.study.pieces import Cell, Plan, Pretraining, needed_pretrainings, planned_steps

Kind = tuple[str, ...]


def list_pieces(plan: Plan, folder: StudyFolder | None, cells: Sequence[Cell]) -> Iterator[str]:
    """A line for every pre-training and cell: what it is, its steps, and whether it is done."""
    costs = Costs(folder, plan)
    pieces: list[Cell | Pretraining] = [*needed_pretrainings(cells), *cells]
    wanted = costs.wanted(cells)
    for piece in pieces:
        steps = _steps(piece)
        frames = _frames(piece)
        size = f"{frames} frame{'s' if frames > 1 else ''}, {steps} step{'s' if steps > 1 else ''}"
        state = costs.state(piece) if piece in wanted or costs.is_done(piece) else "not needed, its cells are done"
        yield f"{plan.title(piece)} ({size}): {state}"
    seconds, unknown = costs.left(cells)
    if seconds or unknown:
        yield f"left: {_left(seconds, unknown)}"


class Costs:
    """What finished pieces cost, to tell what others will.

    Parameters
    ----------
    folder, plan
        Where they are, and which; without a folder nothing is known.
    """

    def __init__(self, folder: StudyFolder | None, plan: Plan) -> None:
        self._folder = folder
        self._per_step_s: dict[Kind, list[float]] = {}
        self._apart_s: dict[Kind, list[float]] = {}
        pieces: list[Cell | Pretraining] = [*plan.pretrainings, *plan.cells]
        for piece in pieces:
            self._learn(piece)

    def state(self, piece: Cell | Pretraining) -> str:
        """``"done, 12 s"``, ``"begun"``, or the time that it may take, ``"about 5 min"``, as far as that is known."""
        from gfield.console import readable_time

        seconds = self.seconds(piece)
        told = "" if seconds is None else readable_time(seconds)
        if self._content(piece) is not None:
            return f"done, {told}"
        about = f", about {told} in all" if told else ""
        return f"begun{about}" if self._begun(piece) else about.removeprefix(", ").removesuffix(" in all") or "to do"

    def is_done(self, piece: Cell | Pretraining) -> bool:
        """Whether a piece is finished."""
        return self._content(piece) is not None

    def wanted(self, cells: Sequence[Cell]) -> list[Cell | Pretraining]:
        """The unfinished cells, and the unfinished pre-trainings that these need."""
        left = [cell for cell in cells if not self.is_done(cell)]
        return [*(link for link in needed_pretrainings(left) if not self.is_done(link)), *left]

    def left(self, cells: Sequence[Cell]) -> tuple[float, int]:
        """Seconds that the unfinished pieces may take, and how many there are of which that is not known."""
        costs = [self.seconds(piece) for piece in self.wanted(cells)]
        return sum(cost for cost in costs if cost is not None), costs.count(None)

    def seconds(self, piece: Cell | Pretraining) -> float | None:
        """What a piece cost, or what it may cost by the pieces that are like it."""
        content = self._content(piece)
        if content is not None:
            return _seconds(content)
        kind = _kind(piece)
        if kind not in self._per_step_s:
            return None
        return _steps(piece) * fmean(self._per_step_s[kind]) + fmean(self._apart_s[kind])

    def _learn(self, piece: Cell | Pretraining) -> None:
        content = self._content(piece)
        if content is not None:
            training, apart = _parts(content)
            self._per_step_s.setdefault(_kind(piece), []).append(training / _steps(piece))
            self._apart_s.setdefault(_kind(piece), []).append(apart)

    def _content(self, piece: Cell | Pretraining) -> dict[str, Any] | None:
        if self._folder is None:
            return None
        if isinstance(piece, Pretraining):
            return self._folder.pretrained(piece)
        return self._folder.cell(piece) if self._folder.is_done(piece) else None

    def _begun(self, piece: Cell | Pretraining) -> bool:
        if self._folder is None:
            return False
        folder = self._folder
        run = folder.cell_run(piece) if isinstance(piece, Cell) else folder.pretraining_run(piece)
        return (run / "meta.json").exists()


def _kind(piece: Cell | Pretraining) -> Kind:
    if isinstance(piece, Pretraining):
        return ("pretrain", piece.method, piece.encoder, str(piece.options["batch"]))
    return ("finetune", piece.network, piece.encoder, piece.store, str(piece.options["batch"]))


def _steps(piece: Cell | Pretraining) -> int:
    return max(1, planned_steps(piece.options, _frames(piece)))


def _frames(piece: Cell | Pretraining) -> int:
    return piece.frames if isinstance(piece, Pretraining) else piece.labelled_frames


def _left(seconds: float, unknown: int) -> str:
    from gfield.console import readable_time

    pieces = f"{unknown} piece{'s' if unknown > 1 else ''} of which no like is done"
    if not seconds:
        return pieces
    return f"about {readable_time(seconds)}{f', and {pieces}' if unknown else ''}"


def _parts(content: dict[str, Any]) -> tuple[float, float]:
    if "scores" not in content:
        return float(content["seconds"]), 0.0
    scores = list(content["scores"].values())
    return float(scores[0]["seconds"]["finetune"]), float(sum(score["seconds"]["evaluate"] for score in scores))


def _seconds(content: dict[str, Any]) -> float:
    return sum(_parts(content))
