# Removed, and installed again. Read by `service.sh`.

check "the package is removed" dpkg -r stockade
check "nothing of it runs or fences" nothing_left
check "configuration and journal stay" test -e /etc/stockade/stockade.toml -a -e "$policies/probe.toml" -a -e /var/lib/stockade
check "it is installed again" dpkg -i "$new"
check "and runs as before" reaches 8080
