# An agent that is killed. Read by `service.sh`.

pid=$(main_pid)
probe_begin
kill -KILL "$pid"
check "a killed agent is started again" within 180 new_agent "$pid"
check "meanwhile the fence stands" probe_end
check "the same links are there" same "$before" "$(links)"
check "a tool runs after that" reaches 8080
