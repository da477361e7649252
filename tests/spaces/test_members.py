"""Laws of every member of every space: it builds, trains, survives JSON, and loses no edge."""

import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_optuna import Architecture
from nas_optuna.models import build, cost, dry_run
from nas_optuna.models.network import example_input
from nas_optuna.models.operations import make
from nas_optuna.operations import operation
from tests.spaces.edges import lost_edges
from tests.spaces.spaces import SPACES, genomes

# 2,000 in CI; NAS_TEST_GENOMES=10000 for a thorough run.
GENOMES = int(os.environ.get("NAS_TEST_GENOMES", "2000")) // len(SPACES) + 1
TRAINED = GENOMES // 40 + 1
each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@cache
def output_shape(operation, settings, inputs):
    """What a node's module really returns for one sample."""
    with torch.device("meta"):
        module = make(operation, dict(settings), inputs).eval()
        xs = [example_input(module, s, batch_size=1, device=torch.device("meta")) for s in inputs]
    with torch.no_grad():
        return tuple(module(*xs).shape[1:])


@each_space
def test_random_members_build_with_the_shapes_they_say(space):
    rng = np.random.default_rng(1)
    for i in range(GENOMES):
        made = space.architecture(space.sample(rng))
        assert made.shapes[made.nodes[-1].name] == (space.num_classes,)
        for node in made.nodes:
            inputs = tuple(made.shapes[name] for name in node.inputs)
            key = (node.operation, tuple(node.complete().items()), inputs)
            assert output_shape(*key) == made.shapes[node.name]
        with torch.device("meta"):
            model = build(made)
            if i % 20 == 0:  # the nodes are checked above, this checks how they are joined
                dry_run(model, space.input_shape, space.num_classes)
        assert cost(made).parameters == sum(p.numel() for p in model.parameters())


def live_layers(made):
    """Nodes with weights that the logits depend on, other than through zeros."""
    live, layers = {made.nodes[-1].name}, set()
    for node in reversed(made.nodes):
        if node.name in live and node.operation != "zero":
            live.update(node.inputs)
            if operation(node.operation).weighted:
                layers.add(node.name)
    return layers


@each_space
def test_random_members_train(space):
    rng = np.random.default_rng(2)
    for _ in range(TRAINED):
        made = space.architecture(space.sample(rng))
        torch.manual_seed(0)
        model = build(made).train()
        x = torch.randn(4, *space.input_shape)
        x = (x > 0).long() if made.tokens else x
        y = torch.arange(4) % space.num_classes
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        trained = {
            name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None
        }
        assert trained >= {name.replace(".", "/") for name in live_layers(made)}
        assert torch.isfinite(loss)
        assert torch.isfinite(torch.nn.functional.cross_entropy(model(x), y))


@each_space
def test_no_edge_is_lost(space):
    rng = np.random.default_rng(3)
    for _ in range(TRAINED):
        made = space.architecture(space.sample(rng))
        assert lost_edges(made) == []


@each_space
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_member_survives_json(space, data):
    made = space.architecture(data.draw(genomes(space)))
    again = Architecture.from_json(made.to_json())
    assert again == made
    assert again.digest == made.digest


@each_space
def test_a_space_asks_the_same_questions_in_every_trial(space):
    assert not space.conditional
    assert list(space.sample(np.random.default_rng(0))) == list(space.genes)


DIGESTS = """
import numpy as np
from tests.spaces.spaces import SPACES
for space in SPACES.values():
    rng = np.random.default_rng(4)
    for _ in range(10):
        print(space.architecture(space.sample(rng)).digest)
    print(space.fingerprint)
"""


def test_digests_are_the_same_in_every_process():
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DIGESTS],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "4242")
    ]
    first, second = (process.communicate()[0].split() for process in processes)
    assert len(first) == 11 * len(SPACES)
    assert first == second
    assert len(set(first)) > 5 * len(SPACES)
