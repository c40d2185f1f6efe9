# Checks, and what they look at, for the scripts beside it. Knows the package; decides no order.
slice=/sys/fs/cgroup/stockade.slice/stockade-workers.slice
policies=/etc/stockade/policies.d
passed=0 failed=0

# Whole seconds since the machine was switched on.
uptime() { cut -d. -f1 /proc/uptime; }
check() {
    local what=$1 began
    began=$(uptime)
    shift
    if "$@" >/tmp/check.log 2>&1; then
        passed=$((passed + 1))
        echo "ok: $what ($(($(uptime) - began)) s)"
    else
        failed=$((failed + 1))
        echo "FAILED: $what ($(($(uptime) - began)) s)"
        sed 's/^/    /' /tmp/check.log
        journalctl -q --no-pager -n 15 -u 'stockade*' -o short-monotonic | sed 's/^/    /'
    fi
}

# Its answer is no, which is not that it failed.
says_no() {
    "$@"
    same 1 $?
}
# Until the command succeeds, for at most this many seconds.
within() {
    local seconds=$1
    shift
    until "$@"; do
        seconds=$((seconds - 1))
        [ "$seconds" -gt 0 ] || return 1
        sleep 1
    done
}

active() { systemctl is-active --quiet "$@"; }
main_pid() { systemctl show -p MainPID --value "${1:-stockade.service}"; }
# Of links, not of programs: those are replaced.
links() {
    for link in /sys/fs/bpf/stockade/v*/link_*; do
        bpftool -j link show pinned "$link"
    done | sed 's/.*"id":\([0-9]*\),.*"cgroup_id":\([0-9]*\).*/\1 on \2/'
}
# Of none there would be nothing to compare.
pinned() { [ "$(links | grep -c '^[0-9]* on [0-9]*$')" -ge 13 ]; }
hooks() { [ "$(bpftool cgroup show "$slice" | grep -cE 'egress|ingress|sock_create|connect|sendmsg|recvmsg|getpeername|bind')" -ge 13 ]; }
same() { [ "$1" = "$2" ] || { echo "$1 is not $2"; false; }; }
differs() { [ "$1" != "$2" ]; }
not() { ! "$@"; }
reaches() { same 200 "$(stockade run probe -- -sS -o /dev/null -w '%{http_code}' --max-time 60 "http://127.0.0.1:$1/")"; }
plain() { same 200 "$(curl -sS -o /dev/null -w '%{http_code}' "http://127.0.0.1:$1/")"; }
new_agent() { differs "$1" "$(main_pid)" && active stockade.service && stockade status >/dev/null; }
version_is() { same "$1" "$(dpkg-query -W -f '${Version}' stockade)"; }

confined() {
    for task in /proc/"$(main_pid)"/task/*; do
        grep -q '^NoNewPrivs:.*1$' "$task/status" && grep -q '^Seccomp:.*2$' "$task/status" || return 1
        # module loading, raw I/O, tracing, reboot, time: none of them
        caps=$(sed -n 's/^CapEff:[^0-9a-f]*//p' "$task/status")
        [ $((0x$caps & 0x24b0000)) -eq 0 ] || { echo "capabilities $caps"; return 1; }
    done
}
launcher_is_free() {
    launcher=$(pgrep -P "$(main_pid)" | head -n 1)
    grep -q '^NoNewPrivs:.*0$' "/proc/$launcher/status" && grep -q '^Seccomp:.*0$' "/proc/$launcher/status"
}

# What is in the fenced slice and known to no session opens nothing, agent or no agent: tried from
# `probe_begin` to `probe_end`.
cat >/tmp/probe.py <<'PROBE'
import os, socket, sys, time
refused = opened = other = 0
while refused <= 10 or not os.path.exists("/run/probe.stop"):
    try:
        with socket.socket() as s:
            s.settimeout(2)
            s.connect(("127.0.0.1", 8080))
        opened += 1
    except PermissionError:
        refused += 1
    except OSError as error:
        other += 1
        print(error)
    if opened + other > 10:
        break
    time.sleep(0.2)
print("refused", refused, "opened", opened, "other", other)
sys.exit(0 if opened == 0 and other == 0 else 1)
PROBE
probe_begin() {
    rm -f /run/probe.stop
    systemctl reset-failed probe.service 2>/dev/null
    systemd-run --quiet --unit=probe --slice=stockade-workers.slice -p RemainAfterExit=yes python3 /tmp/probe.py
}
probe_is_over() { [ "$(systemctl show -p SubState --value probe.service)" != running ]; }
probe_end() {
    touch /run/probe.stop
    within 300 probe_is_over
    result=$(systemctl show -p Result --value probe.service)
    journalctl -q --no-pager -u probe.service -o cat
    systemctl stop probe.service
    same success "$result"
}

nothing_left() {
    for path in /usr/bin/stockade /sys/fs/bpf/stockade /run/stockade "$slice"; do
        [ ! -e "$path" ] || { echo "$path is there"; return 1; }
    done
    not pgrep -x stockade
}
nothing_at_all() {
    nothing_left || return 1
    for path in /etc/stockade /var/lib/stockade /run/stockade-uids; do
        [ ! -e "$path" ] || { echo "$path is there"; return 1; }
    done
    not getent group stockade || return 1
    not getent group stockade-admin || return 1
    same "" "$(find /etc/systemd /lib/systemd/system /usr/share/doc /var/lib/systemd/deb-systemd-helper-enabled -name '*stockade*' ! -name 'stockade-vm*' 2>/dev/null)"
}

# Whether somebody who is in this group and in no other may connect.
connects() {
    setpriv --reuid=nobody --regid="$1" --clear-groups python3 -c \
        'import socket, sys; socket.socket(socket.AF_UNIX).connect("/run/stockade/" + sys.argv[1])' "$2"
}
