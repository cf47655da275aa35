#!/bin/sh
# properties = {properties}
# Run a submission, and write whether it succeeded for status.sh. Snakemake fills in this template.
file="logs/cluster/${{PBS_JOBID:-$JOB_ID}}.status"
record() {{
    [ "$1" = 0 ] && result=success || result=failed
    mkdir -p logs/cluster
    echo $result > "$file.new" && mv "$file.new" "$file"
}}
# PBS starts jobs in the home directory. The next line changes to that of the run, where status.sh looks, and exits.
trap 'record $?' EXIT
{exec_job}
