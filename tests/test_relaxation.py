"""Open choices: a space that is asked without an answer builds all candidates."""

import numpy as np
import optuna
import pytest
import torch

from nas_optuna import ArchitectureBuilder
from nas_optuna.errors import ArchitectureError
from nas_optuna.models import build
from nas_optuna.relaxation import Open, open_choices
from nas_optuna.spaces import DartsSpace, FunctionSpace, MacroSpace, MixedSpace, NASBench201Space

CELLS = NASBench201Space((1, 8, 8), 10, channels=4, cells_per_stage=1)
DARTS = DartsSpace((1, 8, 8), 10, channels=4, cells=3)
MIXED = MixedSpace((1, 8, 8), 10, max_stages=2, max_cells=1, widths=(4, 8))
OPERATIONS = ("skip", "pool", "conv")


def chosen(trial):
    """A user's function that marks one of its two choices among names."""
    net = ArchitectureBuilder((1, 8, 8), 10)
    activation = trial.suggest_categorical("activation", ["relu", "gelu", "silu"])
    x = net.conv2d(net.input, trial.suggest_int("width", 2, 6), activation=activation, name="stem")
    operation = trial.suggest_categorical("operation", OPERATIONS)
    candidates = {
        "skip": lambda x: x,
        "pool": lambda x: net.max_pool2d(x, name="body"),
        "conv": lambda x: net.conv2d(x, x.shape[0], name="body"),
    }
    for block in ("block0", "block1"):
        x = net.choose(operation, x, candidates, name=block)
    return net.build(net.classifier(x))


FUNCTION = FunctionSpace(chosen, input_shape=(1, 8, 8), num_classes=10)
SPACES = (CELLS, DARTS, MIXED, FUNCTION)


def genome(space, seed=0):
    return space.sample(np.random.default_rng(seed))


def with_share(model, answers):
    """Set the mixtures so that only one answer to each choice counts."""
    for module in model.modules():
        if type(module).__name__ == "Mixture":
            module.weights = torch.tensor(answers[module.gene])
    return model


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_relaxed_network_computes(space):
    relaxed = space.relaxed(genome(space))
    assert build(relaxed)(torch.randn(3, 1, 8, 8)).shape == (3, 10)
    assert all(len(answers) > 1 for answers in open_choices(relaxed).values())


def test_a_choice_is_open_wherever_the_space_puts_it():
    relaxed = CELLS.relaxed(genome(CELLS))
    assert open_choices(relaxed) == dict.fromkeys(CELLS.genes, CELLS.operations)
    assert sum(node.operation == "mixture" for node in relaxed.nodes) == 6 * 3
    assert len(open_choices(DARTS.relaxed(genome(DARTS)))) == 28


def test_only_marked_choices_are_open():
    relaxed = FUNCTION.relaxed({"activation": "gelu", "width": 3, "operation": "skip"})
    assert open_choices(relaxed) == {"operation": OPERATIONS}
    stem = relaxed.nodes[0].complete()
    assert (stem["activation"], stem["channels"]) == ("gelu", 3)


def test_a_space_without_a_marked_choice_has_no_relaxed_network():
    space = MacroSpace((1, 8, 8), 10, max_layers=3)
    assert space.relaxed(genome(space)) is None


@pytest.mark.parametrize("space", [CELLS, FUNCTION], ids=lambda space: space.name)
def test_with_all_weight_on_one_answer_it_is_the_network_of_the_genome(space):
    # The weights lie under the same names, so that a genome's network takes them as they are.
    for seed in range(4):
        params = genome(space, seed)
        relaxed = space.relaxed(params)
        answers = {
            gene: [float(answer == params[gene]) for answer in choices]
            for gene, choices in open_choices(relaxed).items()
        }
        whole = with_share(build(relaxed), answers).eval()
        alone = build(space.architecture(params)).eval()
        alone.load_state_dict({k: whole.state_dict()[k] for k in alone.state_dict()})
        images = torch.randn(2, 1, 8, 8)
        torch.testing.assert_close(whole(images), alone(images))


def test_partial_channels_pass_the_other_channels_by():
    # With all weight on skip connections an edge only reorders channels: 0 1 2 3 -> 0 2 1 3.
    relaxed = CELLS.relaxed(genome(CELLS), partial_channels=2)
    answers = {
        gene: [float(answer == "skip_connect") for answer in choices]
        for gene, choices in open_choices(relaxed).items()
    }
    network = with_share(build(relaxed), answers).eval()
    kept = {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: kept.update({name: output})
        )
    network(torch.randn(2, 1, 8, 8))
    before, after = kept["nodes.stem"], kept["nodes.stage0/cell0/edge01/shuffled"]
    torch.testing.assert_close(after, before[:, [0, 2, 1, 3]])


@pytest.mark.parametrize("space", [CELLS, DARTS], ids=lambda space: space.name)
def test_partial_channels_shrink_the_relaxed_network_and_nothing_else(space):
    whole, part = (space.relaxed(genome(space), share) for share in (1, 2))
    assert open_choices(part) == open_choices(whole)
    sizes = [sum(p.numel() for p in build(net).parameters()) for net in (whole, part)]
    assert sizes[1] < sizes[0] / 2
    assert build(part)(torch.randn(3, 1, 8, 8)).shape == (3, 10)
    assert space.relaxed(genome(space), 3) == whole  # three divides no width here


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_derived_answers_make_a_genome(space):
    rng = np.random.default_rng(1)
    choices = open_choices(space.relaxed(genome(space)))
    for _ in range(10):
        logits = {gene: {a: rng.normal() for a in answers} for gene, answers in choices.items()}
        params = {**genome(space), **space.derive(logits)}
        assert set(params) == set(space.genes)
        space.architecture(params)


def test_darts_keeps_the_two_strongest_edges_and_never_none():
    choices = open_choices(DARTS.relaxed(genome(DARTS)))
    logits = {gene: {a: 5.0 * (a == "none") for a in answers} for gene, answers in choices.items()}
    logits["normal.edge05"] |= {"none": 0.0, "sep_conv_3x3": 3.0}
    logits["normal.edge35"] |= {"none": 0.0, "skip_connect": 4.0}
    derived = DARTS.derive(logits)
    assert derived["normal.node5.sources"] == "0,3"
    assert derived["normal.node5.operation0"] == "sep_conv_3x3"
    assert derived["normal.node5.operation1"] == "skip_connect"
    assert "none" not in derived.values()


def test_an_open_choice_reads_like_a_settled_one():
    answer = Open("conv", "gene", OPERATIONS)
    assert answer == "conv"
    assert {"conv": 1}[answer] == 1


def test_an_answer_without_a_candidate_is_told():
    net = ArchitectureBuilder((1, 8, 8), 10)
    with pytest.raises(ArchitectureError, match="no candidate 'pool'; there are skip"):
        net.choose("pool", net.input, {"skip": lambda x: x}, name="block")


def test_candidates_of_different_shapes_are_told():
    def uneven(trial):
        net = ArchitectureBuilder((1, 8, 8), 10)
        candidates = {"a": lambda x: x, "b": lambda x: net.conv2d(x, 5)}
        operation = trial.suggest_categorical("operation", list(candidates))
        return net.build(net.classifier(net.choose(operation, net.input, candidates, name="b")))

    space = FunctionSpace(uneven, input_shape=(1, 8, 8), num_classes=10)
    assert space(optuna.trial.FixedTrial({"operation": "b"}))
    with pytest.raises(ArchitectureError, match="equal shapes only"):
        space.relaxed({"operation": "a"})
