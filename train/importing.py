"""A file of the released code, or of another program, as a run that our commands take like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.checkpoint import save_checkpoint
from train.encoder_files import find_encoder, refuse_imagenet, report
from train.encoders import make_encoder
from train.errors import TrainError
from train.released import RANGE_M, released_depth_net, released_network
from train.restore import Say
from train.runs import check_folder, create_run
from train.weights import load_weights, read_tensors, sha256_of


def import_file(
    file: Path,
    out: Path,
    *,
    network: str | None = None,
    encoder: str | None = None,
    size_WH: tuple[int, int] = (640, 480),
    overwrite: bool = False,
    say: Say,
) -> str:
    """Write a run that holds the network of a file.

    Parameters
    ----------
    file
        ``.safetensors``, or of torch.save: an encoder in torchvision's names, or a depth network of the released code;
        see `train.encoder_files` and `train.released`. Nothing in it is executed.
    out
        A new or empty folder, or with ``overwrite`` that of a run.
    network, encoder
        What is expected: ``"densedepth"`` or ``"fcrn"``, and one of `train.encoders.ENCODERS`. By default what is
        there.
    size_WH
        Width and height in pixels of the pictures that it was trained on, which `evaluate` and `predict` go by.
    say
        Is told which of the file's names were matched.

    Returns
    -------
    str
        ``"finetune"`` for a depth network, ``"pretrain"`` for an encoder: as which command's the run goes on.

    Raises
    ------
    TrainError
        If the file is no such thing, not all of it is there, or the folder is not free.
    """
    _check_free(out, overwrite)
    if min(size_WH) < 1:
        raise TrainError(f"--size {size_WH[0]}x{size_WH[1]}: wanted a width and height in pixels")
    if file.exists() and not file.is_file():
        raise TrainError(f"{file}: {'a folder' if file.is_dir() else 'no regular file'}, wanted a file of weights")
    digest = sha256_of(file)
    refuse_imagenet(file, digest)
    tensors = read_tensors(file)
    seen = released_network(tensors)
    if network is not None and (seen or "").partition("-")[0] != network:
        raise TrainError(f"{file}: {f'a {seen}' if seen else 'no depth network'} in it, wanted {network} (--network)")
    found = find_encoder(tensors, encoder, str(file))
    arguments: dict[str, Any] = {
        "init": str(file),
        "init_sha256": digest,
        "encoder": found.name,
        "size": f"{size_WH[0]}x{size_WH[1]}",
    }
    if seen:
        command = "finetune"
        arguments |= {"network": seen, "depth_range_m": list(RANGE_M), "normalise": False}
        net, used = released_depth_net(tensors, seen, found, str(file))
        model = net.state_dict()
    else:
        command, used = "pretrain", set(found.used)
        whole = make_encoder(found.name, 0)
        load_weights(whole, found.state, str(file))
        model = {f"encoder_q.{key}": tensor for key, tensor in whole.state_dict().items()}
    whose = f"{seen} on {found.name}" if seen else found.name
    say(report(str(file), tensors, used, f"{whose} (prefix {found.prefix!r})"))
    meta = {"command": command, "imported": True, "arguments": arguments, "stores": []}
    with create_run(out, meta, overwrite=overwrite):
        save_checkpoint(out, 0, {"model": model}, meta)
    return command


def _check_free(out: Path, overwrite: bool) -> None:
    """Refuse an occupied folder before a large file is read, and without a word of --resume."""
    if (out / "meta.json").is_file() and not overwrite:
        raise TrainError(f"{out}: holds a run; --overwrite replaces it")
    check_folder(out, {}, overwrite=overwrite)
