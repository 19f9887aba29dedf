#!/usr/bin/env bash
# Train on a SLURM cluster:
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
# GPUS is the number of GPUs in all [8], GPUS_PER_NODE [8], CPUS_PER_TASK [4]; PORT is
# a random one unless set; SRUN_ARGS goes to srun as it is.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,/^set /p' "$0" | sed -e '/^set /d' -e 's/^# \{0,1\}//' >&2
  exit 2
fi
partition=$1 name=$2 config=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
if [ "$gpus" -lt "$per_node" ]; then per_node=$gpus; fi
export PYTHONPATH="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"
# Two jobs on one node must not meet on the same port: mmengine reads MASTER_PORT.
export MASTER_PORT=${PORT:-$((20000 + RANDOM % 20000))}
# shellcheck disable=SC2086  # SRUN_ARGS holds several words on purpose
exec srun -p "$partition" --job-name="$name" --gres="gpu:$per_node" --ntasks="$gpus" \
  --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-4}" --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} python -u "$(dirname "${BASH_SOURCE[0]}")/train.py" "$config" --launcher slurm "$@"
