#!/usr/bin/env bash
# Evaluate with several processes:
#   bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
# Variables as in dist_train.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/_dist.sh" test 3 "$@"
