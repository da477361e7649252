"""The user's own space: a function that asks the trial and returns a network."""

import importlib.util
import logging
import pathlib
import sys

import numpy as np
import optuna
import pytest
import torch
from torch import nn

import nas_optuna as nas
from nas_optuna.candidates import propose_params
from nas_optuna.errors import StudyMismatchError
from nas_optuna.spaces import FunctionSpace, MacroSpace
from tests.formula import Formula

METRICS = ("accuracy", "parameters", "flops")


def graph(trial):
    """Returns an Architecture; `unused` changes nothing."""
    net = nas.ArchitectureBuilder((1, 8, 8), num_classes=10)
    width = trial.suggest_categorical("width", [8, 16, 32])
    x = net.conv2d(net.input, width, name="stem")
    y = net.conv2d(x, width, kernel_size=trial.suggest_int("kernel_size", 1, 5, step=2))
    trial.suggest_categorical("unused", [1, 2, 3, 4])
    return net.build(net.classifier(net.add(x, y)))


def module(trial):
    """Returns a PyTorch module."""
    width = trial.suggest_int("width", 4, 32, log=True)
    act = {"relu": nn.ReLU, "gelu": nn.GELU}[trial.suggest_categorical("act", ["relu", "gelu"])]
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), act(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(trial.suggest_float("dropout", 0.0, 0.5)),
        nn.Linear(width * 16, 10),
    )  # fmt: skip


def conditional(trial):
    """Asks about each layer that there is, and about the kernel of convolutions only."""
    net = nas.ArchitectureBuilder((1, 8, 8), num_classes=10)
    x = net.conv2d(net.input, 8)
    for i in range(trial.suggest_int("layers", 1, 3)):
        if trial.suggest_categorical(f"operation{i}", ["pool", "conv"]) == "conv":
            x = net.conv2d(x, 8, trial.suggest_categorical(f"kernel{i}", [3, 5]))
        else:
            x = net.max_pool2d(x)
    return net.build(net.classifier(x))


def fragile(trial):
    """Cannot be built for half of its answers, and asks on only after that."""
    layers = [nn.Flatten(), nn.Linear(64, trial.suggest_categorical("hidden", [10, 20, 30, 40]))]
    if trial.params["hidden"] > 20:
        raise ValueError("too wide for this machine")
    bias = trial.suggest_categorical("bias", [True, False])
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(trial.params["hidden"], 10, bias=bias))


def reads_numbers(trial):
    """Looks at weights while it builds, which the meta device has not."""
    linear = nn.Linear(64, 10)
    if float(linear.weight.detach().abs().sum()) > 0:
        nn.init.constant_(linear.bias, trial.suggest_float("bias", -1.0, 1.0))
    return nn.Sequential(nn.Flatten(), linear)


FUNCTIONS = [graph, module, conditional, fragile, reads_numbers]
each = pytest.mark.parametrize("function", FUNCTIONS)


def as_space(function):
    return FunctionSpace(function, input_shape=(1, 8, 8), num_classes=10)


def run(function, *, evaluator=None, trials=6, metrics=METRICS, limits=None, sampler="random"):
    objective = nas.Objective(
        as_space(function), evaluator or Formula(), metrics=metrics, constraints=limits
    )
    study = optuna.create_study(
        directions=objective.directions,
        sampler=nas.samplers.create(sampler, space=objective.space, seed=0),
    )
    study.optimize(objective, n_trials=trials)
    return study


@pytest.mark.parametrize(
    ("function", "params"),
    [
        (graph, {"width": 16, "kernel_size": 5, "unused": 1}),
        (module, {"width": 8, "act": "relu", "dropout": 0.1}),
        (conditional, {"layers": 1, "operation0": "conv", "kernel0": 5}),
    ],
)
def test_it_is_trained_on_real_data(function, params):
    """One epoch, shapes taken from the data, every metric measured."""
    evaluator = nas.evaluators.FullTraining("digits", epochs=1, batch_size=16)
    metrics = ("accuracy", "latency_ms", "parameters", "flops", "memory_mb")
    objective = nas.Objective(function, evaluator, metrics=metrics)
    study = optuna.create_study(directions=objective.directions)
    study.enqueue_trial(params)
    study.optimize(objective, n_trials=2)
    for trial in study.trials:
        assert "nas:infeasible" not in trial.user_attrs
        assert ("nas:architecture" in trial.user_attrs) == (function is not module)
        assert all(value > 0 for value in trial.values)
    assert study.trials[0].params == params
    assert study.trials[0].values[0] > 0.3  # 0.5 or more here; guessing gives 0.1


