"""A correct server in one loop, for the kit's own tests: MULTI around publish and removal."""

import collections
import json
import os
import signal
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

queue, in_process = os.environ["JOBQUEUE_QUEUE"], os.environ["JOBQUEUE_IN_PROCESS"]
block_s = min(int(os.environ["JOBQUEUE_BLOCK_MS"]) / 1000, 5)
connected = redis.Redis.from_url(os.environ["REDIS_URL"], retry=Retry(NoBackoff(), 0), protocol=2)
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))


def fail(parameters):
    raise ValueError(parameters.get("message", "failed"))


def wait(parameters):
    time.sleep(parameters["ms"] / 1000)
    return parameters


handlers = {"echo": lambda parameters: parameters, "fail": fail, "wait": wait}


def answer(job):
    method = job.get("method")
    if not isinstance(method, str) or not method:
        return {"error": {"code": "invalid-job", "message": "no method"}}
    if method not in handlers:
        return {"error": {"code": "method-not-found", "message": f"no handler is named {method}"}}
    try:
        return {"result": handlers[method](job.get("parameters"))}
    except Exception as error:
        return {"error": {"code": "handler-error", "message": str(error)}}


def bury(message):
    connected.lpush(f"{queue}:dead", message)
    connected.lrem(in_process, -1, message)


def run(message):
    try:
        job = json.loads(message.decode())
        channel, name = job["channel"], job["id"]
        assert channel and name and isinstance(channel, str) and isinstance(name, str)
        channel = channel.encode()
        result = json.dumps({"id": name, **answer(job)}, allow_nan=False).encode()
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError):
        return bury(message)
    try:
        with connected.pipeline() as transaction:
            transaction.publish(channel, result)
            transaction.lrem(in_process, -1, message)
            transaction.execute()
    except redis.exceptions.NoPermissionError:
        bury(message)


def recover():
    for message in reversed(connected.lrange(in_process, 0, -1)):
        if stopping:
            return
        run(message)


def serve():
    second_look_s = time.monotonic() + block_s
    recover()
    while not stopping:
        if second_look_s and time.monotonic() > second_look_s:
            second_look_s = None
            recover()
            continue
        message = connected.blmove(queue, in_process, block_s, "RIGHT", "LEFT")
        if message is not None:
            run(message)


while not stopping:
    try:
        serve()
    except (redis.RedisError, OSError):
        time.sleep(0.05)
