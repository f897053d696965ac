# What both programs share: the tools they need, and what the environment says. Sourced, never run.
# shellcheck shell=bash disable=SC2034 # who sources it uses the variables

type -P redis-cli jq >/dev/null || {
  echo 'redis-cli or jq is missing' >&2
  exit 69 # "cannot run here": the kit then counts the tests as unsupported
}

export LC_ALL=C # messages are bytes, whatever the user's language
queue=${JOBQUEUE_QUEUE:-job-queue}
redis=(redis-cli -u "${REDIS_URL:-redis://localhost:6379}" --no-auth-warning)
