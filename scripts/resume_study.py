"""Go on with the study that run_study.py made: `python scripts/resume_study.py`."""

import optuna
from run_study import objective, space

import nas_optuna as nas

# Optuna keeps trials, not the sampler: one of the same name and seed goes on where it stopped.
study = optuna.load_study(
    study_name="script",
    sampler=nas.samplers.create("tpe", space=space, seed=0),
    storage=nas.storage.open("sqlite:///nas.db"),
)
nas.storage.reap(study)  # repeat trials whose process was killed
study.optimize(objective, n_trials=5)

best = nas.report.pareto_records(study, constraints=objective.constraints)[0]
print(f"After {len(study.trials)} trials, number {best['number']} is the best pick:")
architecture = space.architecture(best["params"])
print(architecture, best["values"], nas.models.cost(architecture), sep="\n")
