"""Cells for handwritten digits: what stands on the edges of a normal and a reduction cell.

    nas-optuna run studies/cell.py

`nas.spaces.NASBench201Space(data.input_shape, data.num_classes, channels=8, cells_per_stage=1)` is
the other cell space: six edges instead of two cells, 15,625 members instead of 10^20.
"""

import nas_optuna as nas

data = nas.data.load("digits")

search = nas.Search(
    name="cell",
    space=nas.spaces.DartsSpace(data.input_shape, data.num_classes, channels=8, cells=3),
    evaluator=nas.evaluators.EarlyStopping(data, max_epochs=8, min_epochs=4, patience=3),
    constraints=nas.SearchConstraints(max_parameters=60_000),
    trials=24,
)
