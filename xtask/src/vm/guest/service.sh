#!/bin/sh
# A package's life on a Debian with systemd: `service.sh OLD.deb NEW.deb OLD-VERSION NEW-VERSION`.
# Each check is a line; the last line counts them as cargo's tests do.
set -u
old=$1 new=$2 old_version=$3 new_version=$4
slice=/sys/fs/cgroup/stockade.slice/stockade-workers.slice
policies=/etc/stockade/policies.d
passed=0 failed=0

check() {
    name=$1
    shift
    if "$@" >/tmp/check.log 2>&1; then
        passed=$((passed + 1))
        echo "ok: $name"
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
        sed 's/^/    /' /tmp/check.log
        journalctl -q --no-pager -n 15 -u 'stockade*' -o short-monotonic | sed 's/^/    /'
    fi
}

# Until the command succeeds, for at most this many seconds.
within() {
    seconds=$1
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

cat >/tmp/probe.py <<'PROBE'
# In the fenced slice, known to no session: nothing may open, agent or no agent.
import errno, socket, sys, time
end = time.monotonic() + float(sys.argv[1])
refused = opened = other = 0
while time.monotonic() < end:
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
    time.sleep(0.05)
print("refused", refused, "opened", opened, "other", other)
sys.exit(0 if refused > 10 and opened == 0 and other == 0 else 1)
PROBE
probe_begin() {
    systemctl reset-failed probe.service 2>/dev/null
    systemd-run --quiet --unit=probe --slice=stockade-workers.slice -p RemainAfterExit=yes python3 /tmp/probe.py "$1"
}
probe_is_over() { [ "$(systemctl show -p SubState --value probe.service)" != running ]; }
probe_end() {
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

mkdir -p /tmp/www
for port in 8080 8081; do
    python3 -m http.server --bind 127.0.0.1 --directory /tmp/www "$port" >/dev/null 2>&1 &
done

check "the package installs" dpkg -i "$old"
check "agent, holder and sockets run" active stockade.service stockade-workers.service stockade-resolver.socket stockade-broker.socket
check "status finds nothing wrong" stockade status
check "systemd shows how the agent is" sh -c "systemctl show -p StatusText stockade | grep -q 'policies'"
check "the configuration denies by default" sh -c "stockade status --json | grep -q 'default'"
check "doctor" stockade doctor
check "the hooks are on the slice" hooks
check "sessions live in the delegated service" sh -c "stockade status --json | grep -q 'stockade-workers.slice/stockade-workers.service'"
check "the holder has a place of its own" sh -c "grep -q '/stockade-workers.service/holder$' /proc/$(main_pid stockade-workers.service)/cgroup"
check "the resolver's port is the socket unit's" sh -c "stockade status --json | grep -q '\"port\": 599'"
check "every thread of the agent is confined" confined
check "callers reach the broker's socket" connects stockade broker.sock
check "and not the control socket" not connects stockade control.sock
check "which is the operators'" connects stockade-admin control.sock
check "its launcher is not" launcher_is_free

cat >"$policies/probe.toml" <<'POLICY'
version = 1
tool = "probe"
description = "Reaches one port"
[worker]
command = ["/usr/bin/curl"]
protocol = "exec"
[[local.allow]]
tcp = "127.0.0.1:8080"
[filesystem]
read = ["/usr", "/etc/ld.so.cache"]
execute = ["/usr/bin"]
POLICY
sed -e 's/probe/nap/; s,/usr/bin/curl,/usr/bin/sleep,' "$policies/probe.toml" >"$policies/nap.toml"
check "a reload puts policies in force" systemctl reload stockade
check "both ports are open to the host" sh -c "$(command -v curl) -sf http://127.0.0.1:8080/ && curl -sf http://127.0.0.1:8081/"
check "a tool reaches what its policy names" reaches 8080
check "and nothing else" not reaches 8081
grep -qw memory /sys/fs/cgroup/cgroup.controllers &&
    check "a limit is enforced by a controller" sh -c "stockade run nap -- 4 & sleep 2; cat $slice/stockade-workers.service/session-*/memory.max | grep -vq max; result=\$?; wait; exit \$result"
echo 'oops = 1' >"$policies/bad.toml"
check "a bad policy fails the reload" not systemctl reload stockade
check "and changes nothing" reaches 8080
check "and shows in the status" not stockade status
rm "$policies/bad.toml"
check "without it the reload is well" systemctl reload stockade

before=$(links)
pid=$(main_pid)
check "a restart" systemctl restart stockade
check "is of the agent" differs "$pid" "$(main_pid)"
check "and leaves the links where they are" same "$before" "$(links)"
check "a tool runs after it" reaches 8080

pid=$(main_pid)
probe_begin 25
kill -KILL "$pid"
check "a killed agent is started again" within 120 new_agent "$pid"
check "meanwhile the fence stands" probe_end
check "the same links are there" same "$before" "$(links)"
check "a tool runs after that" reaches 8080

pid=$(main_pid)
probe_begin 60
kill -STOP "$pid"
check "a stopped agent is noticed and started again" within 180 new_agent "$pid"
check "the watchdog did it" sh -c "journalctl -q -u stockade.service | grep -q 'Watchdog timeout'"
check "meanwhile the fence stood" probe_end
check "a tool runs after it too" reaches 8080

pid=$(main_pid)
kill -KILL "$(main_pid stockade-workers.service)"
check "a killed holder brings a new agent" within 180 new_agent "$pid"
check "whose tools run" reaches 8080
check "under the same links" same "$before" "$(links)"

(stockade run nap -- 8; echo $? >/tmp/nap.code) &
sleep 4
check "a stop" systemctl stop stockade.service
check "lets a session come to its end" within 20 grep -qx 0 /tmp/nap.code
check "and leaves the hooks" hooks
probe_begin 5
check "that refuse" probe_end
check "the outside goes on" plain 8080
check "the audit log is whole" stockade audit verify
check "a start" systemctl start stockade.service

check "prometheus reads the metrics" sh -c "curl -sf http://127.0.0.1:9464/metrics | promtool check metrics"
check "the health page is well" curl -sf http://127.0.0.1:9464/healthz

pid=$(main_pid)
probe_begin 60
check "an upgrade" dpkg -i "$new"
check "brings the new version" version_is "$new_version"
check "and its agent" new_agent "$pid"
check "without a gap in the fence" probe_end
check "under the same links as at first" same "$before" "$(links)"
check "with the operator's policies" reaches 8080
check "from the old version" differs "$old_version" "$new_version"

check "the package is removed" dpkg -r stockade
check "nothing of it runs or fences" nothing_left
check "configuration and journal stay" test -e /etc/stockade/stockade.toml -a -e "$policies/probe.toml" -a -e /var/lib/stockade
check "it is installed again" dpkg -i "$new"
check "and runs as before" reaches 8080
check "it is purged" dpkg -P stockade
check "nothing is left at all" nothing_at_all

word=ok
[ "$failed" -eq 0 ] || word=FAILED
echo "test result: $word. $passed passed; $failed failed; 0 ignored"
[ "$failed" -eq 0 ]
