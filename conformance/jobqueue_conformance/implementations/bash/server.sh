#!/usr/bin/env bash
# A JobQueue server: takes one message after the other, runs it, publishes its result, and removes it.
#
# Bash drops NUL bytes and trailing newlines, but a removal has to name the exact bytes. So messages stay in Redis, where
# turn.lua finds them by their SHA-1; what comes here is a copy to read.
#
# Nothing else is on the list of a server that runs one job at a time. So recovery is the loop itself: each turn takes what
# is there and claims only where nothing does, after a start, after a lost connection, and once a second when idle.
#
# What lies there at the start has perhaps ended the life before this one. Each of these entries is counted before it runs,
# in Redis, where the count outlives this life; one that was counted too often is given up.
set -u
source settings.sh
list=${JOBQUEUE_IN_PROCESS:-$queue:in-process:${JOBQUEUE_PROCESSOR:-$HOSTNAME}}
turn=$(<turn.lua)
count=$(<count.lua)
limit=${JOBQUEUE_MAX_ATTEMPTS:-3} # 0: nothing is counted, and nothing given up

# A command is given up where Redis doesn't answer (server.connection.silent); what ends the server's group ends it, too.
redis=(timeout --foreground $((${JOBQUEUE_SILENCE_MS:-10000} / 1000)) "${redis[@]}")

# A trap waits until the command in the foreground has ended: a claim's reply is read before the stop is seen.
stop=''
may_claim_late=''
trap 'stop=1 SECONDS=0' TERM INT # bash's own clock

# One jq for all jobs, since starting it costs more than everything else about a job.
coproc jq {
  exec jq --raw-output --unbuffered -L . --arg prefix "${JOBQUEUE_CHANNEL_PREFIX-}" --argjson limit "$limit" \
    'include "messages"; try answer($prefix; $limit) catch "0 "' # server.run.goes-on: whatever a message holds
}

# Finishes $sha by $answer and puts the next message, an error, or nothing into $found. The answer comes by standard input,
# for a command line's arguments are limited. The last line is redis-cli's status.
take_turn() {
  mapfile -t found < <(
    "${redis[@]}" -x EVAL "$turn" 3 "$list" "$queue:dead" "$queue" "$sha" "$stop$recovering" <<<"$answer" 2>&1
    echo $?
  )
  [[ ${found[-1]} == 0 ]] || found=('no whole reply')
}

# A claim blocks for a second. One whose connection is lost can take a job until then, and its reply is never read.
claim() {
  "${redis[@]}" BLMOVE "$queue" "$list" RIGHT LEFT 1 >/dev/null || may_claim_late=1
}

# Waits before Redis is asked again. A stop gives up a Redis that stays away (server.stop.unreachable).
back_off() {
  if [[ $stop ]] && ((SECONDS > 10)); then
    exit 1
  fi
  sleep 0.2
}

# Puts Redis's reply to a command into $reply, its error, too. Asks again until there is one.
ask() {
  until reply=$("${redis[@]}" "$@" 2>&1); do
    back_off
  done
}

is_number() {
  [[ $1 != *[!0-9]* ]]
}

# Counts that this life starts $sha, and puts the count into $starts; 0 where Redis refuses that (server.attempts.refused).
# The reply to a count can be lost. So Redis is told the number before, and counts only where it is still the same.
count_start() {
  local key=$queue:attempts:$sha
  ask GET "$key"
  if is_number "$reply"; then # or nothing: there is no count yet
    ask EVAL "$count" 1 "$key" "$reply"
  fi
  is_number "$reply" && starts=$reply
}

# Does this error say that nothing may be published on that channel? Where PUBLISH itself is forbidden, or EVAL, it speaks of
# the command: that is a mistake of the operator, not of the job (server.publish.forbidden-command).
is_forbidden_channel() {
  [[ $1 == *channel* ]]
}

sha=''
answer=''
recovering=1 # until the list was empty once, nothing is claimed: whatever is found, an earlier life has left
while true; do
  take_turn
  case ${found[0]-} in
    '') # The list is empty, and everything is finished.
      sha=''
      answer=''
      if [[ $recovering ]]; then
        recovering=''
      elif [[ ! $stop ]]; then
        claim # the next turn finds what it takes
      elif [[ $may_claim_late ]]; then
        sleep 1 # until it can't any more
        may_claim_late=''
      else
        exit 0 # server.stop.drains
      fi
      ;;
    *[!0-9a-f]*) # An error, and no SHA-1: the same turn again, until Redis has carried it out (server.publish.again).
      if is_forbidden_channel "${found[0]}"; then
        answer='' # server.publish.noperm
      fi
      back_off
      ;;
    *)
      sha=${found[0]}
      starts=0
      if [[ $recovering && $limit != 0 ]]; then
        count_start
      fi
      if ((starts > limit + 1)); then
        answer='' # server.attempts.unread: perhaps it kills what reads it
      else
        quote "${found[1]}"
        printf '[%s,%s]\n' "$quoted" "$starts" >&"${jq[1]}"
        read -r seconds answer <&"${jq[0]}" || exit
        [[ $seconds == 0 ]] || sleep "$seconds"
      fi
      SECONDS=0 # a stop gives Redis its time from here
      ;;
  esac
done
