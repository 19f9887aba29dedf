# shellcheck shell=bash
# The environment of demo.sh and test.sh: source this file, then call `pld_setup`.
# Afterwards PLD_ROOT is the repository, PLD_PYTHON the interpreter, and the
# environment's bin folder comes first in PATH.
#
# An active virtual or conda environment (other than conda's base) is used as it is:
# what is missing is added, a torch or mm* that is there is never replaced. Without one
# a `.venv` is made at the repository's root. Finished steps are skipped.
#
# Variables a user may set:
#   PLD_TORCH        torch version to install when there is none
#   PLD_TORCH_INDEX  where the CPU build of torch is looked for when pip's own
#                    configuration has none
#   PLD_STACK        onedl | upstream: which OpenMMLab line to install when there is none
#   PLD_VENV         another folder than .venv
#   PYTHON           the interpreter that makes the virtual environment
#   PLD_CACHE        where compiled wheels are kept [~/.cache/pld_mmdet]
#   PIP_FIND_LINKS   pip's own: folders with wheels (relative to the repository's root)

PLD_TORCH=${PLD_TORCH:-2.13.0}
PLD_TORCH_INDEX=${PLD_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
PLD_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PLD_LOG=$PLD_ROOT/work_dirs/setup.log
PLD_TICKER=
PLD_JOB=
PLD_EVERY=${PLD_EVERY:-60}

pld_say() { printf '%s\n' "$*"; }

# what is wrong, what to do [, "log" to show the log's end]
pld_fail() {
  pld_stop_ticker
  if [ "${3:-}" = log ]; then
    pld_say "--- the last lines of $PLD_LOG" >&2
    grep -v 'is ignored' "$PLD_LOG" | tail -n 15 >&2
    pld_say '---' >&2
  fi
  printf '%s\n%s\n' "$1" "$2" >&2
  exit 2
}

pld_stop_ticker() {
  [ -n "$PLD_TICKER" ] || return 0
  kill "$PLD_TICKER" 2>/dev/null || true
  wait "$PLD_TICKER" 2>/dev/null || true
  PLD_TICKER=
}

# Ends a step with all that it started (ninja and its compilers): it is a process group.
pld_stop_job() {
  [ -n "$PLD_JOB" ] || return 0
  local job=$PLD_JOB tries
  PLD_JOB=
  kill -TERM -- "-$job" 2>/dev/null || return 0
  for tries in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 -- "-$job" 2>/dev/null || return 0
    sleep 0.5
  done
  kill -KILL -- "-$job" 2>/dev/null || true
}

# signal, exit code: one sentence, nothing left running.
pld_stopped() {
  trap '' INT TERM HUP # a group is often told twice
  trap - EXIT
  pld_stop_job
  pld_stop_ticker
  printf '\n%s %s\n' "Stopped by $1; nothing was left running." \
    "The same command goes on with what is missing$(pld_compiled)." >&2
  exit "$2"
}

pld_traps() {
  trap 'pld_stopped Ctrl-C 130' INT
  trap 'pld_stopped SIGTERM 143' TERM
  trap 'pld_stopped "a closed terminal" 129' HUP
}

# bytes of the log before this step, seconds gone: what ninja has compiled since, as it
# says itself ("[31/120] c++ ..."), and the time left by that. Nothing if it says nothing.
pld_files() {
  local found done all
  found=$(tail -c "+$(($1 + 1))" "$PLD_LOG" 2>/dev/null | tr '\r' '\n' |
    grep -ao '^ *\[[0-9][0-9]*/[0-9][0-9]*\]' | tail -n 1 | tr -d ' []') || true
  [ -n "$found" ] || return 0
  done=${found%/*} all=${found#*/}
  printf ', file %d of %d' "$done" "$all"
  if [ "$done" -ge 3 ]; then
    printf ', about %d min left' $((($2 * (all - done) / done + 59) / 60))
  fi
}

# Shows that a long step is alive: each second on a terminal, each minute (PLD_EVERY) in
# a log file. Ends the step when this script was killed without a word.
pld_tick() {
  local began=$SECONDS before=$3 job=$4 beat=0
  while kill -0 $$ 2>/dev/null; do
    if [ -t 1 ] || [ $((beat % PLD_EVERY)) = $((PLD_EVERY - 1)) ]; then
      if [ -t 1 ]; then printf '\r'; fi
      printf '  %s ... %d s (usually %s)%s' "$1" $((SECONDS - began)) "$2" \
        "$(pld_files "$before" $((SECONDS - began)) 9>&-)"
      if [ -t 1 ]; then printf '\033[K'; else printf '\n'; fi
    fi
    beat=$((beat + 1))
    # The sleep must hold neither the caller's pipe nor the lock when it is orphaned.
    sleep 1 >/dev/null 2>&1 8>&- 9>&-
  done
  kill -TERM -- "-$job" 2>/dev/null
}

# title, usual time, command... : run with output to the log, show progress and time.
# It is a process group of its own, so that a signal to this script can end all of it.
pld_step() {
  local title=$1 usual=$2 began=$SECONDS code=0 before
  shift 2
  printf '\n=== %s: %s\n' "$title" "$*" >>"$PLD_LOG"
  before=$(wc -c <"$PLD_LOG")
  pld_traps
  set -m
  (cd "$PLD_ROOT" && "$@") >>"$PLD_LOG" 2>&1 </dev/null 8>&- 9>&- &
  PLD_JOB=$!
  set +m
  pld_tick "$title" "$usual" "$before" "$PLD_JOB" &
  PLD_TICKER=$!
  wait "$PLD_JOB" || code=$?
  PLD_JOB=
  pld_stop_ticker
  if [ -t 1 ]; then printf '\r\033[K'; fi
  [ "$code" = 0 ] || return "$code"
  printf '  %-44s %4d s\n' "$title" $((SECONDS - began))
}

pld_pip() { "$PLD_PYTHON" -m pip install --disable-pip-version-check --no-input "$@"; }

# Which distributions the environment has. mm* packages exist as two distributions of
# the same modules; PLD_LINE tells which line this environment follows.
pld_survey() {
  PLD_HAS=$("$PLD_PYTHON" - <<'PY'
from importlib.metadata import PackageNotFoundError, version

names = "torch mmengine mmcv mmcv-lite mmdet mmsegmentation onedl-mmengine onedl-mmcv"
for name in (names + " onedl-mmdetection onedl-mmsegmentation pld-mmdet").split():
    try:
        print(f"{name}=={version(name)}")
    except PackageNotFoundError:
        continue
PY
  ) || pld_fail "The Python of this environment does not run: $PLD_PYTHON" \
    "Repair or leave the environment (deactivate), then run the same command again."
  local onedl upstream
  onedl=$(printf '%s\n' "$PLD_HAS" | sed -n 's/^onedl-/&/p' | tr '\n' ' ')
  upstream=$(printf '%s\n' "$PLD_HAS" | sed -n 's/^mm/&/p' | tr '\n' ' ')
  if [ -n "$onedl" ] && [ -n "$upstream" ]; then
    pld_fail "This environment mixes two distributions of the same modules: ${upstream}and ${onedl% } overwrite each other." \
      "Keep one line: $PLD_PYTHON -m pip uninstall -y mmengine mmcv mmcv-lite mmdet mmsegmentation onedl-mmengine onedl-mmcv onedl-mmdetection onedl-mmsegmentation, then run the same command again."
  fi
  if pld_has mmcv-lite; then
    pld_fail "This environment has mmcv-lite, which lacks the compiled operations that detectors need." \
      "$PLD_PYTHON -m pip uninstall -y mmcv-lite, then run the same command again: the full mmcv is installed then."
  fi
  PLD_LINE=${PLD_STACK:-onedl}
  if [ -n "$onedl" ]; then PLD_LINE=onedl; fi
  if [ -n "$upstream" ]; then PLD_LINE=upstream; fi
  case "$PLD_LINE" in
    onedl) PLD_MMCV=onedl-mmcv==2.3.6 PLD_MMDET=onedl-mmdetection==3.5.1 PLD_MMENGINE=onedl-mmengine ;;
    upstream) PLD_MMCV=mmcv==2.1.0 PLD_MMDET=mmdet==3.3.0 PLD_MMENGINE=mmengine==0.10.7 ;;
    *) pld_fail "PLD_STACK=$PLD_LINE is neither onedl nor upstream." "Leave it unset, or set one of the two." ;;
  esac
}

