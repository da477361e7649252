"""Perceptrons for a table: 1,797 rows of 64 measurements (pixels of handwritten digits).

nas-optuna run studies/mlp.py
"""

from sklearn.datasets import load_digits

import nas_optuna as nas

table = load_digits()
data = nas.data.from_arrays(table.data, table.target, name="digits as a table")

search = nas.Search(
    name="mlp",
    space=nas.spaces.MLPSpace(data.input_shape, data.num_classes, max_layers=4),
    evaluator=nas.evaluators.EarlyStopping(data, max_epochs=20),
    constraints=nas.SearchConstraints(max_parameters=100_000),
    trials=50,
)
