#!/bin/sh
# A package's life on a Debian with systemd: `service.sh whole OLD.deb OLD-VERSION NEW.deb NEW-VERSION`,
# or the core of it: `service.sh core DEB VERSION`. Each check is a line; the last line counts them as
# cargo's tests do.
set -u
extent=$1 old=$2 old_version=$3 new=${4-} new_version=${5-}
here=$(dirname "$0")
. "$here/checks.sh"

mkdir -p /tmp/www
for port in 8080 8081; do
    python3 -m http.server --bind 127.0.0.1 --directory /tmp/www "$port" >/dev/null 2>&1 &
done

# Loading the programs takes an emulated processor a minute, and longer where its host has other work:
# the host's limit is the one that counts.
mkdir -p /run/systemd/system/stockade.service.d
printf '[Service]\nTimeoutStartSec=infinity\n' >/run/systemd/system/stockade.service.d/slow.conf

check "the package installs" dpkg -i "$old"
check "agent, holder and sockets run" active stockade.service stockade-workers.service stockade-resolver.socket stockade-broker.socket
check "status finds nothing wrong" stockade status
check "systemd shows how the agent is" sh -c "systemctl show -p StatusText stockade | grep -q 'policies'"
check "the policy that comes along is in force" sh -c "stockade status --json | grep -q '\"default\"'"
check "and reaches nothing" says_no stockade policy explain "$policies/default.toml" 1.1.1.1:443
check "the examples that come along are right" stockade policy check /usr/share/doc/stockade/examples/policies
[ "$extent" = core ] || check "doctor" stockade doctor
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

check "the text of the metrics is as prometheus wants it" sh -c "curl -sf http://127.0.0.1:9464/metrics | promtool check metrics"
check "the health page is well" curl -sf http://127.0.0.1:9464/healthz

before=$(links)
check "the links of the hooks are pinned" pinned

. "$here/kill.sh"
if [ "$extent" = whole ]; then
    . "$here/crash.sh"
    . "$here/attach.sh"
    . "$here/upgrade.sh"
    . "$here/remove.sh"
fi

check "it is purged" dpkg -P stockade
check "nothing is left at all" nothing_at_all

word=ok
[ "$failed" -eq 0 ] || word=FAILED
echo "test result: $word. $passed passed; $failed failed; 0 ignored"
[ "$failed" -eq 0 ]
