#!/bin/bash
# 1. Set the #SBATCH lines (without GPUs, delete theirs). The study's `storage`: a folder that all nodes share, or s3://….
# 2. With the toolkit's environment active: sbatch experiments/cluster/slurm.sh my.yaml (the rest is for study.run)
# 3. Look: python -m study.status results/my. At the time limit it stops cleanly and queues again; to end it, scancel.
#SBATCH --job-name=pfgm-study
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
set -euo pipefail
unset RAY_ADDRESS

driver='' ray=() folder='' again='' told='' code=1

stop() { # a signal: the driver stops, what it has finished stays
    told=1
    [ -n "$driver" ] || exit 143
    kill -TERM "$driver" 2>/dev/null || true
}
finish() { # Ray ends with the job, however the job ends
    trap '' TERM USR1
    kill -TERM $driver "${ray[@]}" 2>/dev/null || true
    wait
    rm -rf "$folder"
    if [ -n "$again" ] && [ "$code" = 143 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
}
trap finish EXIT
trap stop TERM
trap 'again=1; stop' USR1

# A token for this job alone, handed on in the environment: it is in no file, log or command line.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0

# On each node: Ray, in a folder of its own, until it is told to stop. Every port is a free one: jobs may share a node.
# shellcheck disable=SC2016
on_node='
folder=$1; shift
mkdir -m 700 "$folder" || exit 1
log=$folder/start.log
ray start "$@" --temp-dir="$folder" --dashboard-agent-listen-port=0 --include-log-monitor=false --block >"$log" 2>&1 &
trap "told=1; kill -TERM $!" TERM
wait $!
if [ -n "$told" ]; then wait $!; else tail -n 20 "$log" >&2; fi
for _ in {1..20}; do # a worker that outlives its raylet for a moment would make the folder again
    ls -l /proc/[0-9]*/fd 2>/dev/null | grep -qF "$folder/" || break
    sleep 0.5
done
rm -rf "$folder"
'

start_ray() { # node, folder, options of ray start
    local node=$1 place=$2 ip
    shift 2
    ip=$(getent ahostsv4 "$node" | awk '$1 !~ /^127\.0\.[01]\.1$/ && !n++ {print $1}') || true
    srun --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$cpus" --export=ALL --input=none --no-kill \
        bash -c "$on_node" on_node "$place" ${ip:+--node-ip-address="$ip"} --num-cpus="$cpus" "$@" &
    ray+=($!)
}

cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
folder=$(mktemp -d /tmp/pfgm-ray.XXXXXX) # this script runs on the first node; sockets need short names
client=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
start_ray "${nodes[0]}" "$folder/ray" --head --port=0 --ray-client-server-port="$client" --include-dashboard=false
until [ -s "$folder/ray/ray_current_cluster" ]; do
    kill -0 "${ray[0]}" 2>/dev/null || { echo "Ray did not start on ${nodes[0]}" >&2; exit 1; }
    sleep 0.2
done
address=$(<"$folder/ray/ray_current_cluster")
for ((i = 1; i < ${#nodes[@]}; i++)); do
    start_ray "${nodes[i]}" "/tmp/${folder##*/}.$i" --address="$address"
done

# The study counts CPUs and GPUs once, when it starts: wait for the nodes, but not for ever.
python - "$address" "${#nodes[@]}" <<'PYTHON'
import sys, time, ray

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
end = time.monotonic() + 60
while (alive := sum(node["Alive"] for node in ray.nodes())) < int(sys.argv[2]) and time.monotonic() < end:
    time.sleep(0.5)
print(f"Ray runs on {alive} of {sys.argv[2]} nodes", flush=True)
PYTHON

[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || set -- "$@" --take-over # from this job before it was queued again
python -m study.run "$@" --address "$address" &
driver=$!
while told=''; do
    wait "$driver" && code=0 || code=$?
    [ -n "$told" ] || break # a signal ends the waiting, not the driver
done
driver=''
exit "$code"
