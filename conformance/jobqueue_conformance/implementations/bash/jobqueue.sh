# `bash jobqueue.sh server|client`. Bash can't hold every byte, so a server's messages stay in Redis: a script finds one by its
# SHA-1, publishes, removes it by its bytes, and returns the oldest left, or claims one. A client hears of all that happens on one pipe.
type -P redis-cli jq >/dev/null || { echo 'redis-cli or jq is missing' >&2; exit 69; }
export LC_ALL=C; queue=${JOBQUEUE_QUEUE:-job-queue} redis=(redis-cli -u "${REDIS_URL:-redis://localhost:6379}" --no-auth-warning)
if [[ $1 == server ]]; then list=${JOBQUEUE_IN_PROCESS:-$queue:in-process:${JOBQUEUE_PROCESSOR:-$HOSTNAME}}; trap stop=1 TERM INT
  script='local call, list = redis.call, KEYS[1] if ARGV[3] ~= "\n" then call("publish", unpack(cjson.decode(ARGV[3]))) end
    for _, job in ipairs(call("lrange", list, 0, -1)) do if redis.sha1hex(job) == ARGV[1] then if ARGV[3] == "\n" then
    call("lpush", KEYS[2], job) end call("lrem", list, -1, job) break end end local job = call("lrange", list, -1, -1)[1] or ARGV[2] == ""
    and call("lmove", KEYS[3], list, "RIGHT", "LEFT") return job and {redis.sha1hex(job), (job:gsub("\n", "\r"):gsub("%z", "\1"))}'
  coproc jq { exec jq -Rr --unbuffered -L . --arg prefix "$JOBQUEUE_CHANNEL_PREFIX" 'include "jobqueue"; try answer($prefix) catch "0 "'; }
  while mapfile -t found < <("${redis[@]}" -x EVAL "$script" 3 "$list" "$queue:dead" "$queue" "$sha" "$stop" <<<"$reply" 2>&1); do
  case $found in # server.claim.atomic, server.remove.exact-bytes: by the script. server.stop.drains: a trap waits for the foreground's command
    '') sha='' reply=''; [[ ! $stop ]] || exit 0; "${redis[@]}" BLMOVE "$queue" "$list" RIGHT LEFT 1 >/dev/null ;;
    *[!0-9a-f]*) [[ $found != *NOPERM* && $found != *"can't publish"* && $found != *'No permissions'* ]] || reply=''; sleep .2 ;; # server.publish.again, .noperm
    *) sha=$found; printf '%s\n' "${found[1]}" >&"${jq[1]}"; read -r seconds reply <&"${jq[0]}" || exit; [[ $seconds == 0 ]] || sleep "$seconds" ;;
  esac; done; else channel=$queue:results:$(uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid); trap 'kill $(jobs -rp) 2>/dev/null' EXIT
  coproc jq { exec jq -Rrc --unbuffered -L . --arg channel "$channel" 'include "jobqueue"; try turn($channel) catch ""'; }; disown
  subscribe() { "${redis[@]}" --no-raw SUBSCRIBE "$channel" >&"$events" 2>&1 & }
  while IFS= read -r line || [[ $line ]]; do id=$((id + 1)) pushed='' outcome=''; kill $(jobs -rp) 2>/dev/null; exec {events}<> <(:); subscribe
    printf '>%s %s\n' "$id" "$line" >&"${jq[1]}"; read -r seq seconds job <&"${jq[0]}" || exit
    [[ $seconds == - ]] || { read -rt "$seconds" <> <(:); echo timeout; } >&"$events" & # client.timeout.local
    while [[ ! $outcome ]] && read -r event <&"$events"; do case $pushed$event in
      '3) (integer)'*) pushed=1; "${redis[@]}" --no-raw -x LPUSH "$queue" < <(printf %s "$job") >&"$events" 2>&1 & ;; # client.subscribe.before-push
      *'3) "'*) event=${event#*\"} event=${event%\"}; event=${event//'\\'/'\134'}; event=${event//'\n'/'\r'}; event=${event//'\x00'/'\001'}
        printf -v event -- "${event//%/%%}"; printf '<%s %s\n' "$id" "$event" >&"${jq[1]}"; read -r outcome <&"${jq[0]}" || exit ;;
      *timeout) outcome='{"timeout":true}' ;;
      [CE]* | '(error)'* | '1(error)'*) outcome='{"error":{"code":"not-queued","message":"it was not pushed"}}' ;;
      1[CE]* | 2[CE\(]*) [[ $seconds != - ]] || outcome='{"error":{"code":"connection-lost","message":"it may have run"}}'; pushed=2; sleep .1; subscribe ;;
    esac; done; exec {events}>&-; printf '{"seq":%s,%s\n' "$seq" "${outcome:1}"; done; fi
