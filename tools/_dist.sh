#!/usr/bin/env bash
# Shared by dist_train.sh and dist_test.sh: JOB POSITION ARGUMENTS..., where argument
# number POSITION is the number of processes and all others go to tools/JOB.py.
set -euo pipefail
job=$1 position=$2
shift 2
if [ $# -lt "$position" ] || ! [ "${!position}" -gt 0 ] 2>/dev/null; then
  echo "dist_$job.sh: argument $position must be the number of processes." >&2
  sed -n '2,/^exec/p' "$(dirname "${BASH_SOURCE[0]}")/dist_$job.sh" | sed -e '/^exec/d' -e 's/^# \{0,1\}//' >&2
  exit 2
fi
processes=${!position}
arguments=("${@:1:position-1}" "${@:position+1}")

# torchrun's stand-alone rendezvous picks a port that is free.
if [ -n "${PORT:-}" ]; then
  rendezvous=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}"
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "$PORT")
elif [ "${NNODES:-1}" -gt 1 ]; then
  echo "Training on ${NNODES} machines needs a port that all of them know." >&2
  echo "Set PORT (and MASTER_ADDR, NODE_RANK), e.g. PORT=29500 MASTER_ADDR=<first machine>." >&2
  exit 2
else
  rendezvous=(--standalone --nnodes 1)
fi

gpus=0
if [ "${CUDA_VISIBLE_DEVICES-all}" != "" ]; then
  gpus=$(nvidia-smi -L 2>/dev/null | wc -l) || gpus=0
fi
# Without a GPU the tools take gloo by themselves.
if [ "$gpus" -gt 0 ] && [ "$processes" -gt "$gpus" ]; then
  echo "$processes processes were asked for, but this machine has $gpus GPU(s)." >&2
  echo "Ask for at most $gpus, or use the CPU with CUDA_VISIBLE_DEVICES= in front." >&2
  exit 2
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/_launch.py" "${rendezvous[@]}" \
  --nproc_per_node "$processes" "$(dirname "${BASH_SOURCE[0]}")/$job.py" \
  "${arguments[@]}" --launcher pytorch
