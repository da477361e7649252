#!/usr/bin/env bash
# Sets up and runs the main job: a search on handwritten digits, stored in nas.db.
# Run again, it continues the same study. Arguments go to `nas-optuna run`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
set_up dashboard
# Networks this small train fastest on one thread.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
.venv/bin/nas-optuna run studies/digits.py "$@"
echo "(nas-optuna lives in .venv: source .venv/bin/activate)"
