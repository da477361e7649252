"""What reaches the output: the gradient of each edge into a sum or a concatenation."""

import torch

from nas_optuna.models import build


def lost_edges(made) -> list[tuple[str, str]]:
    """Edges `(from, to)` into `add` and `concat` nodes on which the logits do not depend at all.

    Left out are edges that bring zeros or lead nowhere by the graph: they have nothing to lose.
    """
    torch.manual_seed(0)
    model = build(made).double().train()
    operations = {node.name: node.operation for node in made.nodes}
    live, seen = ancestors(made), []
    for node in made.nodes:
        if node.operation in ("add", "concat") and node.name in live:
            module = model.nodes[node.name.replace(".", "/")]
            module.register_forward_pre_hook(_keeping(node, seen))
    x = torch.randn(4, *made.input_shape, dtype=torch.float64)
    x = (x > 0).long() if made.tokens else x
    logits = model(x)
    (logits * torch.randn_like(logits)).sum().backward()
    return [
        (source, target)
        for source, target, x in seen
        if operations.get(source) != "zero" and (x.grad is None or not x.grad.abs().max() > 0)
    ]


def ancestors(made) -> set[str]:
    """Names of the nodes that lead to the output."""
    names = {made.nodes[-1].name}
    for node in reversed(made.nodes):
        if node.name in names:
            names.update(node.inputs)
    return names


def _keeping(node, seen):
    def hook(module, inputs):
        kept = []
        for source, x in zip(node.inputs, inputs, strict=True):
            copy = x.clone()  # one per edge: a state that goes two ways has two gradients
            copy = copy if copy.requires_grad else copy.requires_grad_()
            copy.retain_grad()
            seen.append((source, node.name, copy))
            kept.append(copy)
        return tuple(kept)

    return hook
