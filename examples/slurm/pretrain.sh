#!/bin/bash
# Pre-train on all cards of several nodes, for as long as it takes: shortly before the time is over the run saves itself,
# and the job goes back into the queue and on from there.
#
#   sbatch pretrain.sh nyu.zarr runs/moco [options of train pretrain]
#
#SBATCH --job-name=pretrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

store=$1 run=$2
shift 2
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# Another port for another job, should they share a node.
endpoint=${nodes[0]}:$((20000 + SLURM_JOB_ID % 20000))

# SLURM's signal comes to this shell alone, which hands it on. Every rank then ends its step, and the first one saves.
stopped=no step=
trap 'stopped=yes; kill -TERM $step' TERM

srun --ntasks-per-node=1 torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-backend=c10d --rdzv-endpoint="$endpoint" --rdzv-id="$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" \
    "$(command -v train)" pretrain "$store" --out "$run" --resume "$@" &
step=$!

code=0
wait "$step" || code=$?
while kill -0 "$step" 2> /dev/null; do # a signal ends `wait`, and not yet what was waited for
    code=0
    wait "$step" || code=$?
done

if [[ $stopped = yes ]]; then
    echo "stopped before the time was over; back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
