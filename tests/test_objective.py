"""The way of a trial: cheap first, infeasible told and never trained, cached answers."""

import math

import optuna
import pytest
import torch
from torch import nn

import nas_optuna as nas
from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.metrics import Metrics
from nas_optuna.spaces import MacroSpace
from tests.formula import Formula

SPACE = MacroSpace((1, 8, 8), 10, max_layers=5, widths=(8, 16, 32))
COUNTED = ("accuracy", "parameters", "flops")


def run(objective, trials=10, sampler="random", storage=None, **options):
    study = optuna.create_study(
        directions=objective.directions,
        sampler=nas.samplers.create(sampler, space=objective.space, seed=0, **options),
        storage=storage,
    )
    study.optimize(objective, n_trials=trials)
    return study


def test_the_example_of_the_documentation(storage_url):
    """Real training, measured latency, a real database."""
    evaluator = nas.evaluators.EarlyStopping(data=nas.data.load("digits"), max_epochs=6)
    objective = nas.Objective(
        SPACE,
        evaluator=evaluator,
        metrics=("accuracy", "latency_ms", "parameters"),
        constraints=nas.SearchConstraints(max_parameters=200_000),
    )
    study = run(objective, 3, "nsga2", nas.storage.open(storage_url))
    for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        accuracy, latency, parameters = trial.values
        attrs = trial.user_attrs
        made = nas.Architecture.from_json(attrs["nas:architecture"])
        assert made.digest == attrs["nas:digest"]
        assert parameters == sum(p.numel() for p in nas.models.build(made).parameters())
        assert 0 <= accuracy <= 1
        assert max(attrs["nas:curve"]) == pytest.approx(accuracy, abs=1e-6)
        assert len(trial.intermediate_values) == attrs["nas:epochs"] >= 1
        assert attrs["nas:latency"]["median_ms"] == latency > 0
        assert attrs["nas:latency"]["threads"] == 1
        assert trial.constraints["max_parameters"] <= 0


def test_infeasible_is_told_with_real_costs_and_never_trained():
    evaluator = Formula()
    limits = nas.SearchConstraints(max_parameters=2000, max_latency_ms=None)
    study = run(nas.Objective(SPACE, evaluator, COUNTED, limits), 40)
    broken = [t for t in study.trials if "nas:infeasible" in t.user_attrs]
    fine = [t for t in study.trials if "nas:infeasible" not in t.user_attrs]
    assert broken
    assert fine
    assert len(evaluator.judged) == len({t.user_attrs["nas:digest"] for t in fine})
    for trial in broken:
        accuracy, parameters, flops = trial.values
        assert accuracy == 0.0
        assert parameters > 2000
        assert flops == trial.user_attrs["nas:costs"]["flops"]
        assert trial.constraints["max_parameters"] == pytest.approx(
            parameters / 2000 - 1, abs=1e-6
        )
        named = [v for name, v in trial.constraints.items() if name.startswith("max_")]
        assert trial.system_attrs["constraints"] == named
        assert "max_parameters 2,000 exceeded" in trial.user_attrs["nas:infeasible"]
    assert all(t.values[1] <= 2000 for t in study.best_trials)


def test_latency_over_the_limit_is_known_before_training():
    evaluator = Formula()
    limits = nas.SearchConstraints(max_latency_ms=1e-6)
    study = run(nas.Objective(SPACE, evaluator, constraints=limits), 2)
    assert evaluator.judged == []
    for trial in study.trials:
        assert trial.values[1] == trial.user_attrs["nas:latency"]["median_ms"] > 1e-6
        assert trial.constraints["max_latency_ms"] > 0


def test_unmeasured_latency_is_told_at_its_limit():
    limits = nas.SearchConstraints(max_parameters=1, max_latency_ms=3.0)
    study = run(nas.Objective(SPACE, Formula(), constraints=limits), 2)
    assert {t.values[1] for t in study.trials} == {3.0}


def test_least_accuracy_is_a_limit_too():
    limits = nas.SearchConstraints(min_accuracy=0.99, max_latency_ms=None)
    study = run(nas.Objective(SPACE, Formula(), COUNTED, limits), 3)
    assert study.best_trials == []
    assert all(t.values[0] > 0.5 for t in study.trials)  # the measured value is kept
    assert all("min_accuracy" in t.user_attrs["nas:infeasible"] for t in study.trials)


