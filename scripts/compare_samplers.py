"""Samplers compared by the Python API, seeds and all: `python scripts/compare_samplers.py`."""

from pathlib import Path

import nas_optuna as nas
from nas_optuna.comparison import Comparison, run
from nas_optuna.report.comparison_page import write_findings
from nas_optuna.report.verdict import verdict

table = nas.evaluators.Tabular.nasbench201("cifar10")  # extra `bench`
search = nas.Search(
    name="script",
    space=nas.spaces.NASBench201Space(),
    evaluator=table,
    metrics=("accuracy", "latency_ms"),
    storage="sqlite:///nas.db",
)
comparison = Comparison(search=search, samplers=["tpe", "nsga2"], seeds=5, trials=30)

if __name__ == "__main__":
    run(comparison, workers=2)  # what is in the database already is not repeated
    findings = comparison.findings()
    print(verdict(findings.outcome).text)
    written, left_out = write_findings(findings, Path("script-comparison"))
    print("Written:", *written, *left_out, sep="\n  ")