@each
def test_costs_are_those_of_the_network(function):
    study = run(function, trials=8)
    for trial in study.trials:
        if "nas:infeasible" in trial.user_attrs:
            assert function is fragile
            continue
        made = function(optuna.trial.FixedTrial(trial.params))
        real = made if isinstance(made, nn.Module) else nas.models.build(made)
        assert trial.values[1] == sum(p.numel() for p in real.parameters())


@pytest.mark.parametrize("function", [graph, module])
def test_limits_rule_out_before_training(function):
    evaluator = Formula()
    limits = nas.SearchConstraints(max_parameters=2_500)
    study = run(function, evaluator=evaluator, limits=limits, trials=12)
    broken = [t for t in study.trials if "nas:infeasible" in t.user_attrs]
    assert 0 < len(broken) < 12
    assert all(t.values[1] > 2_500 and t.constraints["max_parameters"] > 0 for t in broken)
    trained = {t.user_attrs["nas:digest"] for t in study.trials if t not in broken}
    assert sorted(set(evaluator.judged)) == sorted(trained)


def test_an_architecture_is_cached_by_what_it_is():
    evaluator = Formula()
    objective = nas.Objective(as_space(graph), evaluator, metrics=METRICS)
    study = optuna.create_study(directions=objective.directions)
    for unused in (1, 2):
        study.enqueue_trial({"width": 8, "kernel_size": 3, "unused": unused})
    study.optimize(objective, n_trials=2)
    assert len(evaluator.judged) == 1
    assert study.trials[1].user_attrs["nas:cached"]


def test_a_module_is_cached_by_its_parameters():
    evaluator = Formula()
    objective = nas.Objective(as_space(module), evaluator, metrics=METRICS)
    study = optuna.create_study(directions=objective.directions)
    for act in ("relu", "relu", "gelu"):
        study.enqueue_trial({"width": 8, "act": act, "dropout": 0.25})
    study.optimize(objective, n_trials=3)
    assert len(evaluator.judged) == 2
    assert [("nas:cached" in t.user_attrs) for t in study.trials] == [False, True, False]


def key(function, **params):
    return propose_params(as_space(function), params).candidate.key


def test_a_module_is_cached_by_its_layers_too():
    """One source, whatever it closes over."""

    def wide(base, layer=nn.Linear, **options):
        def network(trial):
            depth = trial.suggest_int("depth", 1, 2)
            hidden = [layer(base, base, **options) for _ in range(depth)]
            return nn.Sequential(nn.Flatten(), nn.LazyLinear(base), *hidden, nn.Linear(base, 10))

        return network

    assert key(wide(8), depth=1) == key(wide(8), depth=1)
    others = wide(9), wide(8, bias=False), wide(8, Frozen)
    assert len({key(function, depth=1) for function in (wide(8), *others)}) == 4


class Frozen(nn.Linear):
    """Looks like `nn.Linear` but is not trained."""

    def __init__(self, *args):
        super().__init__(*args)
        self.requires_grad_(False)

    def __repr__(self):
        return f"Linear({self.extra_repr()})"


CLASSES = """
from torch import nn
class Base(nn.Module):
    def forward(self, x):
        return self.head(x.flatten(1)){after}
class Net(Base):
    def __init__(self, width):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(64, width), nn.Linear(width, 10))
        self.act = lambda x: x
    def extra_repr(self):
        return repr(self.act)  # with the address of the function
def network(trial):
    return Net(trial.suggest_int("width", 4, 8))
"""


def test_a_module_is_cached_by_the_code_of_its_classes(tmp_path, monkeypatch):
    file = tmp_path / "net.py"

    def edited(after):
        file.write_text(CLASSES.format(after=after))
        spec = importlib.util.spec_from_file_location("net", file)
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "net", loaded)
        spec.loader.exec_module(loaded)
        return loaded.network

    first = edited("")
    before = key(first, width=4)
    assert key(first, width=4) == before
    second = edited(".tanh()  # a change of a base class's `forward`")
    assert key(second, width=4) != before
    assert key(first, width=4) == before  # what runs there is still the old code
    assert key(edited(""), width=4) == before


