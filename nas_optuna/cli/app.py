"""The commands: each parses its options, calls the package and prints what comes back.

Only typer is imported here; a command imports what it needs when it runs, so that `--help`
answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from nas_optuna.cli.failure import MISUSED, tell
from nas_optuna.cli.given import Given
from nas_optuna.cli.options import (
    Cpus,
    Evaluations,
    Format,
    Gpus,
    Hang,
    LaunchedBy,
    Launcher,
    Name,
    OnDevice,
    Runtime,
    Sampler,
    Seed,
    Storage,
    StudyFile,
    Timeout,
    Trials,
    Workers,
)
from nas_optuna.liveness import HANG

app = typer.Typer(
    name="nas-optuna",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130  # exit status of a shell's job after Ctrl-C


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; an error is one line on stderr.

    Args:
        arguments: The words after `nas-optuna`; by default those this process got.

    Raises:
        SystemExit: Always, with the exit status: 0, 1 after an error, 2 after a wrong option,
            130 or 143 after an interruption.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    # Typer wants a program's option before the command; here it may stand anywhere.
    words = ["--debug"] * debug + [word for word in words if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show an arrow
    try:
        status = app(words, prog_name="nas-optuna", standalone_mode=False)
    except typer.Abort:
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        raise SystemExit(tell(error, debug=debug)) from error
    raise SystemExit(status or 0)


@app.callback(invoke_without_command=True)
def program(
    context: typer.Context,
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Neural architecture search for people who use Optuna."""
    context.obj = debug
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(MISUSED)


@app.command()
def run(
    context: typer.Context,
    study: StudyFile,
    *,
    trials: Trials = None,
    evaluations: Evaluations = None,
    timeout: Timeout = None,
    sampler: Sampler = None,
    storage: Storage = None,
    name: Name = None,
    seed: Seed = None,
    device: OnDevice = None,
    workers: Workers = 1,
    launcher: LaunchedBy = Launcher.LOCAL,
    cpus: Cpus = 1.0,
    gpus: Gpus = 0.0,
    hang: Hang = HANG,
) -> int:
    """Search: create the study, or continue the one that is there."""
    given = Given(
        study=study, trials=trials, evaluations=evaluations, timeout=timeout, sampler=sampler,
        storage=storage, name=name, seed=seed, device=device,
    )  # fmt: skip
    staff = {
        "workers": workers, "launcher": launcher.value, "cpus": cpus, "gpus": gpus, "hang": hang,
    }  # fmt: skip
    return _run(given, staff, create=True, debug=context.obj)


@app.command()
def resume(
    context: typer.Context,
    study: StudyFile,
    *,
    trials: Trials = None,
    evaluations: Evaluations = None,
    timeout: Timeout = None,
    sampler: Sampler = None,
    storage: Storage = None,
    name: Name = None,
    seed: Seed = None,
    device: OnDevice = None,
    workers: Workers = 1,
    launcher: LaunchedBy = Launcher.LOCAL,
    cpus: Cpus = 1.0,
    gpus: Gpus = 0.0,
    hang: Hang = HANG,
) -> int:
    """Continue a study that is there."""
    given = Given(
        study=study, trials=trials, evaluations=evaluations, timeout=timeout, sampler=sampler,
        storage=storage, name=name, seed=seed, device=device,
    )  # fmt: skip
    staff = {
        "workers": workers, "launcher": launcher.value, "cpus": cpus, "gpus": gpus, "hang": hang,
    }  # fmt: skip
    return _run(given, staff, create=False, debug=context.obj)


def _run(given: Given, staff: dict[str, Any], *, create: bool, debug: bool) -> int:
    from nas_optuna.cli.running import run_study

    if staff["workers"] == 1 and staff["launcher"] == Launcher.LOCAL:
        return run_study(given, create=create, debug=debug)
    from nas_optuna.cli.working import Staff, optimize_with

    optimize = optimize_with(Staff(**staff, debug=debug), given)
    return run_study(given, create=create, debug=debug, optimize=optimize)


@app.command()
def worker(
    context: typer.Context,
    study: StudyFile,
    *,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Finished trials of the study in all; by default what its last run asked for.",
        ),
    ] = None,
    timeout: Timeout = None,
    sampler: Sampler = None,
    storage: Storage = None,
    name: Name = None,
    seed: Seed = None,
    device: OnDevice = None,
    workers: Workers = 1,
    hang: Hang = HANG,
) -> int:
    """Join a study from anywhere, and work on it until it has its trials."""
    from nas_optuna.cli.working import Staff, join

    given = Given(
        study=study, trials=trials, timeout=timeout, sampler=sampler, storage=storage, name=name,
        seed=seed, device=device,
    )  # fmt: skip
    return join(given, Staff(workers=workers, hang=hang, debug=context.obj))


@app.command()
def profile(
    study: StudyFile,
    *,
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="Networks to draw.")] = 200,
) -> None:
    """Show what networks cost and how many the limits let through."""
    from nas_optuna.cli.views import print_profile

    print_profile(Given(study=study), samples=samples)


