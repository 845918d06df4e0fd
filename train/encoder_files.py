"""Encoders in files of other programs: found by torchvision's names, whatever stands before these.

Programs save an encoder inside of what trained it: ``module.encoder_q.`` stands before the names of MoCo's, and
``original_model.`` before those of the released code's DenseNet (github.com/dsshim0125/grmc, ``encoder_q`` of its
pre-training). There is no list of such prefixes here. The encoder's own names are looked for at the end of the file's,
and what stands before most of them is the prefix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision

from train.encoders import ENCODERS, make_encoder
from train.errors import TrainError
from train.weights import State, read_tensors, sha256_of, undotted, unfit

# A path with such an end is meant as a file, be it there or not.
SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".bin", ".safetensors")
_DENSE = "features."
_SHOWN = 5


class FoundEncoder(NamedTuple):
    """An encoder in a file.

    Attributes
    ----------
    name
        One of `train.encoders.ENCODERS`.
    state
        Its weights in our names; only batch-norm's ``num_batches_tracked`` may be missing.
    prefix
        What stands before torchvision's names in the file.
    used
        The file's names of those weights.
    """

    name: str
    state: State
    prefix: str
    used: frozenset[str]


def names_file(init: str) -> bool:
    """Whether a start is given as a file of weights, and not as the folder of a run."""
    path = Path(init)
    return path.is_file() or (not path.exists() and path.suffix in SUFFIXES)


class EncoderFile(NamedTuple):
    """What a file of weights holds: the encoder's state, the file's SHA-256, and a line about the names matched."""

    state: State
    sha256: str
    said: str


def read_encoder(path: Path, name: str) -> EncoderFile:
    """The encoder in a file of weights.

    Parameters
    ----------
    path
        ``.safetensors``, or of torch.save; nothing in it is executed.
    name
        One of `train.encoders.ENCODERS`.

    Raises
    ------
    TrainError
        If the file cannot be read, is torchvision's of ImageNet, or has not all weights of that encoder.
    """
    digest = sha256_of(path)
    refuse_imagenet(path, digest)
    tensors = read_tensors(path)
    found = find_encoder(tensors, name, str(path))
    return EncoderFile(found.state, digest, report(str(path), tensors, found.used, f"{name} (prefix {found.prefix!r})"))


def find_encoder(tensors: State, name: str | None, what: str) -> FoundEncoder:
    """The encoder among tensors by names.

    Parameters
    ----------
    tensors
        By names that end in torchvision's; older ones of DenseNets (``norm.1`` for ``norm1``) too.
    name
        One of `train.encoders.ENCODERS`; None finds out which it is.
    what
        What the tensors are called in messages.

    Raises
    ------
    TrainError
        If weights of the encoder are missing, of another shape, or no numbers; or if it is another encoder.
    """
    known = {encoder: _looked_for(tensors, encoder) for encoder in ([name] if name else ENCODERS)}
    fitting = [one.found for one in known.values() if not one.wrong]
    if len(fitting) > 1:
        seen = " and ".join(f"{found.name} (prefix {found.prefix!r})" for found in fitting)
        raise TrainError(f"{what}: holds {seen}; --encoder tells which of them is wanted")
    if fitting:
        check_numbers(fitting[0].state, what)
        return fitting[0]
    if name:
        others = [other for other in ENCODERS if other != name and not _looked_for(tensors, other).wrong]
        if others:
            raise TrainError(f"{what}: its encoder is {others[0]}, wanted {name} (--encoder)")
    nearest = max(known.values(), key=lambda one: (one.share, len(one.found.used)))
    if not nearest.found.used:
        has = ", ".join(list(tensors)[:3])
        wanted = name or "an encoder"
        raise TrainError(f"{what}: no name of {wanted} in it, it has {has}; wanted torchvision's names")
    raise TrainError(f"{what}: {nearest.wrong}")


def report(what: str, tensors: State, used: Collection[str], whose: str) -> str:
    """One line on which of a file's names were taken, such as those of ``resnet50``, and which were not."""
    line = f"{what}: {len(used)} of {len(tensors)} names matched {whose}"
    left = _grouped(tensors, used)
    if left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        line += f"; not used: {', '.join(left[:_SHOWN])}{more}"
    return line


def check_numbers(state: Mapping[str, torch.Tensor], what: str) -> None:
    """Refuse tensors that are no weights: not dense, not real, not there, or not finite.

    Raises
    ------
    TrainError
        Naming the first of them.
    """
    for name, tensor in state.items():
        count = name.endswith("num_batches_tracked")
        if tensor.layout != torch.strided or tensor.is_meta or not (count or tensor.is_floating_point()):
            kind = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
            raise TrainError(f"{what}: {name} is {kind}, wanted real numbers, dense on the CPU")
        if not bool(torch.isfinite(tensor.float()).all()):
            raise TrainError(f"{what}: {name} has values that are not finite")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise TrainError(f"{what}: {name} has negative values, wanted variances")


