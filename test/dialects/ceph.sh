#!/usr/bin/env bash
# A Ceph RADOS Gateway on 127.0.0.1:$2 with one monitor and one OSD in memory, all below the folder $1. Ends with it.
# Debian: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common
set -euo pipefail
dir=$1 port=$2 access=$3 secret=$4
mon_port=$((port + 1))
mkdir -p "$dir"/{mon,osd,run}
cat >"$dir/ceph.conf" <<CONF
[global]
fsid = 5f4d8f64-6c1c-4f6b-9f3e-1d9a6e9f0a11
mon host = [v2:127.0.0.1:$mon_port]
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
osd crush chooseleaf type = 0
mon max pg per osd = 1000
osd objectstore = memstore
memstore device bytes = 2147483648
run dir = $dir/run
admin socket = $dir/run/\$name.asok
log file = $dir/run/\$name.log
pid file =
[mon.a]
mon data = $dir/mon
[osd.0]
osd data = $dir/osd
[client]
rgw frontends = beast endpoint=127.0.0.1:$port
rgw dns name = localhost
rgw max bucket index ops = 0
CONF
export CEPH_CONF=$dir/ceph.conf
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
monmaptool --create --addv a "[v2:127.0.0.1:$mon_port]" --fsid 5f4d8f64-6c1c-4f6b-9f3e-1d9a6e9f0a11 "$dir/monmap" >/dev/null
ceph-mon -i a --mkfs --monmap "$dir/monmap" -c "$CEPH_CONF"
ceph-mon -i a -f -c "$CEPH_CONF" >"$dir/run/mon.out" 2>&1 &
uuid=$(cat /proc/sys/kernel/random/uuid)
timeout 60 ceph -c "$CEPH_CONF" osd new "$uuid" 0 >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$uuid" -c "$CEPH_CONF" >"$dir/run/osd-mkfs.out" 2>&1
ceph -c "$CEPH_CONF" osd crush add osd.0 1.0 host=here root=default >/dev/null 2>&1
ceph-osd -i 0 -f -c "$CEPH_CONF" >"$dir/run/osd.out" 2>&1 &
for _ in $(seq 120); do ceph -c "$CEPH_CONF" osd stat | grep -q '1 up' && break; sleep 0.5; done
radosgw-admin -c "$CEPH_CONF" user create --uid=test --display-name=test --access-key="$access" --secret-key="$secret" >/dev/null
radosgw -f -n client.admin --auth-client-required=none --ms-mon-client-mode=crc -c "$CEPH_CONF" >"$dir/run/rgw.out" 2>&1 &
wait -n
echo "a part of ceph ended, see $dir/run" >&2
exit 1
