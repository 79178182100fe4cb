#!/usr/bin/env bash
# From a bare clone to a green test run: scripts/test.sh [--stock-fairseq] [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
if [ "${1:-}" = "--stock-fairseq" ]; then
  shift
  venv=.venv-stock
  scripts/setup.sh --stock-fairseq
else
  scripts/setup.sh
fi

if [ -x "$venv/bin/ruff" ]; then
  "$venv/bin/ruff" check .
  "$venv/bin/ruff" format --check .
fi
if [ -x "$venv/bin/mypy" ]; then
  "$venv/bin/mypy"
fi
# Two test processes of one thread each: on two cores that is twice as fast as one process of two.
export OMP_NUM_THREADS=1
exec "$venv/bin/python" -m pytest -n 2 --dist worksteal "$@"
