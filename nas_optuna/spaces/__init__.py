"""Search spaces: define-by-run code that turns a trial's answers into an architecture."""

from nas_optuna.spaces.base import UNBUILDABLE, FunctionSpace, Space, as_space
from nas_optuna.spaces.darts import DartsSpace
from nas_optuna.spaces.encoding import Encoding, encode
from nas_optuna.spaces.macro import MacroSpace
from nas_optuna.spaces.mixed import MixedSpace
from nas_optuna.spaces.mlp import MLPSpace
from nas_optuna.spaces.mobile import MobileSpace, MobileStage
from nas_optuna.spaces.nasbench201 import NASBench201Space
from nas_optuna.spaces.transformer import TransformerSpace

__all__ = [
    "UNBUILDABLE",
    "DartsSpace",
    "Encoding",
    "FunctionSpace",
    "MLPSpace",
    "MacroSpace",
    "MixedSpace",
    "MobileSpace",
    "MobileStage",
    "NASBench201Space",
    "Space",
    "TransformerSpace",
    "as_space",
    "encode",
]
