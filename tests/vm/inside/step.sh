# SPDX-License-Identifier: Apache-2.0
#
# A program of several that run one after the other in a guest: what host.py puts before them, with before() behind it.
# Nothing of one is left when the next begins: a port, a device, a mount is held until its last process has ended, and one
# that is killed may take seconds for that, since the kernel destroys its queue pairs first.

step_is_there() { # group: some thread of it has not ended
    for step_task in /proc/[0-9]*/task/[0-9]*/stat; do
        read -r step_line 2>/dev/null <"$step_task" || continue
        set -- "$1" ${step_line##*) } # state, parent, group
        case $2 in Z | X) ;; *) [ "$4" != "$1" ] || return 0 ;; esac
    done
    return 1
}

step_end() { # group
    step_tries=300
    while step_is_there "$1"; do
        kill -s KILL -- "-$1" 2>/dev/null
        step_tries=$((step_tries - 1))
        if [ "$step_tries" = 0 ]; then
            echo "some process of $step_name goes on though it is killed: ${step_line%) *})"
            cat "${step_task%/stat}/stack"
            return
        fi
        sleep 0.2
    done
}

step() { # name, seconds, command
    step_name=$1 step_seconds=$2 && shift 2
    echo "== $step_name begins"
    read -r step_began step_rest </proc/uptime
    before
    timeout -k 10 "$step_seconds" "$@" & # which leads a group of its own
    step_group=$!
    wait "$step_group"
    step_status=$?
    step_end "$step_group"
    read -r step_ended step_rest </proc/uptime
    echo "== $step_name ends with $step_status after $((${step_ended%.*} - ${step_began%.*})) s"
}
