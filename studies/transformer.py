"""Transformers for handwritten digits, read as a series: 8 steps (rows) of 8 features (pixels).

    nas-optuna run studies/transformer.py

For text give tokens, `(n, steps)` of int64, and `vocabulary=` their number.
"""

from sklearn.datasets import load_digits

import nas_optuna as nas

digits = load_digits()
data = nas.data.from_arrays(digits.images, digits.target, name="digits by row")

search = nas.Search(
    name="transformer",
    space=nas.spaces.TransformerSpace(
        data.input_shape,
        data.num_classes,
        max_layers=3,
        widths=(16, 32, 64),
        heads=(1, 2, 4),
    ),
    evaluator=nas.evaluators.EarlyStopping(data, max_epochs=20),
    constraints=nas.SearchConstraints(max_parameters=100_000),
    trials=30,
)
