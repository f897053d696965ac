# What messages mean: from a line of text to a line of text.

# jq alone reads NaN and 01, too. So what it is given has to consist of JSON's own tokens.
def token:
  "[\\]\\[{}:, \\t\\n\\r]"
  + "|true|false|null"
  + "|-?(?:0|[1-9][0-9]*+)(?:\\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![-+.0-9A-Za-z])"
  + "|\"(?:[^\"\\\\\\x00-\\x1f]|\\\\(?:[\"\\\\/bfnrt]|u[0-9A-Fa-f]{4}))*+\"";
def json: select(test("\\A(?:" + token + ")*+\\z")) | fromjson;

def is_name: type == "string" and . != "";
def fault($code; $message): {error: {$code, $message}};

# The handlers: what they return, or the error in its place.
def run:
  if .method | is_name | not then fault("invalid-job"; "no method")
  elif .method == "echo" or .method == "wait" then {result: .parameters}
  elif .method == "fail" then
    if .parameters.abruptly? // false then error("failed abruptly") # jq's own way to fail
    else fault("handler-error"; (.parameters.message? | strings) // "failed") end
  else fault("method-not-found"; .method) end;

# The server's [MESSAGE, COUNT] -> "SECONDS [CHANNEL, RESULT]": how long its handler takes, and what is published then.
# "0 [CHANNEL, RESULT, true]" where its count exceeds the limit: no handler runs, and it is buried, too.
# Nothing is published for a dead one: "0 ".
def answer($prefix; $limit):
  (.[1] > $limit) as $given_up
  | [.[0] | json?][0]
  | if type != "object" or (.id | is_name | not) or (.channel | is_name and startswith($prefix) | not) then "0 "
    elif $given_up then # server.attempts.limit
      fault("too-many-attempts"; "servers ended while they ran it") as $outcome
      | "0 \([.channel, ({id} + $outcome | tojson), true])"
    else
      (if .method == "wait" then .parameters.ms? | numbers / 1000 else empty end // 0) as $seconds
      | (try run catch fault("handler-error"; .)) as $outcome # server.run.handler-error
      | "\($seconds) \([.channel, ({id} + $outcome | tojson)])"
    end;

# The caller's line -> "SEQ SECONDS JOB", with "-" where it gave no timeout.
def job($channel; $id):
  "\(.seq) \((.timeout_ms | values / 1000) // "-") \({method, parameters, $channel, $id})";

# A message on the client's channel -> {result} or {error}; nothing if it is not a result, or another job's.
def outcome($id):
  json
  | objects
  | select(.id == $id and has("result") != has("error"))
  | if has("result") then {result} else select(.error | objects | [.code, .message] | all(type == "string")) | {error} end;

# The client asks both on one pipe: [ID, CALLER'S LINE] or [ID, null, MESSAGE].
def turn($channel):
  (.[0] | tostring) as $id
  | (if .[1] then .[1] | job($channel; $id) else .[2] | outcome($id) end) // "";
