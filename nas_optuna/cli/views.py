"""The commands that look at a study or list what there is."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.text import Text

from nas_optuna import report
from nas_optuna.candidates import propose_params
from nas_optuna.cli.failure import database_errors
from nas_optuna.cli.given import Given
from nas_optuna.errors import SettingError
from nas_optuna.models import node_parameters
from nas_optuna.profiling import profile
from nas_optuna.recording import DIGEST
from nas_optuna.report import diagram_png, diagram_svg, show
from nas_optuna.report.agreement import agreement, agreement_text
from nas_optuna.search import Search
from nas_optuna.spaces import UNBUILDABLE, Space

_SHOWN = 20  # members of a front in a table, unless told otherwise


def print_pareto(given: Given, *, form: str, limit: int | None, weights: str | None) -> None:
    """Print the front of a study.

    Args:
        given: Study file and options.
        form: `table`, `json` or `csv`.
        limit: Most members printed, the most spread-out ones; by default 20 in a table, all else.
        weights: Weights of the score, as `accuracy=0.6,parameters=0.4`.
    """
    search = given.search()
    chosen = search.weights if weights is None else parse_weights(weights)
    with database_errors(search.storage):
        study = search.read()
        if form == "table":
            print_front(Console(highlight=False), search, study, limit=limit, weights=chosen)
            return
        records = report.pareto_records(
            study, limit=limit, weights=chosen, constraints=search.constraints
        )
    text = report.pareto_csv(records) if form == "csv" else json.dumps(records, indent=2) + "\n"
    sys.stdout.write(text)


def parse_weights(text: str) -> dict[str, float]:
    """Read weights by metric name.

    Raises:
        SettingError: It is not of the form `name=number,...`.

    Example:
        >>> parse_weights("accuracy=0.6, parameters=0.4")
        {'accuracy': 0.6, 'parameters': 0.4}
    """
    weights = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            raise SettingError(
                f"--weights must be like accuracy=0.6,parameters=0.4; got {part!r} in it."
            ) from None
    return weights


def print_front(
    console: Console,
    search: Search,
    study: optuna.Study,
    *,
    limit: int | None = None,
    weights: Mapping[str, float] | None = None,
) -> int | None:
    """Print the front of a study as a table.

    Args:
        console: Where to print.
        search: What was searched.
        study: Its study.
        limit: Most members shown; 20 by default.
        weights: Weights of the score; by default those of the search.

    Returns:
        Number of the trial with the best score, None if nothing is feasible.
    """
    records = report.pareto_records(
        study,
        limit=_SHOWN if limit is None else limit,
        weights=search.weights if weights is None else weights,
        constraints=search.constraints,
    )
    if not records:
        console.print(f"No feasible network in study {search.name!r} yet.", markup=False)
        return None
    total = len(report.pareto_front(study))
    title = f"Best network of {search.name}"
    if len(study.directions) > 1:
        some = f"{len(records)} of " if len(records) < total else ""
        title = f"Pareto front of {search.name}: {some}{total} network{'s' * (total > 1)}"
    console.print(report.pareto_table(records, title=escape(title)))
    health = agreement(study)
    if health is not None:
        console.print(agreement_text(health), markup=False)
    return int(records[0]["number"])


def print_profile(given: Given, *, samples: int) -> None:
    """Print what the networks of a space cost and how many the limits let through.

    Args:
        given: Study file and options.
        samples: Networks to draw.
    """
    console = Console(highlight=False)
    objective = given.search().objective
    found = profile(objective, samples=samples)
    if found.built:
        title = f"{objective.space.name}: {found.built} random networks"
        console.print(
            report.profile_table(found.rows, feasible=found.feasible, title=escape(title))
        )
    if found.failure:
        failed = f"{samples - found.built} of {samples} cannot be built, most often because: "
        console.print(failed + found.failure, markup=False)
    if found.advice:
        console.print(f"Tight: {found.advice}.", markup=False)


def show_trial(given: Given, *, number: int, diagram: Path | None = None) -> None:
    """Print one trial: its network, metrics and learning curve.

    Args:
        given: Study file and options.
        number: Number of the trial.
        diagram: Where to draw the network, a `.svg` or `.png` file.
    """
    search = given.search()
    with database_errors(search.storage):
        study = search.read()
        trial = show.find_trial(study, number)
        text = show.trial_text(
            study, trial, _network(search, trial), constraints=search.constraints
        )
    console = Console(highlight=False)
    console.print(text)
    if diagram is not None:
        _draw(trial, diagram)
        console.print(f"Drawn in {diagram}.", soft_wrap=True, markup=False)


def _draw(trial: FrozenTrial, file: Path) -> None:
    architecture = show.architecture_of(trial)
    if architecture is None:
        raise SettingError(
            f"Trial {trial.number} has no graph to draw: its space returns a module. "
            "A space written with nas_optuna.ArchitectureBuilder has one."
        )
    if file.suffix not in (".svg", ".png"):
        raise SettingError(f"A diagram is a .svg or .png file, got {str(file)!r}.")
    try:
        if file.suffix == ".svg":
            file.write_text(diagram_svg(architecture), encoding="utf-8")
        else:
            diagram_png(architecture, file)
    except OSError as error:
        raise SettingError(f"Cannot write {str(file)!r}: {error.strerror}.") from error


def _network(search: Search, trial: FrozenTrial) -> RenderableType | None:
    architecture = show.architecture_of(trial)
    if architecture is not None:
        return show.network_table(architecture, node_parameters(architecture))
    try:
        candidate = propose_params(search.objective.space, trial.params).candidate
    except UNBUILDABLE:
        return None
    if candidate.key != trial.user_attrs.get(DIGEST):  # the function has changed since
        return None
    return Text(str(candidate.build()))


def list_samplers() -> None:
    """Print every strategy."""
    from nas_optuna.samplers import STRATEGIES

    _print_lines((strategy.name, strategy.text) for strategy in STRATEGIES.values())


def list_spaces() -> None:
    """Print every search space."""
    from nas_optuna import spaces

    _print_lines(_classes(spaces, Space))


def list_evaluators() -> None:
    """Print every evaluator."""
    from nas_optuna import evaluators

    _print_lines(_classes(evaluators, evaluators.Evaluator))


def _classes(module: ModuleType, root: type) -> Iterable[tuple[str, str]]:
    """Names and first docstring lines of the classes one can make."""
    for name in module.__all__:
        member = getattr(module, name)
        if inspect.isclass(member) and issubclass(member, root) and not inspect.isabstract(member):
            yield name, (inspect.getdoc(member) or "").partition("\n")[0]


def _print_lines(entries: Iterable[tuple[str, str]]) -> None:
    entries = list(entries)
    width = max(len(name) for name, _ in entries)
    console = Console(highlight=False)
    for name, text in entries:
        console.print(f"{name:<{width}}  {text}", soft_wrap=True, markup=False)
