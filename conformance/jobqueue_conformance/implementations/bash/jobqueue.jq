def json: select(test("\\A(?:[\\]\\[{}:, \\t\\n\\r]|\"(?:[^\"\\\\\\x00-\\x1f]|\\\\(?:[\"\\\\/bfnrt]|u[0-9A-Fa-f]{4}))*+\"|true|false|null
  |-?(?:0|[1-9][0-9]*+)(?:\\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![-+.0-9A-Za-z]))*+\\z"; "x")) | fromjson; # alone it reads NaN and 01, too
def name: type == "string" and . != ""; def fault($code; $message): {error: {$code, $message}};
def answer($prefix): [json?][0] | if type != "object" or (.id | name | not) or (.channel | name and startswith($prefix) | not)
  then "0 " else "\(if .method == "wait" then .parameters.ms / 1000 else 0 end) \([.channel, ({id} + if .method | name | not then
  fault("invalid-job"; "no method") elif .method == "echo" or .method == "wait" then {result: .parameters} elif .method == "fail" then
  fault("handler-error"; (.parameters.message? | strings) // "failed") else fault("method-not-found"; .method) end | tojson)])" end;
def turn($channel): index(" ") as $at | .[1:$at] as $id | .[$at + 1:] as $text | if startswith("<") then $text | json | objects | select(
  .id == $id and has("result") != has("error")) | if has("result") then {result} else select(.error | objects | [.code, .message] | all(type
  == "string")) | {error} end else $text | fromjson | "\(.seq) \(.timeout_ms | values / 1000 // "-") \({method, parameters, $channel, $id})" end // "";
