# What the scripts of this folder share. Sourced; needs root, iproute2, and the two pretend hosts of ../shared/cluster.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
shared=${SHARED:-$root/../shared}/cluster
program=${PROGRAM:-$root/build/release/lorashard}

# ctest takes 77 for "skipped".
skip() { echo "skipped: $*"; exit 77; }
[[ -d $shared ]] || skip "no scripts in $shared"
(( EUID == 0 )) || skip "network namespaces need root"
[[ -x $program ]] || skip "$program is not built"
"$root/launch/install_packages" iproute2 procps util-linux >/dev/null

work=$(mktemp -d /tmp/lorashard-cluster-XXXXXX)
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

# A model whose step takes some 20 ms on one core, on bytes.
make_job() {
  cat >"$work/job.ini" <<'INI'
[model]
layers = 4
width = 128
heads = 4
vocab = 257
context = 64
[data]
train = train.h5
length = 64
[train]
steps = 100000
batch = 4
[device]
threads = 1
[run]
dir = run
checkpoint_every = 10
INI
  for i in $(seq 3000); do echo "the $((i % 97))th line of a plain text"; done >"$work/text.txt"
  (cd "$work" && "$program" tokenize --from text.txt --to train.h5 >/dev/null)
}

steps_done() { [[ -e $work/run/metrics.jsonl ]] && wc -l <"$work/run/metrics.jsonl" || echo 0; }

# Waits until the run has done $1 steps, or has ended.
await_steps() {
  local i
  for i in $(seq 2400); do
    (( $(steps_done) >= $1 )) && return 0
    sleep 0.05
  done
  return 1
}

# The processes of the program itself, without guardians and launchers: one for each rank of host $1.
rank_processes() {
  local p
  for p in $(ip netns pids "$1"); do
    [[ $(readlink "/proc/$p/exe" 2>/dev/null) == "$program" && $(cat "/proc/$p/comm" 2>/dev/null) != lora-guardian ]] &&
      echo "$p"
  done
  return 0
}

all_processes() {
  local host p
  for host in fh1 fh2; do
    for p in $(ip netns pids $host); do
      [[ $(readlink "/proc/$p/exe" 2>/dev/null) =~ lorashard|mpirun|orted|orterun ]] && echo "$p"
    done
  done
  return 0
}
