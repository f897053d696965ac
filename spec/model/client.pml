/*
 * A client: subscribes, pushes its jobs, settles each once. Client 0 has the jobs 0 and 2, client 1
 * has job 1, the only one with a timeout. A client that dies is one whose settlements are never read.
 */

#define owner(job) ((job) % CLIENTS)
#define jobs_of(client) (client == 0 -> 5 : 2)
#define TIMED 1

bool subscribed[CLIENTS];         /* the reply to SUBSCRIBE is in hand, on a connection that lives */
byte pending, settled;            /* the jobs that were registered and that are settled, by any client */

inline settle(it) {
  require(settled_once, !has(settled, it));                      /* client.settle.once */
  drop(pending, it);
  add(settled, it)
}

/* The client reads a result. */
inline receive(it) {
  if
#ifdef SETTLE_EVERY_RESULT
  :: subscribed[owner(it)] ->                                    /* breaks client.ignore.unknown */
#else
  :: subscribed[owner(it)] && has(pending, it) ->
#endif
       printf("client %d: settles job %d by its result\n", owner(it), it);
       settle(it)
  :: else
  fi
}

proctype client(byte me) {
  byte mine = jobs_of(me) & EVERY_JOB;
end:
  do
  :: atomic { !subscribed[me] ->
       printf("client %d: subscribes\n", me);
       subscribed[me] = true }

  :: atomic {
#ifndef SUBSCRIBE_AFTER_PUSH                                     /* breaks client.subscribe.before-push */
       subscribed[me] &&
#endif
       (mine & ~(pending | settled)) ->
       any_of(mine & ~(pending | settled));
       add(pending, job);                                        /* client.register.before-push */
       if
       :: printf("client %d: pushes job %d\n", me, job);
          push(job)
       :: fault_possible ->
          printf("client %d: settles job %d, whose push Redis refuses\n", me, job);
          fault(); settle(job)                                   /* client.settle.not-queued */
       :: fault_possible ->
          printf("client %d: pushes job %d, and loses the connection before the reply\n", me, job);
          fault(); push(job);
#ifdef PUSH_AGAIN
          drop(pending, job);                                    /* breaks client.push.once */
#endif
          goto lost
       :: fault_possible ->
          printf("client %d: loses the connection before Redis has its push of job %d\n", me, job);
          fault(); goto lost
       fi }

  :: atomic { has(mine & pending, TIMED) ->
       printf("client %d: settles job %d, whose timeout has passed\n", me, TIMED);
       settle(TIMED) }                                           /* client.timeout.settles */

  :: atomic { subscribed[me] && fault_possible ->
       printf("client %d: loses its connection\n", me);
       fault();
lost:  subscribed[me] = false;
#ifndef WAIT_FOR_EVER                                            /* breaks client.lost.settles */
       settled = settled | (mine & pending & ~one(TIMED));
       pending = pending & ~(mine & pending & ~one(TIMED));
#endif
       skip }
  od
}
