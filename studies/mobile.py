"""Mobile networks for handwritten digits: stages of inverted residual blocks.

    nas-optuna run studies/mobile.py

For images of 224 pixels leave the stages out: the defaults are those of MobileNetV2, which counts
53 layers (raise `max_layers`).
"""

import nas_optuna as nas
from nas_optuna.spaces import MobileStage

data = nas.data.load("digits")

search = nas.Search(
    name="mobile",
    space=nas.spaces.MobileSpace(
        data.input_shape,
        data.num_classes,
        stages=(
            MobileStage(16, depths=(1, 2), expansions=(1, 3)),
            MobileStage(24, stride=2, depths=(1, 3)),
            MobileStage(32, depths=(1, 2)),
        ),
        stem_width=16,
        head_width=64,
        kernel_sizes=(3, 5),
        width_multipliers=(0.5, 1.0),
        activations=("relu", "hardswish"),
        resolutions=(6, 8),
        per_block=False,
    ),
    evaluator=nas.evaluators.EarlyStopping(data, max_epochs=10),
    constraints=nas.SearchConstraints(max_parameters=100_000),
    trials=24,
)
