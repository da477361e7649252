"""Networks to draw, and what stands in a drawing of one."""

from collections import Counter
from xml.etree import ElementTree

import numpy as np
from hypothesis import strategies as st

from nas_optuna import Architecture, ArchitectureBuilder
from nas_optuna.architecture import INPUT, Node
from nas_optuna.spaces import (
    DartsSpace,
    MacroSpace,
    MixedSpace,
    MLPSpace,
    MobileSpace,
    NASBench201Space,
    TransformerSpace,
)

SVG = "{http://www.w3.org/2000/svg}"
IMAGES = (3, 32, 32)
SPACES = {
    "sequential": MacroSpace(IMAGES, 10, connections=("sequential",)),
    "residual": MacroSpace(IMAGES, 10, connections=("residual",)),
    "dense": MacroSpace(IMAGES, 10, connections=("dense",)),
    "20 layers": MacroSpace(IMAGES, 10, min_layers=20),
    "darts": DartsSpace(IMAGES, 10, cells=20),
    "nasbench201": NASBench201Space(),
    "mixed": MixedSpace(IMAGES, 10),
    "mobile": MobileSpace(IMAGES, 10),
    "transformer": TransformerSpace((16, 8), 10),
    "mlp": MLPSpace((20,), 3),
}


def sample(name, seed):
    space = SPACES[name]
    return space.architecture(space.sample(np.random.default_rng(seed)))


def blocks(count, change=lambda i: {}, tail=lambda net, outputs: outputs[-1]):
    """Residual blocks in a chain; `change` gives settings of a block, `tail` uses outputs."""
    net = ArchitectureBuilder((4, 8, 8), 10)
    outputs = [net.input]
    for i in range(count):
        with net.scope(f"block{i}"):
            x = outputs[-1]
            y = net.conv2d(x, 4, name="first", **change(i))
            outputs.append(net.add(net.conv2d(y, 4, name="second"), x, name="sum"))
    return net.build(net.classifier(tail(net, outputs)))


@st.composite
def graphs(draw):
    """Any graph: scopes entered again, names below others, unused nodes, doubled edges."""
    names, nodes, scope = [INPUT], [], ""
    for i in range(draw(st.integers(1, 20))):
        scope = draw(st.sampled_from([scope, scope, "", "a", "a.b", "b0", "b1", "b2"]))
        below = draw(st.sampled_from([scope, scope, scope, *names[1:]]))
        name = f"{below}.n{i}".removeprefix(".")
        operation = draw(st.sampled_from(["conv2d", "identity", "add"]))
        sources = st.sampled_from(names[-4:] if draw(st.booleans()) else names)
        inputs = draw(st.lists(sources, min_size=1, max_size=4 if operation == "add" else 1))
        nodes.append(
            Node.make(name, operation, inputs, {"channels": 4} if operation == "conv2d" else {})
        )
        names.append(name)
    head = [
        Node.make("pool", "global_avg_pool", [draw(st.sampled_from(names))], {}),
        Node.make("logits", "linear", ["pool"], {"features": 4}),
    ]
    return Architecture((*nodes, *head), (4, 8, 8), 4)


def marks(svg, role):
    return [g for g in ElementTree.fromstring(svg).iter(f"{SVG}g") if g.get("class") == role]


def drawn_edges(svg):
    groups = [*marks(svg, "edge"), *marks(svg, "skip edge")]
    return Counter((g.get("data-source"), g.get("data-target")) for g in groups)
