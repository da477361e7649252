"""From an architecture to a network and what it costs."""

from nas_optuna.models.cost import Cost, cost, module_cost, node_parameters
from nas_optuna.models.latency import Latency, device_name, measure_latency
from nas_optuna.models.network import Network, build, dry_run

__all__ = [
    "Cost",
    "Latency",
    "Network",
    "build",
    "cost",
    "device_name",
    "dry_run",
    "measure_latency",
    "module_cost",
    "node_parameters",
]
