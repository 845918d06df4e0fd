"""The commands of `train`. Everything heavy is imported inside the commands, so that --help is instant."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gfield.commandline import Commands, Level
from train.option_help import SectionedCommand
from train.pretrain_options import METHOD_HELP, SECTIONS, method_options
from train.study.commands import report, study

if TYPE_CHECKING:
    from train.loop import Outcome
    from train.session import Settings

F = TypeVar("F", bound=Callable[..., Any])

EXIT_CODES = """
\b
Exit codes: 0 done, or saved and stopped by SIGTERM; 1 the input, the run or
the disk is at fault (one line says what); 2 the command line is; 130
interrupted by Ctrl-C, saved.
"""
ENCODERS = click.Choice(["resnet18", "resnet50", "densenet121", "densenet161"])
SCHEDULES = click.Choice(["cosine", "step", "stairs", "constant"])
path_type = click.Path(path_type=Path)


def _stacked(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    return lambda function: functools.reduce(lambda inner, decorate: decorate(inner), reversed(decorators), function)


size_option = click.option("--size", "size_WH", type=Level(), metavar="WxH", help="Level of the store.  [the largest]")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
length_options = _stacked(
    click.option("--steps", type=click.IntRange(1), help="Length in steps, instead of epochs."),
    click.option("--warmup", type=click.IntRange(0), default=0, show_default=True, help="Steps of rising rate."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of everything random."),
)
machine_options = _stacked(
    click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True,
                 help="Micro-batches of a step: the same result in less memory."),
    device_option,
    click.option("--precision", type=click.Choice(["auto", "bf16", "float32"]), default="auto", show_default=True,
                 help="auto: bf16 on CUDA."),
    click.option("--compile", "compiled", is_flag=True, help="Compile the networks by torch.compile."),
    click.option("--cache", type=click.Choice(["auto", "device", "host", "none"]), default="auto", show_default=True,
                 help="Where decoded frames are kept."),
    click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads that read.  [by the machine]"),
    click.option("--save-every", type=click.IntRange(1), metavar="STEPS", help="Checkpoints.  [every 10 minutes]"),
    click.option("--resume", is_flag=True, help="Go on with the run in --out, or start it."),
    click.option("--overwrite", is_flag=True, help="Replace the run in --out."),
)  # fmt: skip


@click.group(
    cls=Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="gfield", message="train %(version)s")
def train() -> None:
    """Pre-train encoders on gradient-field stores, fine-tune them to depth, evaluate, predict, export."""


@train.command(
    cls=SectionedCommand,
    sections=SECTIONS,
    epilog=METHOD_HELP,
    short_help="Pre-train an encoder on pictures without labels.",
)
@click.argument("stores", metavar="STORE...", nargs=-1, required=True, type=path_type)
@click.option("--out", required=True, type=path_type, metavar="RUN", help="Folder of the run.")
@method_options
@click.option("--encoder", type=ENCODERS, default="resnet50", show_default=True)
@size_option
@click.option("--init", default="random", show_default=True, help="random, imagenet, a run's folder or a file.")
@click.option("--weights", type=path_type, help="File of ImageNet's weights.  [torchvision's cache]")
@click.option("--batch", type=click.IntRange(1), help="Over all processes.  [64, DenseNet 16; rotation a quarter]")
@click.option("--epochs", type=click.IntRange(1), default=200, show_default=True)
@click.option("--lr", "rate", type=float, help="Of SGD.  [.015; moco and simclr .03 x batch / 256]")
@click.option("--schedule", type=SCHEDULES, help="[cosine; moco v1 stairs]")
@length_options
@machine_options
def pretrain(stores: tuple[Path, ...], method: str, recipe: str | None, encoder: str, **options: Any) -> None:
    """Pre-train an encoder on the pictures of STOREs, without labels.

    Frames of the splits train and unlabeled are used. What is left out comes from the method's recipe; an option that
    the method does not take is an error. On several cards:
    `torchrun --standalone --nproc-per-node N $(which train) pretrain ...`.
    """
    from train.pretrain import default_settings
    from train.pretrain import pretrain as run

    defaults = default_settings(method, encoder, recipe=recipe, batch=options["batch"])
    options.update({name: value for name, value in defaults.items() if options[name] is None})
    settings = _settings(options, options.pop("batch"))
    outcome = run(stores, settings, method=method, recipe=recipe, encoder=encoder, say=_say, **options)
    _finish(outcome, settings, _after_pretraining)


@train.command(short_help="Train a depth network on the labelled frames of a store.")
@click.argument("store", type=path_type)
@click.option("--out", required=True, type=path_type, metavar="RUN", help="Folder of the run.")
@click.option("--init", required=True, metavar="START", help="random, imagenet, a run's folder or a file of weights.")
@click.option("--network", type=click.Choice(["densedepth", "fcrn"]), default="densedepth", show_default=True)
@click.option("--encoder", type=ENCODERS, help="[densenet161; fcrn resnet50]")
@click.option("--weights", type=path_type, help="File of ImageNet's weights.  [torchvision's cache]")
@size_option
@click.option("--labels", default="all", show_default=True, help="Share (0.01, 1%) or number of labelled frames.")
@click.option("--label-seed", type=int, default=0, show_default=True, help="Which frames those are.")
@click.option("--loss", type=click.Choice(["densedepth", "l1", "berhu"]), help="[densedepth; fcrn l1]")
@click.option("--gradient-weight", type=float, default=0.0, show_default=True, help="Of densedepth's third term.")
@click.option("--batch", type=click.IntRange(1), help="Over all processes.  [8, or all labelled frames if fewer]")
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True)
@click.option("--lr", "rate", type=float, default=1e-4, show_default=True, help="Learning rate of Adam.")
@click.option("--schedule", type=SCHEDULES, default="constant", show_default=True)
@length_options
@machine_options
def finetune(store: Path, labels: str, batch: int | None, **options: Any) -> None:
    """Train a depth network on the train split of STORE."""
    from train.finetune import default_batch
    from train.finetune import finetune as run
    from train.labels import parse_labels
    from train.session import open_stores

    share = parse_labels(labels)
    (opened,) = open_stores([store])
    settings = _settings(options, batch or default_batch(opened, share))
    _finish(run(opened, settings, labels=share, say=_say, **options), settings, _after_finetuning)


@train.command(short_help="Score a fine-tuned run by a named protocol.")
@click.argument("store", type=path_type)
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
def evaluate(store: Path, run: Path, protocol: str, batch: int, device: str, as_json: bool) -> None:
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
    net, meta = depth_net_of_run(run, _say)
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

    net, meta = depth_net_of_run(run, _say)
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
            _say(f"Error: {error}")
            failed = True
            continue
        written = write_prediction(depth_HW, stem)
        if depth_HW.max() > MAX_PNG_M:
            _say(f"{written[0]}: ends at {MAX_PNG_M} m, what is farther is written as that; {written[2]} has it all")
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

    command = import_file(file, out, say=_say, **options)
    click.echo(f"{out}: a run like those of train {command}")
    click.echo(_after_pretraining(out) if command == "pretrain" else _after_finetuning(out))


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

    exported = export_run(run, target, out, size_WH=size_WH, say=_say)
    click.echo(f"{exported.path}: largest difference of outputs {exported.difference:.2e}")


train.add_command(study)
train.add_command(report)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _settings(options: dict[str, Any], batch: int) -> Settings:
    from train.session import Settings

    names = set(Settings.__dataclass_fields__) - {"batch"}
    return Settings(batch=batch, **{name: options.pop(name) for name in sorted(names & set(options))})


def _finish(outcome: Outcome, settings: Settings, after: Callable[[Path], str]) -> None:
    """Say how a run ended, and exit accordingly."""
    from gfield.console import readable_time

    rate = outcome.images / outcome.seconds if outcome.seconds else 0.0
    facts = [f"step {outcome.step} of {outcome.steps}"]
    if outcome.scalars:
        facts.append(f"loss {outcome.scalars['loss']:.4f}")
        facts.append(f"{readable_time(outcome.seconds)}, {rate:.3g} images/s, {outcome.wait_share:.1%} waiting")
    if outcome.skipped:
        facts.append(f"{outcome.skipped} steps skipped, loss or gradient not finite")
    if outcome.rank == 0:
        click.echo(f"{settings.out}: {'; '.join(facts)}")
    if outcome.signal is not None:
        if outcome.rank == 0:
            click.echo(f"Stopped by {signal.Signals(outcome.signal).name} and saved; --resume goes on.", err=True)
        sys.exit(130 if outcome.signal == signal.SIGINT else 0)
    if outcome.rank == 0:
        click.echo(after(settings.out))


def _after_pretraining(run: Path) -> str:
    return f"next: train finetune STORE --init {run} --out RUN --network ... --encoder ..."


def _after_finetuning(run: Path) -> str:
    return f"next: train evaluate STORE {run} --protocol ...; train predict IMAGE... --run {run}"
