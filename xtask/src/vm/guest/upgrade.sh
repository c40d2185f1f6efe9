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

check "the text of the metrics is as prometheus wants it" sh -c "curl -sf http://127.0.0.1:9464/metrics | promtool check metrics"
check "prometheus scrapes the agent" within 180 scraped
check "and its rules can be reckoned" within 60 rules_work
check "the health page is well" curl -sf http://127.0.0.1:9464/healthz

pid=$(main_pid)
probe_begin
check "an upgrade" dpkg -i "$new"
check "brings the new version" version_is "$new_version"
check "and its agent" new_agent "$pid"
check "without a gap in the fence" probe_end
check "under the same links as at first" same "$before" "$(links)"
check "with the operator's policies" reaches 8080
check "from the old version" differs "$old_version" "$new_version"
