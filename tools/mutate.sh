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
git ls-files -z | xargs -0 cp -P --parents -t "$copy"
[ -d data ] && ln -s "$root/data" "$copy/data"
cd "$copy"
export PYTHONPATH=$copy OMP_NUM_THREADS=1
command="python -m pytest -q -x -p no:cacheprovider ${tests[*]} ${PYTEST:-}"
echo "$command"
begin=$(date +%s)
eval "$command" > first.log 2>&1 || { tail -5 first.log; echo "error: the tests fail unchanged."; exit 1; }
seconds=$(($(date +%s) - begin))
python - "$file" "$command" $((4 * seconds + 20)) << 'PY'
import json
import sys

path, command, timeout = sys.argv[1:]
text = "\n".join(
    [
        "[cosmic-ray]",
        f"module-path = {json.dumps(path)}",
        f"timeout = {timeout}.0",
        "excluded-modules = []",
        f"test-command = {json.dumps(command)}",
        "[cosmic-ray.distributor]",
        'name = "local"',
    ]
)
open("mutate.toml", "w").write(text)
PY
cosmic-ray init mutate.toml session.sqlite
# What no test can see: type hints (`int | None`) are not behaviour. The order is drawn:
# what is tried in time is a sample of all.
python - << 'PY'
import random
import sqlite3

base = sqlite3.connect("session.sqlite")
base.execute(
    "delete from work_items where job_id in (select job_id from mutation_specs "
    "where operator_name like '%BitOr%')"
)
base.execute("delete from mutation_specs where operator_name like '%BitOr%'")
rows = base.execute("select * from work_items").fetchall()
random.Random(0).shuffle(rows)
base.execute("delete from work_items")
places = ",".join("?" * len(rows[0]))
base.executemany(f"insert into work_items values ({places})", rows)
print(len(rows), "changes")
base.commit()
PY
timeout "$((60 * ${MINUTES:-30}))" cosmic-ray exec mutate.toml session.sqlite || true
python - "$file" << 'PY'
import sqlite3
import sys

base = sqlite3.connect("session.sqlite")
rows = base.execute(
    "select m.operator_name, m.start_pos_row, r.test_outcome, r.worker_outcome "
    "from mutation_specs m join work_results r on m.job_id = r.job_id"
).fetchall()
tried = [row for row in rows if "NORMAL" in str(row[3])]
survived = [row for row in tried if "SURVIVED" in str(row[2])]
source = open(sys.argv[1]).read().splitlines()
for name, line, *_ in sorted(survived, key=lambda row: row[1]):
    print(f"survived: line {line} {name.split('/')[-1]}: {source[line - 1].strip()[:70]}")
everything = base.execute("select count(*) from work_items").fetchone()[0]
caught = len(tried) - len(survived)
share = 100 * caught / max(len(tried), 1)
print(f"{sys.argv[1]}: {caught} of {len(tried)} caught ({share:.0f} %), {everything} in all")
PY
