import optuna
import optunahub

module = optunahub.load_module("benchmarks/nas_tabular")
problem = module.Problem("cifar10", metrics=("accuracy", "latency_ms"))
study = optuna.create_study(directions=problem.directions)
study.optimize(problem, n_trials=100)
print(len(study.best_trials), "found;", len(problem.true_front), "on the true front")
