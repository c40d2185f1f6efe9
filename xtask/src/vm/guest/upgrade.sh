# Scraped by Debian's Prometheus, and replaced by a newer package. Read by `service.sh`.

cat >/tmp/prometheus.yml <<PROMETHEUS
global: { scrape_interval: 5s, evaluation_interval: 5s }
rule_files: ['$PWD/docs/prometheus/rules.yml']
scrape_configs:
  - job_name: stockade
    static_configs: [{ targets: ['127.0.0.1:9464'] }]
PROMETHEUS
systemd-run --quiet --unit=scraper prometheus --config.file=/tmp/prometheus.yml \
    --storage.tsdb.path=/tmp/prometheus --web.listen-address=127.0.0.1:9090
query() { curl -sS "http://127.0.0.1:9090/api/v1/$1"; }
scraped() { query 'query?query=up' | grep -q '"stockade".*"1"\]'; }
# A rule that has not been tried yet is `unknown`.
rules_work() { same '"health":"ok"' "$(query rules | grep -o '"health":"[a-z]*"' | sort -u)"; }

check "prometheus scrapes the agent" within 180 scraped
check "and its rules can be reckoned" within 60 rules_work

pid=$(main_pid)
probe_begin
check "an upgrade" dpkg -i "$new"
check "brings the new version" version_is "$new_version"
check "and its agent" new_agent "$pid"
check "without a gap in the fence" probe_end
check "under the same links as at first" same "$before" "$(links)"
check "with the operator's policies" reaches 8080
check "from the old version" differs "$old_version" "$new_version"

# As an upgrade finds them whose programs share no maps with those before.
check "the agent stops before it meets another version's hooks" systemctl stop stockade.service
mv /sys/fs/bpf/stockade/v[0-9]* /sys/fs/bpf/stockade/v0
probe_begin
check "and starts beside them" systemctl start stockade.service
check "they are taken off" not test -e /sys/fs/bpf/stockade/v0
check "without a gap either" probe_end
check "its own links are others" differs "$before" "$(links)"
check "and all there" pinned
check "a tool runs under them" reaches 8080
