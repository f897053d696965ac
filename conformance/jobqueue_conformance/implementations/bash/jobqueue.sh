# `bash jobqueue.sh server|client`. Bash can't hold every byte, so a server's messages stay in Redis: a script finds one by its
# SHA-1, publishes, removes it by its bytes, and returns the oldest one left. A client hears of all that happens on one pipe.
type -P redis-cli jq >/dev/null || { echo 'redis-cli or jq is missing' >&2; exit 69; }
export LC_ALL=C; queue=${JOBQUEUE_QUEUE:-job-queue} redis=(redis-cli -u "${REDIS_URL:-redis://localhost:6379}" --no-auth-warning)
if [[ $1 == server ]]; then list=${JOBQUEUE_IN_PROCESS:-$queue:in-process:${JOBQUEUE_PROCESSOR:-$HOSTNAME}}
  script='if ARGV[2] ~= "\n" then redis.call("publish", unpack(cjson.decode(ARGV[2]))) end
    for _, job in ipairs(redis.call("lrange", KEYS[1], 0, -1)) do if redis.sha1hex(job) == ARGV[1] then -- server.remove.exact-bytes
      if ARGV[2] == "\n" then redis.call("lpush", KEYS[2], job) end redis.call("lrem", KEYS[1], -1, job) break end end
    local job = redis.call("lrange", KEYS[1], -1, -1)[1] return job and {redis.sha1hex(job), (job:gsub("\n", "\r"):gsub("%z", "\1"))}'
  coproc jq { exec jq -Rr --unbuffered -L . --arg prefix "$JOBQUEUE_CHANNEL_PREFIX" 'include "jobqueue"; try answer($prefix) catch "0 "'; }
  trap stop=1 TERM INT # server.stop.drains: a trap waits for the command in the foreground
  while mapfile -t found < <("${redis[@]}" -x EVAL "$script" 2 "$list" "$queue:dead" "$sha" <<<"$reply" 2>&1); do case $found in
    '') sha='' reply=''; [[ ! $stop ]] || exit 0; "${redis[@]}" BLMOVE "$queue" "$list" RIGHT LEFT 1 >/dev/null ;; # server.claim.atomic
    *[!0-9a-f]*) [[ $found != *NOPERM* && $found != *"can't publish"* && $found != *'No permissions'* ]] || reply=''; sleep .2 ;; # server.publish.again, .noperm
    *) sha=$found; printf '%s\n' "${found[1]}" >&"${jq[1]}"; read -r seconds reply <&"${jq[0]}" || exit; [[ $seconds == 0 ]] || sleep "$seconds" ;;
  esac; done
else channel=$queue:results:$(uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid)
  trap 'kill $(jobs -rp) 2>/dev/null' EXIT
  subscribe() { "${redis[@]}" --no-raw SUBSCRIBE "$channel" >&"$events" 2>&1 & }
  while IFS= read -r line || [[ $line ]]; do id=$((id + 1)) pushed='' outcome=''; kill $(jobs -rp) 2>/dev/null; exec {events}<> <(:); subscribe
    mapfile -t call < <(jq -c --arg channel "$channel" --arg id "$id" '.seq, {method, parameters, $channel, $id}, (.timeout_ms | values / 1000)' <<<"$line")
    [[ ! ${call[2]} ]] || { read -rt "${call[2]}" <> <(:); echo timeout; } >&"$events" & # client.timeout.local
    while [[ ! $outcome ]] && read -r event <&"$events"; do case $pushed$event in
      '3) (integer)'*) pushed=1; "${redis[@]}" --no-raw -x LPUSH "$queue" < <(printf %s "${call[1]}") >&"$events" 2>&1 & ;; # client.subscribe.before-push
      *'3) "'*) outcome=$(printf -- "$(sed 's/^3) "//; s/"$//; s/%/%%/g' <<<"$event")" | jq -Rsc -L . --arg id "$id" 'include "jobqueue"; outcome($id)') ;;
      *timeout) outcome='{"timeout":true}' ;;
      [CE]* | '(error)'* | '1(error)'*) outcome='{"error":{"code":"not-queued","message":"it was not pushed"}}' ;;
      1[CE]* | 2[CE\(]*) [[ ${call[2]} ]] || outcome='{"error":{"code":"connection-lost","message":"it may have run"}}'; pushed=2; sleep .1; subscribe ;;
    esac; done; exec {events}>&-; printf '{"seq":%s,%s\n' "${call[0]}" "${outcome:1}"
  done; fi
