# Restarted, hung, without its holder, stopped. Read by `service.sh`.

pid=$(main_pid)
check "a restart" systemctl restart stockade
check "is of the agent" differs "$pid" "$(main_pid)"
check "and leaves the links where they are" same "$before" "$(links)"
check "a tool runs after it" reaches 8080

pid=$(main_pid)
probe_begin
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
probe_begin
check "that refuse" probe_end
check "the outside goes on" plain 8080
check "the audit log is whole" stockade audit verify
check "a start" systemctl start stockade.service
