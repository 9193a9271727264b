#!/bin/sh
# Checks with a POSIX shell and openssl that a statement is in the audit log: sh verify-log.sh ev/ID.tlog-proof
# The checkpoint in the proof is signed by keys/log.pem, and the hashes lead from the statement's entry to its root (RFC 9162, 2.1.3.2).
set -eu
export LC_ALL=C
f=${1#./}; id=${f#ev/}; id=${id%.tlog-proof}
fail() { printf 'FAILED: %s: %s\n' "$f" "$*" >&2; exit 3; }
sha256() { openssl dgst -sha256 -binary; }
w=$(mktemp -d); trap 'rm -rf "$w"' EXIT
[ "$(sed -n 1p "$f")" = c2sp.org/tlog-proof@v1 ] || fail "is no proof"
sed '1,/^$/d' "$f" > "$w/note"; sed -n 1,3p "$w/note" > "$w/text"
sed -n 5p "$w/note" | sed 's/.* //' | openssl base64 -d -A | tail -c +5 > "$w/sig"
openssl pkeyutl -verify -pubin -inkey keys/log.pem -rawin -in "$w/text" -sigfile "$w/sig" > /dev/null 2>&1 || fail "its checkpoint is not signed by keys/log.pem"
at=$(sed -n '2s/^index //p' "$f"); last=$(($(sed -n 2p "$w/text") - 1))
[ "$at" -le "$last" ] || fail "the log has no such entry"
pae=$(openssl dgst -sha256 -r "ev/$id.pae" | cut -c1-64)
printf '\000{"ev":"%s","pae":"sha256:%s"}' "$id" "$pae" | sha256 > "$w/hash"
for sibling in $(sed -n '3,/^$/p' "$f"); do
    [ "$last" -gt 0 ] || fail "has too many hashes"
    printf %s "$sibling" | openssl base64 -d -A > "$w/sibling"
    if [ $((at % 2)) -eq 1 ] || [ "$at" -eq "$last" ]; then
        { printf '\001'; cat "$w/sibling" "$w/hash"; } | sha256 > "$w/next"
        while [ $((at % 2)) -eq 0 ] && [ "$at" -ne 0 ]; do at=$((at / 2)); last=$((last / 2)); done
    else
        { printf '\001'; cat "$w/hash" "$w/sibling"; } | sha256 > "$w/next"
    fi
    mv "$w/next" "$w/hash"; at=$((at / 2)); last=$((last / 2))
done
[ "$last" -eq 0 ] && [ "$(openssl base64 -A < "$w/hash")" = "$(sed -n 3p "$w/text")" ] || fail "its hashes do not lead from the statement to the signed root"
