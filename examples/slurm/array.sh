#!/bin/bash
# Build a store by an array of jobs, each of which does its part of the shards. The one that finds all done publishes it.
#
#   sbatch array.sh nyu nyu_depth_v2_labeled.mat nyu.zarr [options of gfield build]
#
# Were some jobs lost? Submit it again, with any number of jobs: what is done is kept.
#SBATCH --job-name=gfield
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --output=%x-%A_%a.out
set -euo pipefail

# Parts are counted from 1; arrays from wherever one likes, and in steps.
part=$(((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN) / SLURM_ARRAY_TASK_STEP + 1))
exec gfield build "$@" --part "$part/$SLURM_ARRAY_TASK_COUNT"