def refuse_imagenet(path: Path, sha256: str) -> None:
    """Refuse torchvision's own files: trained without ImageNet's mean, where a file's encoder is given plain pictures.

    Raises
    ------
    TrainError
        Telling the option that such a file is for.
    """
    for name in ENCODERS:
        for published in torchvision.models.get_model_weights(name):
            told = published.url.rpartition("-")[2].partition(".")[0]
            if sha256.startswith(told):
                raise TrainError(f"{path}: torchvision's {published}, wanted as --init imagenet --weights {path}")


class _Candidate(NamedTuple):
    """What there is of an encoder in a file, what share of its names that is, and what is wrong with it."""

    found: FoundEncoder
    share: float
    wrong: str


def _looked_for(tensors: State, name: str) -> _Candidate:
    """The one encoder of a name that there is, or what comes nearest to it, and what is wrong with that."""
    with torch.device("meta"):
        wanted = make_encoder(name, 0).state_dict()
    # All of a DenseNet's names begin with "features.", so that it may be a part of the prefix or not be there at all.
    own = {key.removeprefix(_DENSE): key for key in wanted}
    names = {undotted(key): key for key in tensors}
    candidates = [_under(tensors, names, prefix, name, wanted, own) for prefix in _prefixes(names, own)]
    whole = [candidate for candidate in candidates if not candidate.wrong]
    if len(whole) > 1:
        places = " and ".join(repr(candidate.found.prefix) for candidate in whole)
        wrong = f"holds {name} more than once, under {places}; a file with the one that is meant wanted"
        return whole[0]._replace(wrong=wrong)
    return whole[0] if whole else candidates[0]


def _under(
    tensors: State, names: Mapping[str, str], prefix: str, name: str, wanted: State, own: Mapping[str, str]
) -> _Candidate:
    """What there is of an encoder under a prefix."""
    there = {key: names[prefix + tail] for tail, key in own.items() if prefix + tail in names}
    state = {key: tensors[name_there] for key, name_there in there.items()}
    shown = prefix.removesuffix(_DENSE) if name.startswith("densenet") else prefix
    wrong = ""
    if unfitting := unfit(wanted, state):
        wrong = f"no whole {name} (prefix {shown!r}): {unfitting}"
    elif deeper := _blocks_too_many(names, prefix, own):
        more = ", …" if len(deeper) > 1 else ""
        wrong = f"a deeper network than {name} (prefix {shown!r}), it has {deeper[0]}{more}; {name} wanted"
    return _Candidate(FoundEncoder(name, state, shown, frozenset(there.values())), len(there) / len(wanted), wrong)


def _blocks_too_many(names: Iterable[str], prefix: str, own: Collection[str]) -> list[str]:
    """Blocks in the stages of the encoder that it has not: ResNet-34's, say, which has all of ResNet-18's names."""
    blocks = {".".join(tail.split(".")[:2]) for tail in own}
    stages = {block.partition(".")[0] for block in blocks if block[-1].isdigit()}
    there = (".".join(name.removeprefix(prefix).split(".")[:2]) for name in names if name.startswith(prefix))
    return [block for block in dict.fromkeys(there) if block.partition(".")[0] in stages and block not in blocks]


def _prefixes(names: Iterable[str], own: Collection[str]) -> list[str]:
    """What stands before the encoder's names: before most of them first; and all that stand before half of them."""
    votes: Counter[str] = Counter()
    for name in names:
        starts = [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]
        votes.update(name[:start] for start in starts if name[start:] in own)
    # A momentum-contrast model holds its encoder twice. The query's is the one that learns, be it damaged.
    averages = {
        prefix for prefix in votes if (of := prefix.replace("encoder_k", "encoder_q")) != prefix and of in votes
    }
    ranked = [prefix for prefix, _ in votes.most_common() if prefix not in averages] or [""]
    return [ranked[0], *(prefix for prefix in ranked[1:] if 2 * votes[prefix] >= len(own))]


def _grouped(names: Iterable[str], used: Collection[str]) -> list[str]:
    """The names that were not used, each cut where it leaves those that were, with how many there are below."""
    trunks = {name[:place] for name in used for place, letter in enumerate(name) if letter == "."}
    groups: dict[str, list[str]] = {}
    for name in names:
        if name not in used:
            parts = name.split(".")
            heads = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
            groups.setdefault(next((head for head in heads if head not in trunks), name), []).append(name)
    return [below[0] if len(below) == 1 else f"{group} ({len(below)} names)" for group, below in groups.items()]
