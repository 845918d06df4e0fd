"""The commands of `train`. Everything heavy is imported inside the commands, so that --help is instant."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gfield.commandline.pieces import Commands, Level
from train.command_options import ENCODERS, device_option, next_step, path_type, place_type, say, size_option
from train.report.commands import report
from train.study.commands import study
from train.training_commands import finetune, pretrain

if TYPE_CHECKING:
    from gfield import Location

_DESCRIPTORS = 1 << 17
EXIT_CODES = """
\b
Exit codes: 0 done, or saved and stopped by SIGTERM; 1 the input, the run or
the disk is at fault (one line says what); 2 the command line is; 130
interrupted by Ctrl-C, saved.
"""


@click.group(
    cls=Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="gfield", message="train %(version)s")
def train() -> None:
    """Pre-train encoders on gradient-field stores, fine-tune them to depth, evaluate, predict, export."""
    _allow_descriptors()


@train.command(short_help="Score a fine-tuned run by a named protocol.")
@click.argument("store", type=place_type)
@click.argument("run", type=path_type)
@click.option(
    "--protocol",
    required=True,
    metavar="NAME",
    help="nyu-eigen (the paper's), nyu-eigen-pooled, nyu-full, make3d-c1, make3d-c2 or make3d-c1-crop.",
)
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True)
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
def evaluate(store: Location, run: Path, protocol: str, batch: int, device: str, as_json: bool) -> None:
    """Score the depth network of RUN on the test split of STORE; the result is kept in RUN/evaluations."""
    from gfield import console, open_store
    from train.device import memory_advice, pick_device
    from train.evaluate import evaluate as score
    from train.frames import preflight, size_of_level
    from train.protocols import protocol_named
    from train.restore import depth_net_of_run
    from train.runs import write_result

    rule = protocol_named(protocol)
    opened = open_store(store)
    preflight([opened])
    net, meta = depth_net_of_run(run, say)
    where = pick_device(device)
    net.to(where)
    with console.progress(f"evaluate {store.name}", "pictures") as (start, advance), memory_advice():
        start(len(opened.rows("test")) if "test" in opened.splits else 0)
        result = score(
            net,
            opened,
            rule,
            size_WH=size_of_level(meta["arguments"]["size"]),
            batch=batch,
            device=where,
            on_frames=advance,
        )
    # Stores in different folders may have one name.
    path = write_result(run, f"{protocol}-{store.stem}-{opened.spec.fingerprint[:8]}", result.as_dict())
    click.echo(console.as_json(result.as_dict()) if as_json else f"{result.summary()}\n{path}")


@train.command(short_help="Depth of pictures, as PNG, colours and .npy.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=path_type)
@click.option("--run", required=True, type=path_type, help="A fine-tuned run.")
@click.option("--out", type=path_type, help="Folder for the results.  [beside each picture]")
@click.option("--mirror", is_flag=True, help="Mean with the mirrored picture's depth: a little better, twice as slow.")
@device_option
def predict(images: tuple[Path, ...], run: Path, out: Path | None, mirror: bool, device: str) -> None:
    """Predict the depth of each IMAGE: millimetres in a 16-bit PNG, a picture in colours, metres in a .npy file."""
    from train.device import memory_advice, pick_device
    from train.errors import PictureError
    from train.frames import size_of_level
    from train.image_io import MAX_PNG_M, prediction_stems, read_image, write_prediction
    from train.predict import predict_image
    from train.restore import depth_net_of_run

    net, meta = depth_net_of_run(run, say)
    size_WH = size_of_level(meta["arguments"]["size"])
    where = pick_device(device)
    net.to(where)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    failed = False
    for image, stem in prediction_stems(images, out).items():
        try:
            rgb_HWC = read_image(image)
            with memory_advice():
                depth_HW = predict_image(net, rgb_HWC, size_WH=size_WH, device=where, mirror=mirror, name=image)
        except PictureError as error:
            # The other pictures are as good as before.
            say(f"Error: {error}")
            failed = True
            continue
        written = write_prediction(depth_HW, stem)
        if depth_HW.max() > MAX_PNG_M:
            say(f"{written[0]}: ends at {MAX_PNG_M} m, what is farther is written as that; {written[2]} has it all")
        click.echo(f"{image}: {depth_HW.min():.2f} to {depth_HW.max():.2f} m; {', '.join(map(str, written))}")
    if failed:
        sys.exit(1)


@train.command("import", short_help="Make a run of weights from elsewhere.")
@click.argument("file", type=path_type)
@click.option("--out", required=True, type=path_type, metavar="RUN", help="Folder of the run.")
@click.option("--network", type=click.Choice(["densedepth", "fcrn"]), help="Expect this one.  [as the names tell]")
@click.option("--encoder", type=ENCODERS, help="Expect this one.  [as names and shapes tell]")
@click.option("--size", "size_WH", type=Level(), metavar="WxH", default="640x480", help="Trained at.  [640x480]")
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
def import_run(file: Path, out: Path, **options: Any) -> None:
    """Make a run of FILE, for evaluate, predict, export and finetune --init.

    FILE is a state dict (.pth, .safetensors): an encoder with torchvision's names, or a DenseDepth or FCRN that the
    paper's released code saved. The latter predict what they do there.
    """
    from train.importing import import_file

    command = import_file(file, out, say=say, **options)
    click.echo(f"{out}: a run like those of train {command}")
    click.echo(next_step(command, out))


@train.command(short_help="Hand a run's network to other tools.")
@click.argument("run", type=path_type)
@click.option("--to", "target", required=True, type=click.Choice(["torchvision", "timm", "safetensors", "onnx"]))
@click.option("--out", type=path_type, help="The file to write.  [RUN/export/...]")
@size_option
def export(run: Path, target: str, out: Path | None, size_WH: tuple[int, int] | None) -> None:
    """Write the network of RUN for other tools, and print how far its outputs differ from ours.

    torchvision, timm and safetensors hold the encoder; onnx the depth network, or the encoder of a pre-training.
    """
    from train.export import export_run

    exported = export_run(run, target, out, size_WH=size_WH, say=say)
    click.echo(f"{exported.path}: largest difference of outputs {exported.difference:.2e}")


for _command in (pretrain, finetune, study, report):
    train.add_command(_command)


def _allow_descriptors() -> None:
    """Have as many descriptors as may be had: a shard that is open takes one, and large stores have thousands."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(_DESCRIPTORS, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        with contextlib.suppress(ValueError, OSError):  # less is slower, and works
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
