"""The Python API, where a search is an Optuna study: `python scripts/run_study.py`."""

import warnings

import optuna

import nas_optuna as nas

data = nas.data.load("digits")
space = nas.spaces.MacroSpace(data.input_shape, data.num_classes, max_layers=4, widths=(8, 16, 32))
objective = nas.Objective(
    space,
    evaluator=nas.evaluators.EarlyStopping(data, max_epochs=8),
    metrics=("accuracy", "latency_ms", "parameters"),
    constraints=nas.SearchConstraints(max_parameters=20_000),
)

if __name__ == "__main__":
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of metric names
    study = optuna.create_study(
        study_name="script",
        directions=objective.directions,
        sampler=nas.samplers.create("tpe", space=space, seed=0),
        storage=nas.storage.open("sqlite:///nas.db"),
    )
    study.set_metric_names(list(objective.metrics))
    study.optimize(objective, n_trials=10)
    for record in nas.report.pareto_records(study, constraints=objective.constraints):
        print(record["number"], record["values"], f"score {record['score']:.3f}")
