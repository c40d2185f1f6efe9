# Fences around units of systemd that the agent does not start. Read by `service.sh`.

# Tries two places again and again, and writes what came of it, a line each time.
cat >/tmp/fetch.py <<'FETCH'
import errno, socket, sys, time
def ask(place):
    host, port = place.split(":")
    try:
        with socket.socket() as s:
            s.settimeout(5)
            s.connect((host, int(port)))
        return "open"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
while True:
    print(*map(ask, sys.argv[1:]), flush=True)
    time.sleep(0.2)
FETCH
places='127.0.0.1:8080 127.0.0.1:8081'

# A unit that runs it as somebody; more lines for it come as arguments.
unit() {
    local name=$1
    shift
    printf '%s\n' '[Service]' 'User=daemon' "StandardOutput=truncate:/run/$name.seen" \
        "ExecStart=/usr/bin/python3 /tmp/fetch.py $places" "$@" >"/run/systemd/system/$name.service"
    systemctl daemon-reload
}
# The document's drop-in of this number, as an operator copies it.
drop_in() {
    mkdir -p "/run/systemd/system/$1.service.d"
    awk -v want="$2" '/^```/ { inside = !inside && $0 == "```ini" && ++block == want; next } inside' \
        docs/attach.md >"/run/systemd/system/$1.service.d/fence.conf"
    systemctl daemon-reload
    grep ExecStartPre "/run/systemd/system/$1.service.d/fence.conf"
}

lines() { wc -l <"/run/$1.seen"; }
longer() { [ "$(lines "$1")" -ge "$2" ]; }
# What the unit says next. Of two tries the first one may have begun before.
says() {
    within 60 longer "$1" $(($(lines "$1") + 2)) || { echo "$1 says nothing"; return 1; }
    same "$2" "$(tail -n 1 "/run/$1.seen")"
}
fenced() { says "$1" "open EPERM"; }
is_free() { says "$1" "open open"; }
mark() { marked=$(lines "$1"); }
# All that it has said since the mark, and what it says next.
fenced_since() { fenced "$1" && same "open EPERM" "$(tail -n +$((marked + 1)) "/run/$1.seen" | sort -u)"; }
fenced_from_the_first() { marked=0 && fenced_since "$1"; }
inode() { stat -c %i "/sys/fs/cgroup/system.slice/$1.service"; }
known() { stockade sessions --json | grep -q "$1"; }
counted() { curl -sS http://127.0.0.1:9464/metrics | grep -E "^stockade_attach_refused_total\{.*\"$1\".*\} [1-9]"; }
capless='CapabilityBoundingSet=~CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_SYS_ADMIN'

cat >"$policies/weather.toml" <<'POLICY'
version = 1
tool = "weather"
description = "A unit of systemd that reaches one port"
[[local.allow]]
tcp = "127.0.0.1:8080"
POLICY
check "a policy for units comes into force" systemctl reload stockade

unit bare
systemctl start bare
check "a unit is free" within 60 is_free bare
check "one that keeps capabilities is refused" sh -c 'stockade attach --policy weather --unit bare.service 2>&1 | grep CAP_NET_RAW'
check "and counted" counted holes
check "and stays free" is_free bare
check "unless it may be weak" sh -c 'stockade attach --weak --policy weather --unit bare.service | grep "weak: .*CAP_NET_RAW"'
check "which fences it" fenced bare
check "and shows in the status" sh -c 'stockade status --json | grep -e --weak'
check "it is detached" stockade detach --unit bare.service
check "and free" is_free bare
systemctl stop bare

unit kept "$capless"
systemctl start kept
check "a unit without them is attached" stockade attach --policy weather --unit kept.service
check "and fenced" fenced kept
systemctl restart kept
check "and again when it has restarted" within 30 fenced kept
mark kept
check "the agent stops" systemctl stop stockade.service
check "and the fence stays" fenced_since kept
check "the agent starts" systemctl start stockade.service
check "and knows the unit" known kept.service
pid=$(main_pid)
kill -KILL "$pid"
check "a killed agent comes back" within 180 new_agent "$pid"
check "and the fence has stood all the time" fenced_since kept
check "to detach is what opens it" stockade detach --unit kept.service
check "and it does" is_free kept
systemctl stop kept

unit weather-fetch
check "the documented drop-in" drop_in weather-fetch 1
check "starts the unit" systemctl start weather-fetch
check "behind its fence from the first step" fenced_from_the_first weather-fetch
cgroup=$(inode weather-fetch)
check "and again" systemctl restart weather-fetch
check "in another cgroup" differs "$cgroup" "$(inode weather-fetch)"
check "from the first step" fenced_from_the_first weather-fetch
pid=$(main_pid weather-fetch.service)
check "the agent restarts" systemctl restart stockade.service
check "alone" same "$pid" "$(main_pid weather-fetch.service)"
check "and the unit stays fenced" fenced_from_the_first weather-fetch
systemctl stop weather-fetch
check "a unit that has ended is detached" stockade detach --unit weather-fetch.service

printf '[match]\nunits = ["match-*.service"]\n' >>"$policies/weather.toml"
unit match-a "$capless"
unit match-b "$capless"
systemctl start match-a
check "a unit is free before a policy names it" within 60 is_free match-a
check "which it does now" systemctl reload stockade
check "and it is fenced" within 30 fenced match-a
systemctl start match-b
check "and one that comes" within 30 fenced match-b
systemctl restart match-b
check "and comes again" within 30 fenced match-b
check "it is not detached by hand" not stockade detach --unit match-a.service
mark match-a
check "the agent restarts again" systemctl restart stockade.service
check "and its fence has stood" fenced_since match-a
sed -i '/^\[match\]/,$d' "$policies/weather.toml"
check "the policy names it no more" systemctl reload stockade
check "and it is free again" within 30 is_free match-a
systemctl stop match-a match-b

ip netns add world
ip link add world0 type veth peer name world1 netns world
ip addr add 185.199.110.1/24 dev world0 && ip link set world0 up
ip -n world addr add 185.199.110.7/24 dev world1 && ip -n world link set world1 up
ip netns exec world python3 -m http.server --bind 185.199.110.7 --directory /tmp/www 8443 >/dev/null 2>&1 &
printf 'version = 1\ntool = "weather"\ndescription = "Observed"\nmode = "observe"\n' >"$policies/weather.toml"
check "a policy observes" systemctl reload stockade
places='185.199.110.7:8443 127.0.0.1:8081'
unit weather-fetch
check "the documented line" drop_in weather-fetch 2
check "starts a unit as it is" systemctl start weather-fetch
check "that is refused the host alone" fenced weather-fetch
mark weather-fetch
# A fence around what keeps capabilities closes after two seconds.
sleep 5
check "for as long as it runs" fenced_since weather-fetch
check "and its policy is proposed" sh -c 'stockade policy suggest weather | grep 185.199.110.7'
systemctl stop weather-fetch
check "and detached" stockade detach --unit weather-fetch.service
rm -r /run/systemd/system/weather-fetch.service.d
