"""The spaces that the property tests run over: one small member of each kind; add yours."""

import numpy as np
from hypothesis import strategies as st

from nas_optuna.spaces import (
    DartsSpace,
    MacroSpace,
    MixedSpace,
    MLPSpace,
    MobileSpace,
    MobileStage,
    NASBench201Space,
    TransformerSpace,
)

IMAGE = (1, 8, 8)
SPACES = {
    "macro": MacroSpace(IMAGE, 10, max_layers=10, widths=(8, 16, 24)),
    "nasbench201": NASBench201Space(IMAGE, 10, channels=8, cells_per_stage=1),
    "darts": DartsSpace(IMAGE, 10, channels=4, cells=3),
    "mixed": MixedSpace(IMAGE, 10, max_cells=2, widths=(8, 16)),
    "mobile": MobileSpace(
        IMAGE,
        10,
        stages=(
            MobileStage(16, depths=(1, 2), expansions=(1, 3)),
            MobileStage(24, stride=2, depths=(1, 3)),
        ),
        stem_width=16,
        head_width=64,
        width_multipliers=(0.5, 1.0),
    ),
    "mobile per stage": MobileSpace(
        (3, 12, 16),
        4,
        stages=(MobileStage(16, stride=2), MobileStage(16)),
        head_width=32,
        width_multipliers=(0.5, 1.0),
        per_block=False,
    ),
    "series": TransformerSpace((8, 8), 10, widths=(16, 32), max_layers=4),
    "tokens": TransformerSpace((6,), 3, vocabulary=20, widths=(16, 32), max_layers=3),
    "mlp": MLPSpace((30,), 2),
}


def genomes(space):
    """Genomes of a space without conditions, drawn gene by gene so that failures shrink."""
    choices = {
        name: st.sampled_from(gene.choices)
        if hasattr(gene, "choices")
        else st.integers(gene.low, gene.high)
        for name, gene in space.genes.items()
    }
    return st.fixed_dictionaries(choices)


generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
