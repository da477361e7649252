"""Handwritten digits with at most 5,000 parameters."""

import nas_optuna as nas

data = nas.data.load("digits")

search = nas.Search(
    name="digits_small",
    space=nas.spaces.MacroSpace(
        data.input_shape,
        data.num_classes,
        min_layers=3,
        max_layers=5,
        operations=("max_pool", "separable_conv", "conv"),
        widths=(8, 12, 16, 24, 32),
        kernel_sizes=(3, 5),
        activations=("relu", "silu"),
        batch_norm=(True,),
        connections=("sequential", "residual"),
        max_skip=0,
    ),
    evaluator=nas.evaluators.EarlyStopping(data, max_epochs=12),
    metrics=("accuracy", "parameters"),
    constraints=nas.SearchConstraints(max_parameters=5_000),
    sampler="tpe",
    trials=60,
    timeout=90,
)