pld_has() { printf '%s\n' "$PLD_HAS" | grep -q "^${1%%==*}=="; }

pld_gpu() { [ "${CUDA_VISIBLE_DEVICES-all}" != "" ] && nvidia-smi -L >/dev/null 2>&1; }

# The plain torch for Linux is a CUDA build of several GB: without a GPU prefer the CPU
# build, first from wherever pip is configured to look, then from PLD_TORCH_INDEX.
pld_install_torch() {
  if [ "$(uname -s)" = Linux ] && ! pld_gpu; then
    pld_pip "torch==$PLD_TORCH+cpu" && return
    pld_pip --retries 1 --timeout 20 "torch==$PLD_TORCH+cpu" --extra-index-url "$PLD_TORCH_INDEX" && return
  fi
  pld_pip "torch==$PLD_TORCH"
}

pld_mmcv_works() { "$PLD_PYTHON" -c 'import mmcv.ops'; }

# A wheel counts only when its compiled part loads beside this torch.
pld_mmcv_wheel() {
  pld_pip --only-binary "${PLD_MMCV%%==*}" "$PLD_MMCV" || return 1
  pld_mmcv_works && return 0
  echo "The wheel was compiled against another torch: removed, compiling instead."
  "$PLD_PYTHON" -m pip uninstall -y "${PLD_MMCV%%==*}"
  return 1
}

