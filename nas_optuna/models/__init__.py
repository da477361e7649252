"""From an architecture to a network and what it costs."""

from nas_optuna.models.calibration import calibrate
from nas_optuna.models.cost import Cost, cost, module_cost, node_parameters
from nas_optuna.models.latency import (
    Latency,
    device_fingerprint,
    device_name,
    measure_latency,
)
from nas_optuna.models.latency_table import LatencyTable
from nas_optuna.models.memory import measure_memory_mb
from nas_optuna.models.network import Network, build, dry_run
from nas_optuna.models.seeding import seeded
from nas_optuna.models.supernet import SharedWeights
from nas_optuna.models.tabulation import measure_table

__all__ = [
    "Cost",
    "Latency",
    "LatencyTable",
    "Network",
    "SharedWeights",
    "build",
    "calibrate",
    "cost",
    "device_fingerprint",
    "device_name",
    "dry_run",
    "measure_latency",
    "measure_memory_mb",
    "measure_table",
    "module_cost",
    "node_parameters",
    "seeded",
]
