#!/usr/bin/env bash
# Builds the documentation site into work_dirs/site; a dead link or a public class that
# can not be read is an error. Arguments go to mkdocs, e.g.  bash tools/docs.sh --quiet
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_env.sh"
pld_setup
cd "$PLD_ROOT"
export NO_MKDOCS_2_WARNING=1
python -m mkdocs build --strict -f tools/mkdocs.yml "$@"
echo "Open work_dirs/site/index.html"
