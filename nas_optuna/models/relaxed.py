"""A network in which every choice of an operation is open, with a logit (alpha) for each answer.

    output of a choice = sum over its candidates of softmax(alpha) * candidate(x)

Liu, Simonyan & Yang 2019, "DARTS: Differentiable Architecture Search", ICLR, equation 2. It is
built like any other network, from the table of operations; a `mixture` is a node of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_optuna.architecture import Architecture
from nas_optuna.models.cost import node_cost, node_keys
from nas_optuna.models.network import build
from nas_optuna.models.operations import Mixture
from nas_optuna.models.seeding import seeded
from nas_optuna.relaxation import NONE, open_choices

COSTS = ("parameters", "flops")


class RelaxedNetwork:
    """The network that holds all candidates, its alphas, and what they are expected to cost.

    Args:
        architecture: From `Space.relaxed`.
        seed: Decides the initial weights.
        device: Where weights and alphas lie.

    Example:
        >>> import numpy as np
        >>> from nas_optuna.spaces import NASBench201Space
        >>> space = NASBench201Space((1, 8, 8), channels=4, cells_per_stage=1)
        >>> relaxed = RelaxedNetwork(space.relaxed(space.sample(np.random.default_rng(0))))
        >>> relaxed(torch.zeros(2, 1, 8, 8)).shape, relaxed.alphas["0->1"].shape
        (torch.Size([2, 10]), torch.Size([5]))
    """

    def __init__(
        self, architecture: Architecture, seed: int = 0, device: str | torch.device = "cpu"
    ) -> None:
        self.choices = open_choices(architecture)
        with seeded(seed, torch.device("cpu")), torch.device("cpu"):
            self.network = build(architecture).to(device)
        # As in the paper's code: almost equal at first, and no two the same.
        generator = torch.Generator().manual_seed(seed)
        self.alphas: dict[str, Tensor] = {
            gene: (1e-3 * torch.randn(len(answers), generator=generator))
            .to(device)
            .requires_grad_()
            for gene, answers in self.choices.items()
        }
        self._mixtures = [m for m in self.network.modules() if isinstance(m, Mixture)]
        self._costs = {
            name: {gene: costs.to(device) for gene, costs in of.items()}
            for name, of in candidate_costs(architecture).items()
        }

    @property
    def weights(self) -> list[nn.Parameter]:
        """The candidates' weights and those of the rest of the network."""
        return list(self.network.parameters())

    def __call__(self, x: Tensor, shares: Mapping[str, Tensor] | None = None) -> Tensor:
        """`(N, *input_shape) -> (N, num_classes)` logits.

        Args:
            x: Inputs.
            shares: By choice, the weight of each candidate; by default softmax(alpha).
        """
        shares = self.shares() if shares is None else shares
        for mixture in self._mixtures:
            mixture.weights = shares[mixture.gene]
        return cast(Tensor, self.network(x))

    def shares(self) -> dict[str, Tensor]:
        """softmax(alpha) of each choice, by gene."""
        return {gene: F.softmax(alpha, dim=0) for gene, alpha in self.alphas.items()}

    def expected_cost(self, name: str) -> Tensor:
        """Expected cost of all choices together, as a share of the dearest answers; scalar.

        Args:
            name: One of `COSTS`.
        """
        costs = self._costs[name]
        dearest = sum(float(of.max()) for of in costs.values())
        expected = [(share * costs[gene]).sum() for gene, share in self.shares().items()]
        return torch.stack(expected).sum() / max(dearest, 1.0)

    def logits(self) -> dict[str, dict[str, float]]:
        """The alphas as plain numbers: by gene, by answer."""
        return {
            gene: dict(zip(answers, self.alphas[gene].detach().tolist(), strict=True))
            for gene, answers in self.choices.items()
        }


def candidate_costs(architecture: Architecture) -> dict[str, dict[str, Tensor]]:
    """What each answer to each open choice costs, over all places of the choice.

    Returns:
        By name of `COSTS` and gene, `(answers,)` costs: those of the nodes in the answer's scope.
    """
    prices: dict[str, dict[str, Tensor]] = {name: {} for name in COSTS}
    counted = {
        node.name: node_cost(*key)
        for node, key in zip(architecture.nodes, node_keys(architecture), strict=True)
    }
    for node in architecture.nodes:
        if node.operation != "mixture":
            continue
        place, gene = node.name.rpartition(".")[0], str(node.complete()["gene"])
        for name in COSTS:
            here = torch.tensor(
                [
                    sum(getattr(counted[n], name) for n in _members(counted, f"{place}.{answer}"))
                    for answer in open_choices(architecture)[gene]
                ],
                dtype=torch.float32,
            )
            prices[name][gene] = prices[name].get(gene, torch.zeros_like(here)) + here
    return prices


def _members(names: Mapping[str, object], scope: str) -> list[str]:
    """Nodes of one candidate."""
    return [name for name in names if name == scope or name.startswith(f"{scope}.")]


def skip_share(logits: Mapping[str, Mapping[str, float]], answer: str = "skip_connect") -> float:
    """Share of the choices whose strongest answer other than `none` is `answer`."""
    best = [
        max((a for a in of if a != NONE), key=of.__getitem__, default=NONE)
        for of in logits.values()
    ]
    return sum(a == answer for a in best) / max(len(best), 1)
