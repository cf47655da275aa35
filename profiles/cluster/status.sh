#!/bin/sh
# Print whether the submission with this id is running, or how it ended.
file="logs/cluster/$1.status"
# PBS, or else Grid Engine. First, because the file can be that of an earlier job to which the scheduler gave the id.
if qstat "$1" > /dev/null 2>&1 || qstat -j "$1" > /dev/null 2>&1; then
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
rm -f "$file"                           # so that a later job with the id does not find it
