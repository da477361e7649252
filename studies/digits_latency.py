"""Handwritten digits under a hard limit on latency: 0.2 ms for one image on one thread."""

import nas_optuna as nas

data = nas.data.load("digits")

search = nas.Search(
    name="digits_latency",
    space=nas.spaces.MacroSpace(
        data.input_shape,
        data.num_classes,
        max_layers=6,
        widths=(16, 24, 32, 48, 64),
        kernel_sizes=(3, 5),
        batch_norm=(True,),
    ),
    evaluator=nas.evaluators.EarlyStopping(data, max_epochs=12),
    metrics=("accuracy", "latency_ms"),
    constraints=nas.SearchConstraints(max_latency_ms=0.2, max_parameters=500_000),
    sampler="nsga2",
    trials=40,
)
