#!/bin/bash
# Build a store on Dask workers that are jobs of their own. This job is small: it asks for them, and hands out the work.
#
#   sbatch jobqueue.sh nyu nyu_depth_v2_labeled.mat nyu.zarr [options of gfield build]
#
# WORKERS says how many jobs; jobqueue.yaml beside this file, in ~/.config/dask, says what each of them is.
#SBATCH --job-name=gfield
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --time=04:00:00
#SBATCH --signal=B:INT@60
#SBATCH --output=%x-%j.out
set -euo pipefail

# Replaces this shell, so that what SLURM sends before the time is over reaches gfield, which cancels the workers.
exec gfield build "$@" --cluster slurm --workers "${WORKERS:-8}"
