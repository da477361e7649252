"""`report`: one page, and Markdown beside it, with all that is to be known of a study."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from rich.console import Console

from nas_optuna.cli.failure import database_errors
from nas_optuna.cli.given import Given
from nas_optuna.cli.running import amount, in_file_name
from nas_optuna.constraints import LIMITS
from nas_optuna.data import DataSet
from nas_optuna.errors import SettingError
from nas_optuna.evaluators import Evaluator
from nas_optuna.metrics import METRICS
from nas_optuna.models import LatencyTable
from nas_optuna.provenance import pruner_text
from nas_optuna.recording import SETUP
from nas_optuna.report.runs import finished_trials
from nas_optuna.report.study_page import Asked, write_study_report
from nas_optuna.report.tables import format_limit
from nas_optuna.samplers import STRATEGIES
from nas_optuna.search import Search
from nas_optuna.storage import mask, without_secrets

_AGAIN = "sqlite:///again.db"
# In URLs of any kind, up to the last @: a password may hold one that was not quoted.
_PASSWORD = re.compile(r"(://[^\s:/@\"']*:)[^\s\"']+(?=@)|([?&]\w*password=)[^\s&\"']+", re.I)
_CAVEAT = (
    "With one worker, the versions above and the same number of threads, trial for trial is the "
    "same again, as far as no metric is a time: a measured latency differs from run to run."
)
_SEVERAL = (
    "These commands do not repeat the study: it was run with several samplers or seeds, each as "
    "above, and which trial came from which was not kept."
)


def write_report(given: Given, out: Path | None) -> None:
    """Write the report of a study.

    Args:
        given: Study file and options.
        out: The page, a `.html` file; by default one named after the study. The Markdown lies
            beside it.

    Raises:
        SettingError: `out` is no `.html` file or cannot be written, or plotly is missing.
    """
    written = given.written()
    search = given.applied(written)
    file = Path(f"{in_file_name(search.name)}-report.html") if out is None else out
    if file.suffix != ".html":
        raise SettingError(f"--out must be a .html file, got {str(file)!r}.")
    with database_errors(search.storage):
        study = search.read()
        asked = asked_of(search, study, given.study, storages=(written.storage, search.storage))
        files = write_study_report(study, asked, file)
    text = f"Written: {' and '.join(map(str, files))}."
    Console(highlight=False).print(text, soft_wrap=True, markup=False)


def asked_of(search: Search, study: optuna.Study, file: Path, *, storages: Iterable[str]) -> Asked:
    """Say what a study was asked.

    Args:
        search: What its study file defines.
        study: The study.
        file: The study file.
        storages: URLs of databases whose passwords the file may hold, in whatever form.
    """
    space = search.objective.space
    setups = _setups(search, study)
    ways = list(dict.fromkeys((setup["sampler"], setup["seed"]) for setup in setups))
    repeats = len(ways) == 1
    return Asked(
        title=search.name,
        facts=[*_question_facts(search), *_evaluation_facts(search)],
        runs=[_run_facts(setup) for setup in setups],
        genes=[(name, choices_text(gene)) for name, gene in space.genes.items()],
        commands=_commands(search, study, file, ways),
        repeats=repeats,
        source=_source(file, storages),
        constraints=search.constraints,
        weights=search.weights,
        caveats=(_CAVEAT if repeats else _SEVERAL,),
    )


def _source(file: Path, storages: Iterable[str]) -> str:
    """Text of a study file without passwords."""
    source = file.read_text(encoding="utf-8", errors="replace")
    source = _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", source)
    for url in storages:
        source = without_secrets(source, url)
    return source


def _question_facts(search: Search) -> Iterator[tuple[str, str]]:
    objective = search.objective
    space = objective.space
    shape, size = " x ".join(map(str, space.input_shape)), amount(space.size)
    yield "database", mask(search.storage)
    yield (
        "space",
        f"{space.name}: {size} genomes of {len(space.genes)} genes, from {shape} to "
        f"{space.num_classes} classes{', conditional' if space.conditional else ''}",
    )
    yield "metrics", ", ".join(f"{n} ({METRICS[n].direction}d)" for n in objective.metrics)
    limits = [f"{n} {format_limit(LIMITS[n], v)}" for n, v in objective.limits.items()]
    yield "limits", ", ".join(limits) or "none"
    platform = search.constraints.target_platform if search.constraints else "cpu"
    yield "target", platform
    if "latency_ms" in objective.metrics or "max_latency_ms" in objective.limits:
        yield "latency", _latency_text(search)


def _evaluation_facts(search: Search) -> Iterator[tuple[str, str]]:
    evaluator = search.evaluator
    settings = {k: v for k, v in evaluator.identity().items() if k != "data"}
    yield "evaluator", f"{evaluator.name}: {_settings_text(settings)}"
    data = getattr(evaluator, "dataset", None)
    if isinstance(data, DataSet):
        parts = ", ".join(
            f"{len(part):,} {name}"
            for name, part in (
                ("training", data.train), ("validation", data.validation), ("test", data.test),
            )
        )  # fmt: skip
        yield "data", f"{data.name}: {parts} samples (the test part was not looked at)"
        yield "data SHA-256", data.fingerprint
    elif "data" in evaluator.identity():
        yield "data", str(evaluator.identity()["data"])
    if search.health is not None:
        yield "proxy health", search.health.budget
        yield "reference", _reference_text(search.health.reference)


def _reference_text(reference: Evaluator) -> str:
    return f"{reference.name}: {_settings_text(reference.identity())}"


def _latency_text(search: Search) -> str:
    latency = search.latency
    if "latency_ms" in search.evaluator.provides:
        return f"told by {search.evaluator.name}"
    if isinstance(latency, LatencyTable):
        return f"predicted by {latency.path.name} ({latency.fingerprint})"
    many = "s" if latency.threads != 1 else ""
    runtime = search.objective.stopwatch.runtime
    return (
        f"median of at least {latency.seconds:g} s, batch of {latency.batch_size}, "
        f"{latency.threads} thread{many}, by {runtime}"
    )


def _settings_text(settings: Mapping[str, Any]) -> str:
    parts = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            parts.append(f"{name} ({_settings_text(value)})")
        elif value is not None:
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def choices_text(gene: BaseDistribution) -> str:
    """The answers to a question, in words.

    Example:
        >>> from optuna.distributions import CategoricalDistribution, IntDistribution
        >>> (
        ...     choices_text(CategoricalDistribution(["conv", 3])),
        ...     choices_text(IntDistribution(8, 64, step=8)),
        ... )
        ('conv, 3', '8 to 64 by 8')
    """
    if isinstance(gene, CategoricalDistribution):
        return ", ".join(map(str, gene.choices))
    numbers: Any = gene
    step = "" if numbers.step in (None, 1) else f" by {numbers.step:g}"
    return f"{numbers.low:g} to {numbers.high:g}{step}{', logarithmic' if numbers.log else ''}"


def _setups(search: Search, study: optuna.Study) -> list[Mapping[str, Any]]:
    """How trials were run, the earliest first; what the file says if nothing was kept."""
    kept = [value for key, value in study.user_attrs.items() if key.startswith(SETUP)]
    if kept:
        return sorted(kept, key=lambda setup: str(setup["began"]))
    pruner = search.pruner and pruner_text(search.pruner)
    return [{"sampler": search.sampler, "seed": search.seed, "pruner": pruner}]


def _run_facts(setup: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    name = setup["sampler"]
    text = f": {STRATEGIES[name].text}" if name in STRATEGIES else ""
    facts = [("strategy", f"{name}{text}")]
    told = {
        "seed": "seed", "pruner": "pruner", "trains on": "device", "threads of torch": "threads",
        "machine": "machine",
    }  # fmt: skip
    values = {label: setup.get(key) for label, key in told.items()}
    facts += [(label, str(value)) for label, value in values.items() if value is not None]
    if "versions" in setup:
        facts.append(("versions", _settings_text(setup["versions"])))
    since = (
        f"since {re.sub(r'[.][0-9]+', '', setup['began'])}"
        if "began" in setup
        else "as the study file says"
    )
    return f"Run {since}", facts


def _commands(
    search: Search, study: optuna.Study, file: Path, ways: Sequence[tuple[str, int]]
) -> list[str]:
    """What repeats the study in a new database: its planned trials, and those added later.

    Of several ways of running it, each: how many trials one added was not kept.

    Args:
        search: What the study file defines.
        study: The study.
        file: The study file.
        ways: Samplers and seeds that trials came from, the earliest first.
    """
    planned, finished = search.planned(study), len(finished_trials(study))
    runs: list[tuple[str, int | None, tuple[str, int]]] = [("run", planned, ways[0])]
    if len(ways) > 1:
        verbs = ["run", *["resume"] * (len(ways) - 1)]
        runs = [(verb, None, way) for verb, way in zip(verbs, ways, strict=True)]
    elif finished > planned:
        runs.append(("resume", finished - planned, ways[0]))
    return [_command(verb, file, trials, search.name, *way) for verb, trials, way in runs]


def _command(verb: str, file: Path, trials: int | None, name: str, sampler: str, seed: int) -> str:
    words = [verb, file, *([] if trials is None else ["--trials", trials]), "--name", name]
    words += ["--sampler", sampler, "--seed", seed, "--storage", _AGAIN]
    return f"nas-optuna {shlex.join(map(str, words))}"
