#!/usr/bin/env bash
# A JobQueue client: reads a job as a line of JSON, runs it, and writes its outcome as a line, before it reads the next.
#
# Whatever can happen to a job is a line on one pipe, in the order in which it happens: what redis-cli says about the
# subscription, what another one says about the push, and the word "timeout".
set -u
source settings.sh
channel=$queue:results:$(uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid) # client.channel.name

# One jq for all jobs, since starting it costs more than everything else about a job. Disowned, it isn't in `jobs`.
coproc jq {
  exec jq --raw-output --compact-output --unbuffered -L . --arg channel "$channel" \
    'include "messages"; try turn($channel) catch ""' # client.ignore.malformed: whatever is published there
}
disown

# `--no-raw` shows a number as "(integer) 1", an error as "(error) …", and a string in quotes, on one line.
subscribe() {
  "${redis[@]}" --no-raw SUBSCRIBE "$channel" >&"$events" 2>&1 &
}

# Only what goes wrong is said: redis-cli writes a long message in several pieces, and "(integer) 1" could come between them.
push() {
  "${redis[@]}" --no-raw -x LPUSH "$queue" < <(printf %s "$job") \
    > >(while read -r said; do [[ $said == '(integer)'* ]] || printf '%s\n' "$said"; done >&"$events") 2>&1 &
}

start_timer() { # A read without an answer is a sleep that needs no program, and ends with its shell.
  {
    read -rt "$seconds" <> <(:)
    echo timeout
  } >&"$events" &
}

end_all() { # Ends what is left of a job: its subscription, its timer.
  # shellcheck disable=SC2046 # one argument for each process
  kill $(jobs -rp) 2>/dev/null
}
trap end_all EXIT

unquote() { # Makes of a string, as redis-cli shows it, its text on one line, in $text.
  text=${1#*\"}
  text=${text%\"}
  # shellcheck disable=SC1003 # two backslashes and no quote
  text=${text//'\\'/'\134'}   # every backslash that is left begins an escape, and printf knows them all
  text=${text//'\n'/'\r'}     # JSON reads a carriage return where a newline was,
  text=${text//'\x00'/'\001'} # and refuses \001, which stands for the NUL that bash can't hold
  # shellcheck disable=SC2059 # the text is the format, on purpose
  printf -v text -- "${text//%/%%}"
}

not_queued='{"error":{"code":"not-queued","message":"it was not pushed"}}'
connection_lost='{"error":{"code":"connection-lost","message":"it may have run"}}'

handle() { # Takes an event into account: changes $state, and sets $outcome where it settles the job.
  case $1 in
    '3) (integer)'*) # the third line of the reply to SUBSCRIBE
      if [[ $state == subscribing ]]; then
        state=pushed # client.subscribe.before-push
        push
      fi
      ;;
    timeout | '3) "'*timeout) # also where it has come into the middle of a message
      outcome='{"timeout":true}'
      ;;
    '3) "'*) # the third line of a message
      unquote "$1"
      quote "$text"
      printf '[%s,null,%s]\n' "$id" "$quoted" >&"${jq[1]}"
      read -r outcome <&"${jq[0]}" || exit
      ;;
    Could* | Error* | '(error)'*) # couldn't connect; lost the connection; was refused
      if [[ $state == subscribing || ($state == pushed && $1 != Error*) ]]; then
        outcome=$not_queued
      elif [[ $seconds == - ]]; then
        outcome=$connection_lost
      else
        state=lost # client.lost.waits
        sleep 0.1
        subscribe
      fi
      ;;
  esac
}

id=0
while IFS= read -r line || [[ $line ]]; do
  id=$((id + 1))
  printf '[%s,%s]\n' "$id" "$line" >&"${jq[1]}" # quoted by bash, a MiB would take a minute
  read -r seq seconds job <&"${jq[0]}" || exit

  exec {events}<> <(:) # a pipe without a name, both of its ends: late words about another job don't come here
  state=subscribing
  subscribe
  [[ $seconds == - ]] || start_timer
  outcome=''
  while [[ ! $outcome ]] && read -r event <&"$events"; do
    handle "$event"
  done
  end_all
  exec {events}>&-

  printf '{"seq":%s,%s\n' "$seq" "${outcome#\{}"
done
