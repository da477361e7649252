#!/usr/bin/env bash
# Sets up and checks everything: lint, format, types, import contracts, examples, tests.
# Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
set_up dev
export PATH="$PWD/.venv/bin:$PATH"
# Two test processes share the cores; more threads in each would only wait for one another.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

ruff check .
ruff format --check .
mypy
lint-imports
pytest --numprocesses "${TEST_PROCESSES:-2}" --dist worksteal "$@"
