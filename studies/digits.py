"""The demo: small networks for handwritten digits, by accuracy, latency and parameters.

Copy this file, change the five settings of `search`, and run it:

    nas-optuna run studies/digits.py
"""

import nas_optuna as nas

data = nas.data.load("digits")  # or nas.data.from_arrays(inputs, targets), "openml:554", "my.npz"

search = nas.Search(
    name="digits",
    space=nas.spaces.MacroSpace(
        data.input_shape,
        data.num_classes,
        min_layers=3,
        max_layers=6,
        widths=(16, 24, 32, 48, 64),
        kernel_sizes=(3, 5),
        batch_norm=(True,),
    ),
    evaluator=nas.evaluators.EarlyStopping(data, max_epochs=12),
    constraints=nas.SearchConstraints(max_parameters=200_000, max_latency_ms=5.0),
    trials=40,
)
