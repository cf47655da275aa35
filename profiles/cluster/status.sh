#!/bin/sh
# Print whether the submission with this id is running, or how it ended.
file="logs/cluster/$1.status"
# The scheduler first, because the file can be that of an earlier job to which the scheduler gave the id.
# Torque lists completed jobs for some minutes, with a state; PBS without one, and Grid Engine with -j, do not.
case $(qstat -f "$1" 2> /dev/null | sed -n 's/^ *job_state = //p') in
    C | E | F | X) ;;
    ?*) echo running && exit ;;
    *)
        if qstat "$1" > /dev/null 2>&1 || qstat -j "$1" > /dev/null 2>&1; then
            echo running
            exit
        fi
        ;;
esac
# On a network file system, a file written by another machine can be invisible here for a minute.
for _ in $(seq "${EBBTIDE_LATENCY:-12}"); do
    ls logs/cluster > /dev/null
    [ ! -e "$file" ] || break
    sleep 5
done
cat "$file" 2> /dev/null || echo failed # killed by the scheduler: time limit, memory, or by hand
rm -f "$file"                           # so that a later job with the id does not find it
