"""A correct client's driver, for the kit's own tests: one thread reads results, the other pushes."""

import json
import os
import sys
import threading
import time
import uuid

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

queue = os.environ["JOBQUEUE_QUEUE"]
channel = f"{queue}:results:{uuid.uuid4()}"
lock = threading.Condition()
pending = {}


def connect():
    return redis.Redis.from_url(os.environ["REDIS_URL"], retry=Retry(NoBackoff(), 0), protocol=2)


def settle(name, **outcome):
    with lock:
        job = pending.pop(name, None)
        if job is not None:
            print(json.dumps({"seq": job["seq"], **outcome}), flush=True)
            lock.notify_all()


def listen():
    while True:
        try:
            subscription = connect().pubsub()
            subscription.subscribe(channel)
            for message in subscription.listen():
                if message["type"] == "subscribe":
                    with lock:
                        subscribed.set()
                elif message["type"] == "message":
                    hear(message["data"])
        except (redis.RedisError, OSError):
            with lock:
                subscribed.clear()
                lost = [name for name, job in pending.items() if "timeout_ms" not in job]
            for name in lost:
                settle(name, error={"code": "connection-lost", "message": "it may have run"})
            time.sleep(0.05)


def hear(data):
    try:
        result = json.loads(data)
        if "error" in result:
            error = result["error"]
            outcome = {"error": {"code": error["code"], "message": error["message"]}}
        else:
            outcome = {"result": result["result"]}
        settle(result["id"], **outcome)
    except (ValueError, KeyError, TypeError):
        pass


def run(line):
    name = str(line["seq"])
    with lock:
        pending[name] = line
    if "timeout_ms" in line:
        timer = threading.Timer(line["timeout_ms"] / 1000, settle, (name,), {"timeout": True})
        timer.daemon = True
        timer.start()
    job = {
        "method": line["method"],
        "parameters": line["parameters"],
        "channel": channel,
        "id": name,
    }
    subscribed.wait()
    try:
        pusher.lpush(queue, json.dumps(job))
    except redis.exceptions.ResponseError as error:
        settle(name, error={"code": "not-queued", "message": str(error)})
    except (redis.RedisError, OSError):
        if "timeout_ms" not in line:
            settle(name, error={"code": "connection-lost", "message": "it may have run"})


subscribed = threading.Event()
pusher = connect()
threading.Thread(target=listen, daemon=True).start()
for text in sys.stdin:
    run(json.loads(text))
with lock:
    lock.wait_for(lambda: not pending)
