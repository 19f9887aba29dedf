#!/usr/bin/env bash
# Sets up the environment (see _env.sh), then runs the linters, the import contracts and
# the tests. Arguments go to pytest:  bash tools/test.sh tests/detection -k lpld
# --quick: the vocabulary, the frame, the tables and the package, for each change; give
# the test of what you changed beside it:  bash tools/test.sh --quick tests/audio
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_env.sh"
pld_setup
cd "$PLD_ROOT"
case "${1:-}" in
  --quick)
    shift
    set -- tests/distill tests/experiments/test_rows.py tests/experiments/test_results.py \
      tests/engine/run/test_method.py tests/engine/optim/test_optim.py tests/shared/test_views.py \
      tests/shared/test_mixing.py tests/tools/test_list_methods.py tests/test_recipes.py \
      tests/docs/test_commands.py "$@"
    ;;
esac
# Two single-threaded processes beat one with two threads by far on small models.
export OMP_NUM_THREADS=1
failed=0
check() {
  printf '%s: ' "$*"
  if output=$("$@" 2>&1); then
    echo ok
  else
    printf 'FAILED\n%s\n' "$output"
    failed=1
  fi
}
check ruff check . --output-format concise --quiet
check ruff format --check .
check lint-imports --no-logo
if [ "$failed" = 1 ]; then
  echo "The checks above failed, so this command will fail whatever the tests say."
fi
parallel=()
if python -c 'import xdist' 2>/dev/null; then
  workers=$(pld_cores)
  parallel=(-n "$((workers < 4 ? workers : 4))")
fi
code=0
python -m pytest ${parallel[@]+"${parallel[@]}"} "$@" || code=$?
# A whole run with a few failures tells faults from tests that hang on the clock or on
# their neighbours: those are run once more, alone, and named when they pass.
lost=$PLD_ROOT/.pytest_cache/v/cache/lastfailed
if [ "$code" = 1 ] && [ $# = 0 ] && [ -s "$lost" ] && [ "$(grep -c :: "$lost")" -le 3 ]; then
  names=$(grep -o '"tests/.*"' "$lost" || true)
  echo "Once more, alone:"
  code=0
  python -m pytest --last-failed || code=$?
  if [ "$code" = 0 ]; then
    printf 'UNSTABLE, to be mended: failed among all tests and passed alone:\n%s\n' "$names"
  fi
fi
if [ "$code" = 0 ]; then exit "$failed"; fi
exit "$code"