@pytest.mark.parametrize("function", [graph, module, conditional])
@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_every_sampler_searches_it(function, sampler):
    study = run(function, sampler=sampler, trials=25)
    assert len({t.user_attrs["nas:digest"] for t in study.trials}) > 6
    assert not any("nas:infeasible" in t.user_attrs for t in study.trials)


@pytest.mark.parametrize("function", [graph, module, conditional])
def test_it_is_resumed(function, tmp_path):
    def search(file="killed.db", classes=10):
        return nas.Search(
            name="own",
            space=FunctionSpace(function, input_shape=(1, 8, 8), num_classes=classes),
            evaluator=Formula(),
            metrics=METRICS,
            sampler="tpe",
            trials=12,
            storage=f"sqlite:///{tmp_path / file}",
        )

    first, second, whole = search(), search(), search("whole.db")
    first.optimize(first.create(), trials=5)
    study = second.load()
    second.optimize(study, trials=4)
    never_stopped = whole.create()
    whole.optimize(never_stopped, trials=9)
    assert [(t.params, t.values) for t in study.trials] == [
        (t.params, t.values) for t in never_stopped.trials
    ]
    assert not set(first.evaluator.judged) & set(second.evaluator.judged)
    with pytest.raises(StudyMismatchError, match="space"):
        search(classes=11).load()


def told(caplog):
    return [r.getMessage() for r in caplog.records if "asks other questions" in r.getMessage()]


def test_a_conditional_space_is_told_so_once_with_what_it_costs(caplog):
    space = as_space(conditional)
    with caplog.at_level(logging.WARNING):
        assert space.conditional
        assert space.size == 3 * 2**3 * 2**3
        space.sample(np.random.default_rng(0))
        run_again = nas.Objective(space, Formula(), metrics=METRICS)
        optuna.create_study(directions=run_again.directions).optimize(run_again, n_trials=5)
    (message,) = told(caplog)
    assert message.startswith("conditional asks other questions from run to run: 2 always, 5 only")
    assert "kernel0" in message
    assert "NSGA-II evolves only the first" in message


def test_it_is_told_so_in_a_plain_optuna_study_too(caplog):
    objective = nas.Objective(as_space(conditional), Formula(), metrics=METRICS)
    study = optuna.create_study(directions=objective.directions)
    with caplog.at_level(logging.WARNING):
        study.optimize(objective, n_trials=12)
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("function", [graph, module, fragile, reads_numbers])
def test_other_spaces_are_not(function, caplog):
    space = as_space(function)
    with caplog.at_level(logging.WARNING):
        assert not space.conditional
        run(function)
    assert not MacroSpace((1, 8, 8), 10).conditional
    assert not told(caplog)


def test_a_rare_condition_is_found():
    """One answer in twelve asks for more; eight random runs would miss it every other time."""

    def rare(trial):
        if trial.suggest_int("size", 1, 12) == 7:
            trial.suggest_categorical("more", ["a", "b"])

    for _ in range(3):
        assert as_space(rare).conditional


def test_what_cannot_be_built_is_infeasible_and_its_questions_are_known():
    assert list(as_space(fragile).genes) == ["hidden", "bias"]
    study = run(fragile, trials=10)
    reasons = {t.params["hidden"]: t.user_attrs.get("nas:infeasible", "") for t in study.trials}
    assert all(bool(reason) == (hidden > 20) for hidden, reason in reasons.items())
    assert any("too wide for this machine" in reason for reason in reasons.values())


def test_genes_are_found_without_weights():
    """A module of 400 MB, asked for its questions a dozen times, is never allocated."""

    def large(trial):
        return nn.Linear(10_000, 1_000 * trial.suggest_int("thousands", 10, 12))

    torch.empty(1)  # whatever torch allocates once
    before = peak_memory_mb()
    assert list(as_space(large).genes) == ["thousands"]
    assert peak_memory_mb() - before < 100


def peak_memory_mb():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def test_its_genomes_vary_within_it():
    rng = np.random.default_rng(0)
    for function in FUNCTIONS:
        space = as_space(function)
        params = space.sample(rng)
        for _ in range(20):
            mutant, other = space.mutate(params, rng), space.sample(rng)
            params = space.crossover(mutant, other, rng)
            if function is not fragile:
                space.architecture(params)  # a missing or foreign answer would be an error
