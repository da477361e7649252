"""`latency-table`: measure the operations of a study's space on this machine, once for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from nas_optuna.architecture import Architecture
from nas_optuna.cli.given import Given
from nas_optuna.errors import SettingError
from nas_optuna.evaluators import pick_device
from nas_optuna.models import measure_table
from nas_optuna.models.latency_table import TableData
from nas_optuna.models.runtimes import RuntimeName
from nas_optuna.objective import Objective

_DRAWS = 20  # for each network that is wanted; the others break a limit or repeat one


def make_table(
    given: Given,
    out: Path,
    *,
    runtime: RuntimeName,
    threads: int,
    networks: int,
    checks: int,
) -> None:
    """Measure, write the file and say how well it predicts.

    Args:
        given: Study file and the device.
        out: The file.
        runtime: What runs the operations.
        threads: Threads on the CPU.
        networks: Networks whose operations are measured.
        checks: Further networks, which are measured whole.

    Raises:
        SettingError: The space has too few networks, or none that is an architecture.
        DataError: The file cannot be written.
    """
    if not out.parent.is_dir():
        raise SettingError(f"Cannot write {str(out)!r}: the folder {str(out.parent)!r} is absent.")
    console = Console(highlight=False)
    drawn = draw(given.search().objective, networks + checks)
    # A space with few members is checked by some whose operations were all measured.
    held_out = min(checks, len(drawn) // 2)
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("measuring", total=None)
        data = measure_table(
            drawn[: len(drawn) - held_out],
            drawn[len(drawn) - held_out :],
            device=pick_device(given.device or "cpu"),
            runtime=runtime,
            threads=threads,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    data.save(out)
    console.print(summary(data), soft_wrap=True, markup=False)
    console.print(f"Stored in {out}; use it: latency=nas.LatencyTable({str(out)!r})", markup=False)


def draw(objective: Objective, count: int, *, seed: int = 0) -> list[Architecture]:
    """Draw different architectures within the limits that are known by counting.

    Args:
        objective: Knows the space and the limits.
        count: Most architectures.
        seed: Seed of the draw.

    Raises:
        SettingError: The space returns modules.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Architecture] = {}
    for _ in range(_DRAWS * count):
        proposal = objective.proposal(objective.space.sample(rng))
        if proposal is not None:
            architecture = proposal.candidate.architecture
            if architecture is None:
                raise SettingError(
                    f"{objective.space.name} returns torch.nn.Modules, which have no graph of "
                    "operations to measure; write it with nas.ArchitectureBuilder."
                )
            found.setdefault(architecture.digest, architecture)
            if len(found) == count:
                break
    return list(found.values())


def summary(data: TableData) -> str:
    """Say in one line what a table holds and how well it predicts."""
    check = data.check
    threads = f"{data.threads} thread{'s' if data.threads != 1 else ''}"
    return (
        f"{len(data.entries):,} operations on {data.device}, {threads}, {data.runtime} "
        f"{data.version}. On {check.networks} networks measured whole: Kendall tau "
        f"{check.kendall_tau:.2f}, median error {100 * check.error:.0f} %, "
        f"{100 * check.estimated:.0f} % of their operations estimated from others."
    )
