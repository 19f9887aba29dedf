#!/usr/bin/env bash
# From a fresh clone to a page that shows a detector repaired in fog without labels:
# sets up the environment (see _env.sh), generates FoggyStreets, trains the source
# detector and the oracle, adapts with AdaBN, Mean Teacher and LPLD, evaluates, and
# writes the report. A second call skips what is done; a killed one goes on.
#
#   bash tools/demo.sh            about 20 minutes on two cores without GPU
#   bash tools/demo.sh --quick    the whole chain with tiny lengths, under 3 minutes
#
#   --out DIR    where it goes [work_dirs/demo, or work_dirs/demo_quick]
#   --seed N     the one seed of all runs [0]
set -euo pipefail
caller=$PWD
quick=() out= seed=0
usage() { sed -n '2,/^set /p' "$0" | sed -e '/^set /d' -e 's/^# \{0,1\}//'; }
wrong() {
  printf '%s\nThe arguments are: bash tools/demo.sh [--quick] [--out DIR] [--seed N]\n' "$1" >&2
  exit 2
}
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) quick=(--quick) ;;
    --out) out=${2:-} && [ -n "$out" ] || wrong "--out needs a folder." && shift ;;
    --seed) seed=${2:-} && [ -n "$seed" ] || wrong "--seed needs a number." && shift ;;
    -h | --help) usage && exit ;;
    *) wrong "Unknown argument: $1" ;;
  esac
  shift
done
. "$(dirname "${BASH_SOURCE[0]}")/_env.sh"
pld_setup
cd "$PLD_ROOT"
if [ -z "$out" ]; then
  out=work_dirs/demo${quick:+_quick}
elif [ "${out#/}" = "$out" ]; then
  out=$caller/$out # relative to where the command was typed
fi
exec python tools/reproduce.py configs/lpld/foggy_streets.py --seeds "$seed" \
  --rows source oracle adabn mean_teacher lpld --out "$out" --report ${quick[@]+"${quick[@]}"}
