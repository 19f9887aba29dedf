#!/usr/bin/env bash
# Train with several processes on this machine (or on several machines):
#   bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# A free port is taken unless PORT is set. With GPUs: NCCL, one process each; without:
# gloo on the CPU. Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT.
exec bash "$(dirname "${BASH_SOURCE[0]}")/_dist.sh" train 2 "$@"
