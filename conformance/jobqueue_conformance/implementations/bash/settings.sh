# What both programs share: the tools they need, and what the environment says. Sourced, never run.
# shellcheck shell=bash disable=SC2034 # who sources it uses the variables

type -P redis-cli jq >/dev/null || {
  echo 'redis-cli or jq is missing' >&2
  exit 69 # "cannot run here": the kit then counts the tests as unsupported
}

export LC_ALL=C # messages are bytes, whatever the user's language
queue=${JOBQUEUE_QUEUE:-job-queue}
redis=(redis-cli -u "${REDIS_URL:-redis://localhost:6379}" --no-auth-warning)

quote() { # Makes of text a JSON string, in $quoted: jq 1.6 breaks a character of raw text wherever 4 KiB of it end.
  # shellcheck disable=SC1003 # backslashes and no quote
  quoted=${1//'\'/'\\'}
  quoted=\"${quoted//'"'/'\"'}\"
  [[ $quoted == *[[:cntrl:]]* ]] || return
  local code hex character
  for code in {1..31}; do
    printf -v hex %02x "$code"
    # shellcheck disable=SC2059 # the character is the format, on purpose
    printf -v character "\\x$hex"
    quoted=${quoted//"$character"/"\\u00$hex"}
  done
}
