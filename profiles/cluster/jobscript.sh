#!/bin/sh
# properties = {properties}
# Run a submission, and write whether it succeeded for status.sh. Snakemake fills in this template.
result=failed
( {exec_job} ) && result=success
mkdir -p logs/cluster
echo $result > "logs/cluster/${{PBS_JOBID:-$JOB_ID}}.status"
[ $result = success ]
