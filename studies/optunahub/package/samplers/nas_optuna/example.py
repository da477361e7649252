import optuna
import optunahub

import nas_optuna as nas

module = optunahub.load_module("samplers/nas_optuna")
space = nas.spaces.MacroSpace(input_shape=(1, 8, 8), num_classes=10)
objective = nas.Objective(space, nas.evaluators.EarlyStopping("digits", max_epochs=6))
sampler = module.create("nsga2", space=space, seed=0, trials=30)
study = optuna.create_study(directions=objective.directions, sampler=sampler)
study.optimize(objective, n_trials=30)
print([trial.values for trial in study.best_trials])
