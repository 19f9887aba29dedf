#!/usr/bin/env bash
# Mutation testing of one file: cosmic-ray changes one operator, number or word after the
# other and runs the file's tests; a change that they pass has survived.
#   bash tools/mutate.sh STEM [FILE [TESTS ...]]
# STEM is a method's (its file and its test file are then known); FILE and TESTS name
# others, such as:  bash tools/mutate.sh losses pld_mmdet/distill/losses.py tests/distill
# It works in a copy of the tree, and stops after MINUTES (default 30) with the score of
# what has been tried. PYTEST holds more arguments, such as '-k "not resume"'.
# Needs: pip install 'pld-mmdet[mutation]'
set -euo pipefail
stem=${1:?bash tools/mutate.sh STEM [FILE [TESTS ...]]}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
command -v cosmic-ray > /dev/null || {
  echo "error: cosmic-ray is not installed."
  echo "fix:   pip install 'pld-mmdet[mutation]'"
  exit 1
}
file=${2:-$(ls pld_mmdet/*/"$stem".py 2> /dev/null | head -1)}
shift $(($# < 2 ? $# : 2))
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=("$(ls tests/*/test_"$stem".py 2> /dev/null | head -1)")
if [ ! -f "$file" ] || [ ! -e "${tests[0]}" ]; then
  echo "error: there is no file '$file' with tests '${tests[*]}' for $stem."
  echo "fix:   bash tools/mutate.sh STEM FILE TESTS"
  exit 1
fi
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp -P --parents -t "$copy"
[ -d data ] && ln -s "$root/data" "$copy/data"
cd "$copy"
# Files change within a second: compiled ones would be taken for fresh.
export PYTHONPATH=$copy OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
eval "python tools/_mutate.py '$file' '${MINUTES:-30}' ${tests[*]} ${PYTEST:-}"
