#!/bin/sh
# Redis as docs/redis.md asks for it: the users with the password of the secret, nothing evicted, all of it on disk.
set -eu
umask 077
password=$(cat /run/secrets/store_password)
sed "s/>PASSWORD/>${password}/" /usr/local/etc/redis/users.acl > /run/redis/users.acl
exec redis-server --aclfile /run/redis/users.acl --dir /data --maxmemory-policy noeviction \
    --appendonly yes --appendfsync everysec
