"""What a study says about its question: does a start beat another, where, and how many labels is it worth?

Sentences are made from the figures alone. A difference inside its interval is told as none, and one seed as nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from train.study.blocks import Block, amount_text, labels_text, share_of
from train.study.print_tables import figure_text, number_text
from train.study.statistics import Efficiency, Estimate, Verdict, data_efficiency, paired_difference, verdict

HIGHER_IS_BETTER = frozenset({"d1", "d2", "d3"})
METRIC_NAMES = {
    "d1": "δ < 1.25", "d2": "δ < 1.25²", "d3": "δ < 1.25³", "abs_rel": "rel", "sq_rel": "sq rel", "rms": "rms",
    "rms_log": "rms log", "log10": "log10", "silog": "silog",
}  # fmt: skip
OURS, BASELINE, PLAIN = "gradient-moco", "random", "moco"
# How a group of label shares is told, by what its differences say.
_SAID = {
    "better": "{row} beats {other} {where}",
    "worse": "{other} beats {row} {where}",
    "open": "{row} and {other} do not differ beyond the interval {where}",
    "untested": "{row} and {other} have one seed {where}, so no interval and no verdict",
    None: "{row} and {other} have no seed in common {where}",
}


@dataclass(frozen=True)
class Comparison:
    """A row against another on one network: the paired difference of a metric, by labels.

    Attributes
    ----------
    row, other
        Names of the rows.
    network, metric
        What is compared.
    differences
        ``row`` minus ``other`` by labels, few to many; None where no seed has both.
    """

    row: str
    other: str
    network: str
    metric: str
    differences: dict[str, Estimate | None]

    def verdict(self, labels: str) -> Verdict | None:
        """What the difference says; None where there is none."""
        difference = self.differences[labels]
        return None if difference is None else verdict(difference, higher_is_better=self.metric in HIGHER_IS_BETTER)

    def sentence(self) -> str:
        """For people, such as "moco beats random at 1 % and 3 % of the labels; …"."""
        parts = []
        for kind, said in _SAID.items():
            labels = [text for text in self.differences if self.verdict(text) == kind]
            if labels:
                parts.append(said.format(row=self.row, other=self.other, where=_where(labels)))
        text = "; ".join(parts)
        return f"On {METRIC_NAMES[self.metric]}, {text}."

    def clearest(self) -> str:
        """The differences in figures, most labels last."""
        told = [
            f"{figure_text(difference, signed=True)} at {labels_text(text)} ({_pairs(difference.n)})"
            for text, difference in self.differences.items()
            if difference is not None
        ]
        return f"{self.row} minus {self.other}: {', '.join(told)}." if told else ""


def comparisons(block: Block, network: str, metric: str = "d1") -> list[Comparison]:
    """Every row against `BASELINE`; `OURS` against `PLAIN`, which shows whether the field helps, and its own variants.

    Without a baseline, `OURS` against every other row.
    """
    ours, base, plain = (block.row_of(method) for method in (OURS, BASELINE, PLAIN))
    pairs = [(row, base) for row in block.rows if row != base] if base is not None else []
    # The paper's method stands first.
    pairs.sort(key=lambda pair: pair[0] != ours)
    if ours is not None:
        others = [row for row in block.rows if row != ours]
        pairs += [(ours, row) for row in others if base is None or row == plain or block.method(row) == OURS]
    return [_comparison(block, network, row, other, metric) for row, other in pairs]


@dataclass(frozen=True)
class Worth:
    """How many labels the baseline needs for what a row has with few.

    Attributes
    ----------
    row, other, labels
        The row, the baseline, and the row's labels.
    score
        The row's mean.
    efficiency
        From the mean curve of the baseline.
    by_seed
        The same from the curves of single seeds, which shows how sure it is.
    """

    row: str
    other: str
    labels: str
    score: Estimate
    efficiency: Efficiency
    by_seed: tuple[Efficiency, ...]

    def sentence(self, shares: bool) -> str:
        """For people: "random reaches what gradient-moco has at 1 % of the labels, .598, at 2.4 %: x2.4"."""
        amount = f"{_two_digits(self.efficiency.amount * 100)} %" if shares else f"{self.efficiency.amount:.0f} frames"
        place = {
            "": f"is reached by {self.other} at about {amount}",
            ">": f"is not reached by {self.other} with any labels here, {amount} being the most",
            "<=": f"is reached by {self.other} at {amount} already, the fewest here",
        }[self.efficiency.bound]
        return (
            f"What {self.row} has with {amount_text(self.labels)}, {number_text(self.score.mean)}, {place}: "
            f"{self.efficiency}{self._seeds_text()}."
        )

    def _seeds_text(self) -> str:
        if self.score.n == 1:
            return " (one seed)"
        return f" (seed by seed {', '.join(map(str, self.by_seed))})" if len(self.by_seed) > 1 else ""


def worths(block: Block, network: str, metric: str = "d1") -> list[Worth]:
    """What the labels of `OURS` are worth in labels of `BASELINE`; empty without a curve to compare with."""
    row, other = block.row_of(OURS), block.row_of(BASELINE)
    amounts = block.amounts(network)
    if row is None or other is None or len(block.labels) < 2:
        return []
    higher = metric in HIGHER_IS_BETTER
    curve = [(amounts[text], mean.mean) for text in block.labels
             if (mean := block.mean(network, other, text, metric)) is not None]  # fmt: skip
    found = []
    # With all labels there is nothing beyond that the baseline could need more of.
    for labels in block.labels[:-1]:
        score = block.mean(network, row, labels, metric)
        if score is None or len(curve) < 2:
            continue
        efficiency = data_efficiency(curve, amounts[labels], score.mean, higher_is_better=higher)
        assert efficiency is not None
        found.append(
            Worth(row, other, labels, score, efficiency, _by_seed(block, network, (row, other), labels, metric))
        )
    return found


def headline(block: Block, network: str, metric: str = "d1") -> str:
    """The first comparison in a sentence, or what is missing for one."""
    found = comparisons(block, network, metric)
    if not found:
        return f"Nothing to compare: there is neither a row of {BASELINE} nor of {OURS} beside others."
    return found[0].sentence()


def in_shares(block: Block) -> bool:
    """Whether labels are shares of all frames, and not numbers."""
    return all(share_of(labels) is not None for labels in block.labels)


def _by_seed(block: Block, network: str, rows: tuple[str, str], labels: str, metric: str) -> tuple[Efficiency, ...]:
    row, other = rows
    amounts = block.amounts(network)
    scores = block.scores(network, row, labels, metric)
    found = []
    for seed in block.seeds:
        curve = [(amounts[text], values[seed]) for text in block.labels
                 if seed in (values := block.scores(network, other, text, metric))]  # fmt: skip
        # A curve with holes would cross elsewhere.
        if seed in scores and len(curve) == len(block.labels):
            one = data_efficiency(curve, amounts[labels], scores[seed], higher_is_better=metric in HIGHER_IS_BETTER)
            assert one is not None
            found.append(one)
    return tuple(found)


def _comparison(block: Block, network: str, row: str, other: str, metric: str) -> Comparison:
    differences = {
        labels: paired_difference(
            block.scores(network, row, labels, metric), block.scores(network, other, labels, metric)
        )
        for labels in block.labels
    }
    return Comparison(row, other, network, metric, differences)


def _where(labels: Sequence[str]) -> str:
    shares = [labels_text(text) for text in labels]
    if all(share_of(text) is not None for text in labels):
        return f"at {_listed(shares)} of the labels"
    return f"with {_listed(shares)} labelled"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 9.95 else f"{value:.0f}"


def _pairs(n: int) -> str:
    return f"{n} pair{'' if n == 1 else 's'}"
