"""What is counted node by node, with shortcuts, is what torch counts without them."""

import pytest
import torch
from torch import nn

from nas_optuna.models.cost import count, node_cost
from nas_optuna.models.metering import PeakMemory
from nas_optuna.models.operations import FACTORIES, make
from nas_optuna.operations import ACTIVATIONS, operation

IMAGE, SERIES, VECTOR, TOKENS = (6, 9, 7), (5, 12), (10,), (8,)
CASES = [
    ("conv2d", {"channels": 8, "kernel_size": 5, "stride": 2}, IMAGE),
    ("conv2d", {"channels": 12, "groups": 3, "norm": False, "preactivation": True}, IMAGE),
    ("conv2d", {"channels": 6, "groups": "depthwise", "dilation": 2}, IMAGE),
    ("separable_conv2d", {"channels": 4}, IMAGE),
    ("factorized_reduce", {"channels": 8}, IMAGE),
    ("batch_norm", {}, IMAGE),
    ("max_pool2d", {"stride": 2}, IMAGE),
    ("avg_pool2d", {"stride": 2}, IMAGE),
    ("resize", {"height": 4, "width": 4}, IMAGE),
    ("global_avg_pool", {}, IMAGE),
    ("squeeze_excite", {"channels": 3}, IMAGE),
    ("flatten", {}, IMAGE),
    ("linear", {"features": 4, "norm": True}, VECTOR),
    ("linear", {"features": 4, "activation": "gelu"}, SERIES),
    ("embedding", {"vocabulary": 9, "features": 4}, TOKENS),
    ("positions", {}, SERIES),
    ("layer_norm", {}, SERIES),
    ("attention", {"heads": 3}, SERIES),
    ("sequence_pool", {"kind": "max"}, SERIES),
    ("sequence_pool", {"kind": "first"}, SERIES),
    ("dropout", {}, VECTOR),
    ("add", {}, IMAGE),
    ("concat", {}, IMAGE),
    ("identity", {}, IMAGE),
    ("channel_slice", {"start": 1, "channels": 2}, IMAGE),
    ("channel_shuffle", {"groups": 3}, IMAGE),
    ("mixture", {"gene": "edge", "choices": "skip"}, IMAGE),
    ("zero", {}, IMAGE),
    *(("activation", {"kind": kind}, IMAGE) for kind in ACTIVATIONS),
]


@pytest.mark.parametrize(("name", "settings", "shape"), CASES)
def test_a_node_costs_what_torch_counts_with_all_operations_run(name, settings, shape):
    complete = operation(name).complete(settings)
    inputs = (shape,) * (3 if operation(name).many else 1)
    quick = node_cost(name, tuple(sorted(complete.items())), inputs)
    with torch.device("meta"):
        assert quick == count(make(name, complete, inputs), *inputs)
    real = count(make(name, complete, inputs), *inputs)
    assert (quick.parameters, quick.flops) == (real.parameters, real.flops)


def test_every_operation_is_tried():
    missing = FACTORIES.keys() - {name for name, *_ in CASES}
    assert not missing, f"add a case for {missing}"


def test_peak_memory_is_that_of_the_worst_moment():
    x, weights = torch.zeros(1, 100), nn.Linear(100, 50, bias=False)
    with torch.no_grad(), PeakMemory([x, weights.weight]) as memory:
        y = weights(x)  # 50 numbers
        z = torch.cat([y, y])  # 100 more, while y lives
        del y
        z.relu_()  # in place
        z = z.view(-1)  # a view
        del z
        weights(x)  # 50 again
    assert memory.peak == 4 * 150
    assert memory.alive == 0
