#!/bin/sh
# Healthy is what the server itself would get: its user may read.
set -eu
REDISCLI_AUTH=$(cat /run/secrets/store_password)
export REDISCLI_AUTH
test "$(redis-cli --user server --no-auth-warning exists arbiter:healthy)" = 0