def test_nothing_is_trained_twice_across_samplers_studies_and_processes(storage_url):
    tiny = MacroSpace(
        (1, 8, 8), 10, min_layers=1, max_layers=2, operations=("conv",), widths=(8,),
        kernel_sizes=(1, 3), strides=(1,), activations=("relu",), connections=("sequential",),
        max_skip=0,
    )  # fmt: skip
    first, second = Formula(), Formula()
    storage = nas.storage.open(storage_url)
    one = run(nas.Objective(tiny, first, COUNTED), 30, "random", storage)
    two = run(nas.Objective(tiny, second, COUNTED), 30, "tpe", nas.storage.open(storage_url))
    assert len(first.judged) == len(set(first.judged))
    assert not set(first.judged) & set(second.judged)
    values = {}
    for trial in (*one.trials, *two.trials):
        values.setdefault(trial.user_attrs["nas:digest"], set()).add(tuple(trial.values))
    assert all(len(v) == 1 for v in values.values())
    marked = [t for t in one.trials if t.user_attrs.get("nas:cached")]
    assert len(marked) == 30 - len(first.judged)
    assert all(t.user_attrs["nas:epochs"] == 2 for t in marked)  # what it would have cost


def test_another_evaluator_setting_is_another_result():
    class Other(Formula):
        def identity(self):
            return {"seed": 1, "data": "formula"}

    storage = optuna.storages.InMemoryStorage()
    a, b = Formula(), Other()
    run(nas.Objective(SPACE, a, COUNTED), 3, storage=storage)
    run(nas.Objective(SPACE, b, COUNTED), 3, storage=storage)
    assert a.judged == b.judged


@pytest.mark.parametrize("metrics", ["accuracy", ("accuracy",)])
def test_one_metric_makes_a_single_objective_study(metrics):
    study = run(nas.Objective(SPACE, Formula(), metrics), 3, "tpe")
    assert study.best_value == max(t.value for t in study.trials)


@pytest.mark.parametrize(
    ("metrics", "error", "says"),
    [
        (("accuracy", "latency"), UnknownNameError, "Did you mean 'latency_ms'"),
        ((), SettingError, "name each metric once"),
        (("accuracy", "accuracy"), SettingError, "name each metric once"),
    ],
)
def test_wrong_metrics_are_refused(metrics, error, says):
    with pytest.raises(error, match=says):
        nas.Objective(SPACE, Formula(), metrics)


def test_a_metric_nobody_measures_is_refused():
    class OnlyAccuracy(Formula):
        provides = frozenset({"accuracy"})

    with pytest.raises(
        SettingError, match=r"does not measure 'loss'; choose from accuracy, flops"
    ):
        nas.Objective(SPACE, OnlyAccuracy(), ("accuracy", "loss"))


def test_gpu_without_cuda_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    objective = nas.Objective(
        SPACE, Formula(), constraints=nas.SearchConstraints(target_platform="gpu")
    )
    with pytest.raises(SettingError, match="torch sees none"):
        run(objective, 1)


class Fails(Formula):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def evaluate(self, candidate, report):
        raise self.error


DEVICE_ERROR = getattr(torch, "AcceleratorError", RuntimeError)