@app.command()
def latency_table(
    study: StudyFile,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="File to write.")],
    runtime: Annotated[Runtime, typer.Option(help="What runs the networks.")] = Runtime.TORCH,
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="Threads on the CPU.")] = 1,
    networks: Annotated[
        int, typer.Option(metavar="N", min=1, help="Networks whose operations are measured.")
    ] = 100,
    checks: Annotated[
        int, typer.Option(metavar="N", min=5, help="Networks measured whole, to check by.")
    ] = 50,
    device: OnDevice = None,
) -> None:
    """Measure the operations of a space on this machine, to predict latency by."""
    from nas_optuna.cli.tabulating import make_table

    make_table(
        Given(study=study, device=device), out,
        runtime=runtime.value, threads=threads, networks=networks, checks=checks,
    )  # fmt: skip


@app.command()
def pareto(
    study: StudyFile,
    *,
    storage: Storage = None,
    name: Name = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Print the N most spread-out networks; by default 20 in a table, else all.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="METRIC=W,...", help="Weights of the score column."),
    ] = None,
) -> None:
    """Print the Pareto front."""
    from nas_optuna.cli.views import print_pareto

    given = Given(study=study, storage=storage, name=name)
    print_pareto(given, form=form, limit=limit, weights=weights)


@app.command()
def show(
    study: StudyFile,
    *,
    trial: Annotated[int, typer.Option(metavar="N", min=0, help="Number of the trial.")],
    storage: Storage = None,
    name: Name = None,
    diagram: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the network, too: a .svg or .png file."),
    ] = None,
) -> None:
    """Show one network: its nodes, metrics and learning curve."""
    from nas_optuna.cli.views import show_trial

    show_trial(Given(study=study, storage=storage, name=name), number=trial, diagram=diagram)


@app.command()
def compare(
    context: typer.Context,
    study: StudyFile,
    *,
    samplers: Annotated[
        str,
        typer.Option(metavar="NAME,...", help="Strategies; random and local are always in."),
    ] = "tpe,nsga2",
    seeds: Annotated[int, typer.Option(metavar="K", min=1, help="Studies of each.")] = 5,
    trials: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Finished trials of each study.")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(metavar="N", help="End a study that would have spent so many alone."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="The same in seconds of evaluations and sampler."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes; by default one per core, at most 8."),
    ] = None,
    storage: Storage = None,
    name: Name = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write page, tables and pictures."),
    ] = None,
    device: OnDevice = None,
) -> int:
    """Compare strategies over seeds, and say which is better, or that it cannot be told."""
    from nas_optuna.cli.comparing import Contest, compare_samplers

    given = Given(
        study=study, trials=trials, timeout=timeout, storage=storage, name=name, device=device
    )
    contest = Contest(
        given=given, samplers=samplers, seeds=seeds, epochs=epochs, debug=context.obj
    )
    return compare_samplers(contest, workers=workers, out=out)


@app.command()
def report(
    study: StudyFile,
    *,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Page to write; Markdown is put beside it."),
    ] = None,
    storage: Storage = None,
    name: Name = None,
) -> None:
    """Write a page with all that is to be known of a study."""
    from nas_optuna.cli.reporting import write_report

    write_report(Given(study=study, storage=storage, name=name), out)


@app.command()
def dashboard(
    context: typer.Context,
    study: Annotated[
        Path | None,
        typer.Argument(metavar="STUDY.py", help="File that defines `search`; not needed."),
    ] = None,
    *,
    storage: Storage = None,
    name: Name = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; there is no log-in.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="Port to listen on; by default the first free one from 8080 on.",
        ),
    ] = None,
) -> None:
    """Open studies in optuna-dashboard, with pictures, notes and plots of their networks."""
    from nas_optuna.cli.serving import Shown, serve_dashboard

    shown = Shown(study=study, storage=storage, name=name)
    serve_dashboard(shown, host=host, port=port, debug=context.obj)


@app.command()
def export(
    study: StudyFile,
    *,
    trial: Annotated[int, typer.Option(metavar="N", min=0, help="Number of the trial.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write, of its own.")],
    seeds: Annotated[int, typer.Option(metavar="K", min=1, help="Networks to train.")] = 3,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Passes over train + validation; by default three times those of the search.",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write an ONNX file with 8-bit integers, too.")
    ] = False,
    storage: Storage = None,
    name: Name = None,
    device: OnDevice = None,
) -> int:
    """Retrain a network, test it, and write it as code, weights, torch.export and ONNX."""
    from nas_optuna.cli.exporting import export_trial

    given = Given(study=study, storage=storage, name=name, device=device)
    return export_trial(given, trial, out, seeds=seeds, epochs=epochs, int8=int8)


@app.command()
def samplers() -> None:
    """List the search strategies."""
    from nas_optuna.cli.views import list_samplers

    list_samplers()


@app.command()
def spaces() -> None:
    """List the search spaces."""
    from nas_optuna.cli.views import list_spaces

    list_spaces()


@app.command()
def evaluators() -> None:
    """List the evaluators."""
    from nas_optuna.cli.views import list_evaluators

    list_evaluators()
