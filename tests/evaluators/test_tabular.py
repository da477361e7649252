"""Tables in place of training: NAS-Bench-201 and files."""

import optuna
import pytest

import nas_optuna as nas
from nas_optuna.errors import DataError, UnknownNameError
from nas_optuna.evaluators import Tabular


def test_the_known_optimum_of_nasbench201():
    table = Tabular.nasbench201("cifar10")
    assert len(table) == 15_625
    # The published best validation accuracy of CIFAR-10, in the mean of the recorded seeds.
    assert table.optimum("accuracy").values["accuracy"] == pytest.approx(0.9161, abs=1e-4)
    front = table.true_front(("accuracy", "latency_ms"))
    assert len(front) == 25
    assert table.optimum("accuracy").params in [row.params for row in front]


def test_a_study_looks_cells_up_by_their_genome():
    table = Tabular.nasbench201("cifar100")
    space = nas.spaces.NASBench201Space(num_classes=100)
    objective = nas.Objective(space, table, ("accuracy", "latency_ms"))
    study = optuna.create_study(
        directions=objective.directions, sampler=nas.samplers.create("random", seed=0)
    )
    study.optimize(objective, n_trials=10)
    for trial in study.trials:
        row = table.row(trial.params)
        assert trial.values == [row.values["accuracy"], row.values["latency_ms"]]
        assert "nas:cached" not in trial.user_attrs


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="cifar10"):
        Tabular.nasbench201("cifar")
    with pytest.raises(UnknownNameError, match="accuracy"):
        Tabular.nasbench201("cifar10").optimum("acuracy")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        Tabular.load(tmp_path / "nowhere.csv")
