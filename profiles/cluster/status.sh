#!/bin/sh
# Print whether the submission with this id is running, or how it ended.
file="logs/cluster/$1.status"
if [ ! -e "$file" ] && qstat "$1" > /dev/null 2>&1; then
    echo running
    exit
fi
# On a network file system, a file written by another machine can be invisible here for a minute.
for _ in $(seq "${EBBTIDE_LATENCY:-12}"); do
    ls logs/cluster > /dev/null
    [ ! -e "$file" ] || break
    sleep 5
done
cat "$file" 2> /dev/null || echo failed # killed by the scheduler: time limit, memory, or by hand
