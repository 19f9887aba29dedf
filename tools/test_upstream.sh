#!/usr/bin/env bash
# The tests on the upstream line (mmdet 3.3.0, mmcv 2.1.0, mmengine 0.10.7) in a virtual
# environment of its own. Arguments go to pytest. Without a wheel for pip to find, mmcv
# is compiled once (about 12 minutes).
set -euo pipefail
unset VIRTUAL_ENV CONDA_PREFIX
export PLD_STACK=upstream PLD_VENV=.venv-upstream
exec bash "$(dirname "${BASH_SOURCE[0]}")/test.sh" "$@"
