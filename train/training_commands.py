"""The commands that train: pretrain and finetune, whose options are those of study files too."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from train.command_options import ENCODERS, device_option, next_step, path_type, place_type, say, size_option
from train.option_help import SectionedCommand
from train.pretrain_options import METHOD_HELP, SECTIONS, method_options

if TYPE_CHECKING:
    from gfield import Location
    from train.loop import Outcome
    from train.session import Settings

F = TypeVar("F", bound=Callable[..., Any])

SCHEDULES = click.Choice(["cosine", "step", "stairs", "constant"])


def _stacked(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    return lambda function: functools.reduce(lambda inner, decorate: decorate(inner), reversed(decorators), function)


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


@click.command(
    cls=SectionedCommand,
    sections=SECTIONS,
    epilog=METHOD_HELP,
    short_help="Pre-train an encoder on pictures without labels.",
)
@click.argument("stores", metavar="STORE...", nargs=-1, required=True, type=place_type)
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
def pretrain(stores: tuple[Location, ...], method: str, recipe: str | None, encoder: str, **options: Any) -> None:
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
    outcome = run(stores, settings, method=method, recipe=recipe, encoder=encoder, say=say, **options)
    _finish(outcome, settings, "pretrain")


@click.command(short_help="Train a depth network on the labelled frames of a store.")
@click.argument("store", type=place_type)
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
def finetune(store: Location, labels: str, batch: int | None, **options: Any) -> None:
    """Train a depth network on the train split of STORE."""
    from train.finetune import default_batch
    from train.finetune import finetune as run
    from train.labels import parse_labels
    from train.session import open_stores

    share = parse_labels(labels)
    (opened,) = open_stores([store])
    settings = _settings(options, batch or default_batch(opened, share))
    _finish(run(opened, settings, labels=share, say=say, **options), settings, "finetune")


def _settings(options: dict[str, Any], batch: int) -> Settings:
    from train.session import Settings

    names = set(Settings.__dataclass_fields__) - {"batch"}
    return Settings(batch=batch, **{name: options.pop(name) for name in sorted(names & set(options))})


def _finish(outcome: Outcome, settings: Settings, command: str) -> None:
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
        click.echo(next_step(command, settings.out))