# Where built wheels and half-done builds are kept, for all environments of this user.
pld_cache() {
  local place=${PLD_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/pld_mmdet}
  mkdir -p "$place" 2>/dev/null && [ -w "$place" ] || place=$PLD_ROOT/work_dirs/cache
  printf '%s' "$place"
}

# What a build depends on: version, Python, torch with its build, processor, GPU or not.
pld_mmcv_key() {
  local device=cpu
  if pld_gpu; then device=gpu; fi
  "$PLD_PYTHON" -c '
import platform
import re
import sys
import torch
words = [sys.argv[1], "py%d.%d" % sys.version_info[:2], "torch" + torch.__version__]
words += [platform.system(), platform.machine(), sys.argv[2]]
print(re.sub(r"[^\w.+-]+", "_", "-".join(words)))' "$PLD_MMCV" "$device" 2>/dev/null
}

# A wheel that an earlier compile left, here or for another environment.
pld_mmcv_kept() {
  local wheel
  wheel=$(ls "$PLD_KEPT/wheels/$PLD_KEY"/*.whl 2>/dev/null | head -n 1)
  [ -n "$wheel" ] || return 1
  pld_pip "$wheel" && pld_mmcv_works && return 0
  echo "$wheel does not work here: removed."
  rm -f "$wheel"
  "$PLD_PYTHON" -m pip uninstall -y "${PLD_MMCV%%==*}"
  return 1
}

# Unpacks the sources once; what is compiled stays beside them.
pld_mmcv_source() {
  [ -f "$PLD_BUILD/unpacked" ] && return
  rm -rf "$PLD_BUILD" && mkdir -p "$PLD_BUILD/source" &&
    "$PLD_PYTHON" -m pip download --disable-pip-version-check --no-input --no-deps \
      --no-build-isolation --no-binary "${PLD_MMCV%%==*}" -d "$PLD_BUILD" "$PLD_MMCV" &&
    tar -xzf "$PLD_BUILD"/*.tar.gz -C "$PLD_BUILD/source" --strip-components 1 &&
    touch "$PLD_BUILD/unpacked"
}

# Against this environment's torch. ninja compiles what is missing in the build folder,
# which is kept until the wheel is there; ccache helps where it is installed.
pld_mmcv_compile() {
  local place=$PLD_KEPT/wheels/$PLD_KEY
  if [ -d /usr/lib/ccache ]; then PATH=/usr/lib/ccache:$PATH; fi
  (cd "$PLD_BUILD/source" && MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(pld_cores)} \
    "$PLD_PYTHON" -u setup.py bdist_wheel -d "$PLD_BUILD/dist") &&
    mkdir -p "$place" && mv "$PLD_BUILD"/dist/*.whl "$place/" && pld_mmcv_kept &&
    rm -rf "$PLD_BUILD"
}

# How much an earlier call left, in words.
pld_compiled() {
  local there=0
  if [ -n "${PLD_BUILD:-}" ] && [ -d "$PLD_BUILD" ]; then
    there=$(find "$PLD_BUILD" -name '*.o' | wc -l)
  fi
  if [ "$there" -gt 0 ]; then printf ' (%d files are compiled)' "$there"; fi
}

# nproc would answer with OMP_NUM_THREADS if that is set.
pld_cores() { env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1; }

pld_install_mmcv() {
  PLD_KEPT=$(pld_cache)
  PLD_KEY=$(pld_mmcv_key) || PLD_KEY=
  PLD_BUILD=$PLD_KEPT/build/$PLD_KEY
  if ls "$PLD_KEPT/wheels/$PLD_KEY"/*.whl >/dev/null 2>&1; then
    pld_step "$PLD_MMCV, the wheel of an earlier compile" "5 s" pld_mmcv_kept && return
  fi
  pld_step "$PLD_MMCV, a ready wheel if pip finds one" "5 s" pld_mmcv_wheel && return
  command -v c++ >/dev/null || command -v g++ >/dev/null ||
    pld_fail "pip has no wheel of $PLD_MMCV for this Python, and there is no C++ compiler to build one." \
      "Install one (Debian, Ubuntu: apt-get install build-essential python3-dev), or offer a wheel with PIP_FIND_LINKS=FOLDER; then run the same command again."
  if pld_gpu && ! command -v nvcc >/dev/null && [ ! -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; then
    pld_fail "pip has no wheel of $PLD_MMCV for this Python, and compiling it for the GPU needs nvcc, which is not here." \
      "Install the CUDA toolkit of this torch's version, or offer a wheel with PIP_FIND_LINKS=FOLDER, or use the CPU with CUDA_VISIBLE_DEVICES= in front of the command."
  fi
  [ -n "$PLD_KEY" ] || pld_fail "torch does not import in $PLD_PREFIX, and $PLD_MMCV is compiled against it." "Install torch again: $PLD_PYTHON -m pip install --force-reinstall torch"
  if command -v flock >/dev/null; then # another checkout may build the same
    mkdir -p "$PLD_KEPT"
    exec 8>"$PLD_KEPT/.lock"
    flock -n 8 || { pld_say "  Another set-up compiles; waiting for it."; flock 8; }
  fi
  local cores usual
  cores=$(pld_cores)
  usual="$((22 / cores + 1)) to $((50 / cores + 1)) minutes"
  pld_say "  No wheel: $PLD_MMCV is compiled now, once, about 80 files in $usual with $cores processes$(pld_compiled)."
  pld_say "  Ctrl-C stops it, and the same command goes on. The wheel is kept in $PLD_KEPT/wheels."
  pld_step "the sources of $PLD_MMCV" "20 s" pld_mmcv_source ||
    pld_fail "The sources of $PLD_MMCV could not be had." "Look at the last lines: often there is no network. Then the same command again." log
  pld_step "compiling $PLD_MMCV" "$usual" pld_mmcv_compile ||
    pld_fail "Compiling $PLD_MMCV failed; the whole output is in $PLD_LOG." \
      "The last lines name the cause (often a missing compiler or Python.h: apt-get install build-essential python3-dev). Run the same command again afterwards." log
  if command -v flock >/dev/null; then exec 8>&-; fi
}

# The requirements of setup.py but torch and mm*, which have their own steps.
pld_requirements() {
  "$PLD_PYTHON" -c '
import runpy
import sys
lists = runpy.run_path("setup.py", run_name="requirements")
extras = lists["EXTRAS"]
families = [name for name in extras if name not in ("onedl", "upstream")]
wanted = lists["CORE"] + [line for name in families for line in extras[name]]
skip = ("torch",)
if sys.argv[1] == "upstream":
    skip += ("onedl",)
    # The segmentors of that line; its wheel does not name the tokenizer it imports.
    wanted += ["mmsegmentation>=1.2.2", "ftfy", "regex"]
print("\n".join(sorted({line for line in wanted if not line.startswith(skip)})))' "$PLD_LINE"
}

pld_install_requirements() {
  local wanted=() line
  while IFS= read -r line; do wanted+=("$line"); done < <(pld_requirements)
  pld_pip "${wanted[@]}"
}

pld_install_package() { pld_pip --no-deps --no-build-isolation -e .; }

# Sets PLD_PREFIX and PLD_PYTHON; makes the virtual environment when none is active.
pld_find_python() {
  PLD_PREFIX=${VIRTUAL_ENV:-}
  if [ -z "$PLD_PREFIX" ] && [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then
    PLD_PREFIX=$CONDA_PREFIX
  fi
  if [ -z "$PLD_PREFIX" ]; then
    PLD_PREFIX=$PLD_ROOT/${PLD_VENV:-.venv}
    if ! "$PLD_PREFIX/bin/python" -m pip --version >/dev/null 2>&1; then
      local maker=${PYTHON:-} candidate
      for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        [ -n "$maker" ] && break
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && maker=$candidate
      done
      [ -n "$maker" ] || pld_fail "No Python 3.10 or newer was found." "Install one, or name it: PYTHON=/path/to/python bash $0"
      pld_say "Setting up a virtual environment in $PLD_PREFIX (nothing outside of it is changed):"
      pld_step "virtual environment ($("$maker" --version 2>&1))" "10 s" "$maker" -m venv "$PLD_PREFIX" ||
        pld_fail "$maker cannot make a virtual environment." "Debian, Ubuntu: apt-get install python3-venv; then run the same command again." log
    fi
  fi
  PLD_PYTHON=$PLD_PREFIX/bin/python
  export VIRTUAL_ENV=$PLD_PREFIX PATH="$PLD_PREFIX/bin:$PATH"
  "$PLD_PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    pld_fail "The active environment $PLD_PREFIX has no Python 3.10 or newer." "Activate another one, or deactivate it and a .venv is made here."
}

pld_line() { printf '%s' "$PLD_HAS" | tr '\n' ' '; }

# What the finished set-up depends on: this place, these files, these versions.
pld_key() {
  printf '%s | %s | %s\n' "$PLD_ROOT" "$(pld_line)" \
    "$(cat "$PLD_ROOT/setup.py" "$PLD_ROOT/pld_mmdet/__init__.py" "$PLD_ROOT/tools/_env.sh" | cksum)"
}

pld_setup() {
  local began=$SECONDS stamp again="Run the same command again: it goes on where it stopped. The whole output: $PLD_LOG"
  mkdir -p "$PLD_ROOT/work_dirs"
  if command -v flock >/dev/null; then # two set-ups at a time would break each other
    exec 9>"$PLD_ROOT/work_dirs/.setup.lock"
    flock -n 9 || { pld_say "Another set-up is running here; waiting for it."; flock 9; }
  fi
  : >"$PLD_LOG"
  trap pld_stop_ticker EXIT
  pld_traps
  pld_find_python
  pld_survey
  stamp=$PLD_PREFIX/.pld-mmdet-setup
  if [ "$(cat "$stamp" 2>/dev/null)" != "$(pld_key)" ]; then
    pld_say "Installing what is missing into $PLD_PREFIX:"
    if ! pld_has torch; then
      pld_step "torch $PLD_TORCH" "1 minute" pld_install_torch ||
        pld_fail "torch $PLD_TORCH could not be installed." "$again Another version: PLD_TORCH=2.x.y in front of the command." log
    fi
    if ! pld_has "$PLD_MMCV"; then
      # Old setuptools: mmcv's setup.py imports pkg_resources.
      pld_step "build tools" "5 s" pld_pip 'setuptools<80' wheel ninja ||
        pld_fail "The build tools could not be installed." "$again" log
      pld_has "$PLD_MMENGINE" || pld_step "$PLD_MMENGINE" "20 s" pld_pip "$PLD_MMENGINE" ||
        pld_fail "$PLD_MMENGINE could not be installed." "$again" log
      pld_install_mmcv
    fi
    pld_has "$PLD_MMDET" || pld_step "$PLD_MMDET" "20 s" pld_pip "$PLD_MMDET" ||
      pld_fail "$PLD_MMDET could not be installed." "$again" log
    pld_step "requirements of this package and its tests" "20 s" pld_install_requirements ||
      pld_fail "The requirements of setup.py could not be installed." "$again" log
    pld_step "this package (editable)" "5 s" pld_install_package ||
      pld_fail "pld-mmdet could not be installed." "$again" log
    pld_step "does everything import?" "10 s" "$PLD_PYTHON" -c 'import torch, mmcv.ops, mmdet, pld_mmdet.registry' ||
      pld_fail "The packages are installed but do not import together." "See the last lines above. A fresh environment helps: deactivate, and run the same command again." log
    pld_survey
    pld_key >"$stamp"
    pld_say "The environment is ready after $((SECONDS - began)) s: $(pld_line)"
  fi
  if command -v flock >/dev/null; then exec 9>&-; fi
  trap - EXIT INT TERM HUP
}
