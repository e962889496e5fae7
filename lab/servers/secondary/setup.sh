# The first transfer may have come before the primary listened; it is not left to the retry time.
for attempt in $(seq 60); do
  [[ -n "$(dig +short +time=1 +tries=1 @127.0.0.1 {{ domain }} SOA)" ]] && break
  rndc retransfer {{ domain }} 2>/dev/null || true
  sleep 0.5
done
[[ -n "$(dig +short @127.0.0.1 {{ domain }} SOA)" ]]
