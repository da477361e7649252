"""Stages, depth, width and the inside of the cell at once, for handwritten digits.

    nas-optuna run studies/mixed.py

One cell serves all stages; their number, depth and width are found along with it.
"""

import nas_optuna as nas

data = nas.data.load("digits")

search = nas.Search(
    name="mixed",
    space=nas.spaces.MixedSpace(
        data.input_shape,
        data.num_classes,
        max_stages=2,
        max_cells=2,
        widths=(8, 16, 24, 32),
    ),
    evaluator=nas.evaluators.EarlyStopping(data, max_epochs=8, min_epochs=4, patience=3),
    constraints=nas.SearchConstraints(max_parameters=100_000),
    trials=30,
)
