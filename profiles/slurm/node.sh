#!/bin/bash
# Score with all GPUs of one node in one submission:   sbatch profiles/slurm/node.sh
#
# For sites that give whole nodes. Snakemake runs on the node, as on a workstation, and each scoring job takes GPUs of
# its own. Options of sbatch override the lines below; further arguments go to Snakemake:
#   sbatch --gres=gpu:4 --time=2:00:00 profiles/slurm/node.sh --configfile studies/mine.yaml
# If the nodes have no network, fetch weights and tasks on a login node first.
#SBATCH --job-name=ebbtide
#SBATCH --output=ebbtide-%j.log
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --gres=gpu:8
#SBATCH --mem=0
#SBATCH --time=24:00:00
# Two minutes before the end, all processes get Ctrl-C. The next submission scores the cells that are left.
#SBATCH --signal=INT@120
exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    snakemake --cores "$SLURM_CPUS_PER_TASK" --keep-going --quiet host reason rules "$@"