@pytest.mark.parametrize(
    "error",
    [
        DEVICE_ERROR("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    ],
)
def test_a_broken_device_ends_the_run_and_is_not_held_against_the_network(error):
    storage = optuna.storages.InMemoryStorage()
    with pytest.raises(RuntimeError, match="CUDA error") as caught:
        run(nas.Objective(SPACE, Fails(error), COUNTED), 3, storage=storage)
    assert caught.value is error
    (trial,) = optuna.load_study(study_name=None, storage=storage).trials
    assert trial.state is optuna.trial.TrialState.FAIL
    assert trial.user_attrs["nas:failed"] == f"{type(error).__name__}: {error}"
    assert not trial.constraints


@pytest.mark.parametrize(
    ("error", "constraint"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "device_memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "device_memory"),
        (DEVICE_ERROR("CUDA error: out of memory"), "device_memory"),
        (RuntimeError("shapes do not match"), "build"),
    ],
)
def test_a_network_that_fails_on_the_device_is_infeasible_and_the_run_goes_on(error, constraint):
    study = run(nas.Objective(SPACE, Fails(error), COUNTED), 3)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 3
    for trial in study.trials:
        assert trial.constraints[constraint] == 1.0
        assert trial.user_attrs["nas:infeasible"] == str(error)
        assert trial.values[1] > 0
    assert study.best_trials == []


def test_a_value_that_is_not_finite_is_infeasible():
    class NaN(Formula):
        def evaluate(self, candidate, report):
            return Metrics({"accuracy": float("nan"), "loss": float("inf")})

    study = run(nas.Objective(SPACE, NaN(), ("accuracy", "loss", "flops")), 3)
    for trial in study.trials:
        assert trial.user_attrs["nas:infeasible"] == "accuracy is not finite"
        assert trial.values[:2] == [0.0, 1000.0]
        assert trial.constraints["build"] == 1.0


def test_a_bug_in_the_users_code_ends_the_run():
    def space(trial):
        trial.suggest_int("width", 1, 4)
        return undefined_name  # noqa: F821

    function = nas.spaces.FunctionSpace(space, input_shape=(1, 8, 8), num_classes=10)
    with pytest.raises(NameError):
        run(nas.Objective(function, Formula(), COUNTED), 3)


def test_a_pruned_trial_is_pruned():
    study = run(nas.Objective(SPACE, Fails(optuna.TrialPruned()), COUNTED), 2)
    assert [t.state.name for t in study.trials] == ["PRUNED"] * 2


# A user's own functions -----------------------------------------------------------------------


def architecture_function(trial):
    net = nas.ArchitectureBuilder((1, 8, 8), num_classes=10)
    x = net.conv2d(net.input, trial.suggest_categorical("width", [8, 16]))
    if trial.suggest_categorical("deep", [False, True]):  # conditional
        x = net.conv2d(x, trial.suggest_int("second", 4, 8))
    return net.build(net.classifier(x))


class Small(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        bias = torch.zeros(x.shape[0], 10)  # a tensor of its own, on the default device
        return self.head(self.conv(x).relu().mean((2, 3))) + bias


def module_function(trial):
    return Small(trial.suggest_int("width", 4, 32))


def numeric_module_function(trial):
    model = Small(trial.suggest_int("width", 4, 32))
    scale = float(model.conv.weight.detach().abs().mean())  # needs real numbers
    assert math.isfinite(scale)
    return model


@pytest.mark.parametrize(
    "function", [architecture_function, module_function, numeric_module_function]
)
def test_a_function_is_a_space_from_the_first_day(function, tmp_path):
    evaluator = nas.evaluators.FullTraining("digits", epochs=2)
    limits = nas.SearchConstraints(max_parameters=400)
    objective = nas.Objective(function, evaluator, ("accuracy", "parameters"), limits)
    storage = nas.storage.open(f"sqlite:///{tmp_path}/nas.db")
    study = run(objective, 6, "tpe", storage)
    for trial in study.trials:
        parameters = trial.values[1]
        made = function(optuna.trial.FixedTrial(trial.params))
        real = made if isinstance(made, nn.Module) else nas.models.build(made)
        assert parameters == sum(p.numel() for p in real.parameters())
        assert ("nas:infeasible" in trial.user_attrs) == (parameters > 400)
        assert ("nas:curve" in trial.user_attrs) == (parameters <= 400)


def test_a_module_is_cached_by_its_parameters():
    seen = []

    class Counts(Formula):
        def evaluate(self, candidate, report):
            seen.append(candidate.params["width"])
            return Metrics({"accuracy": 0.5, "loss": 1.0})

    objective = nas.Objective(
        nas.spaces.FunctionSpace(module_function, input_shape=(1, 8, 8), num_classes=10),
        Counts(),
        ("accuracy", "parameters"),
    )
    study = run(objective, 60)
    assert len(seen) == len(set(seen)) == len({t.params["width"] for t in study.trials})


def test_what_does_not_fit_together_is_infeasible_with_its_message():
    def wrong(trial):
        width = trial.suggest_int("width", 4, 5)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(4, 10))

    function = nas.spaces.FunctionSpace(wrong, input_shape=(1, 8, 8), num_classes=10)
    study = run(nas.Objective(function, Formula(), COUNTED), 8)
    for trial in study.trials:
        assert ("nas:infeasible" in trial.user_attrs) == (trial.params["width"] == 5)
        if trial.params["width"] == 5:
            assert trial.constraints["build"] == 1.0
            assert "fails on an input of shape (2, 1, 8, 8)" in trial.user_attrs["nas:infeasible"]


def test_latency_is_measured_once_for_one_architecture():
    settings = nas.LatencySettings(seconds=0.01)
    tiny = MacroSpace(
        (1, 8, 8), 10, min_layers=1, max_layers=1, operations=("conv",), widths=(8, 16),
        kernel_sizes=(1,), strides=(1,), activations=("relu",), connections=("sequential",),
        batch_norm=(True,),
    )  # fmt: skip
    study = run(nas.Objective(tiny, Formula(), latency=settings), 12)
    assert len({t.values[1] for t in study.trials}) == 2
