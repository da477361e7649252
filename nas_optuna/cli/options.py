"""What the commands are asked: the options that several of them share, and their choices."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Where networks are trained."""

    CPU = "cpu"
    CUDA = "cuda"


class Format(StrEnum):
    """How a front is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Launcher(StrEnum):
    """What starts workers, and where."""

    LOCAL = "local"
    RAY = "ray"


class Runtime(StrEnum):
    """What runs a network when its latency is measured."""

    TORCH = "torch"
    ONNXRUNTIME = "onnxruntime"


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.py", help="File that defines `search`.")]
Storage = Annotated[str | None, typer.Option(metavar="URL", help="Database, if not the file's.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Study, if not the file's.")]
Trials = Annotated[int | None, typer.Option(metavar="N", min=1, help="Finished trials to add.")]
Evaluations = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Networks to train; repeated and infeasible are free."),
]
Timeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Start no further trial after so long.")
]
Sampler = Annotated[
    str | None, typer.Option(metavar="NAME", help="Strategy; `nas-optuna samplers` lists them.")
]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, help="Seed of the strategy.")]
OnDevice = Annotated[Device | None, typer.Option(help="Where networks run.")]

Workers = Annotated[int, typer.Option(metavar="N", min=1, help="Processes that run trials.")]
LaunchedBy = Annotated[
    Launcher, typer.Option(help="Where workers run: on this machine, or on a Ray cluster.")
]
Cpus = Annotated[float, typer.Option(metavar="N", min=0.0, help="Cores of a trial, asked of Ray.")]
Gpus = Annotated[float, typer.Option(metavar="N", min=0.0, help="GPUs of a trial, asked of Ray.")]
Hang = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=1.0,
        help="End a worker that is silent for so long, as for an epoch.",
    ),
]
