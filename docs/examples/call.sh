#!/bin/sh
# Calls a tool with curl, without any MCP: call.sh SOCKET KEY TOKEN-FILE RESOURCE
# `stockade call` does the same in one line; this shows what goes over the socket.
set -eu
socket=$1 key=$2 token=$(cat "$3") resource=$4
body='{"tool": "time", "verb": "now", "arguments": {"timezone": "Asia/Tokyo"}}'

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# The public key as a JWK: the last 64 bytes of its DER form are the two coordinates.
point() { openssl pkey -in "$key" -pubout -outform DER | tail -c 64; }
jwk=$(printf '{"kty":"EC","crv":"P-256","x":"%s","y":"%s"}' \
  "$(point | head -c 32 | base64url)" "$(point | tail -c 32 | base64url)")

# An ECDSA signature in DER, as two numbers of 32 bytes each.
raw() {
  openssl asn1parse -inform DER | sed -n 's/.*INTEGER *:\(.*\)/\1/p' |
    while read -r number; do printf '%64s\n' "$number"; done | tr ' ' 0 | fold -w 2 |
    while read -r byte; do printf "\\$(printf %03o "0x$byte")"; done
}

proof() { # NONCE
  header=$(printf '{"typ":"dpop+jwt","alg":"ES256","jwk":%s}' "$jwk" | base64url)
  claims=$(printf '{"jti":"%s","htm":"POST","htu":"%s","iat":%s,"ath":"%s","nonce":"%s"}' \
    "$(openssl rand -hex 16)" "$resource" "$(date +%s)" \
    "$(printf %s "$token" | openssl dgst -sha256 -binary | base64url)" "$1" | base64url)
  signature=$(printf %s "$header.$claims" | openssl dgst -sha256 -sign "$key" -binary | raw | base64url)
  echo "$header.$claims.$signature"
}

call() { # NONCE, more options of curl
  nonce=$1; shift
  curl --silent --unix-socket "$socket" "$@" --header "Authorization: DPoP $token" \
    --header "DPoP: $(proof "$nonce")" --json "$body" http://stockade/v1/calls
}

# The first answer brings the nonce for the second try.
nonce=$(call '' --output /dev/null --dump-header - | tr -d '\r' | sed -n 's/^[Dd][Pp]o[Pp]-[Nn]once: //p')
call "$nonce"
echo
