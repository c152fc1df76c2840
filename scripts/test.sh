#!/usr/bin/env bash
# Install with the development tools, then lint, type-check and run the test suite. Arguments go to pytest.
# Uses the active virtual environment or makes .venv. See scripts/install.sh for settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/install.sh
install_project viz,export,dask,mesh,em,dev

ruff check .
ruff format --check .
mypy
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# worksteal: each worker begins with its part of the tests in their order, so that what they share is made once
python -m pytest -n "${PYTEST_WORKERS:-2}" --dist worksteal "$@"
