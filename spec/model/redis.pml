/*
 * Redis: the queue, the in-process lists, the dead list, what was published, and its commands. Each
 * command is part of one transition. `me` is the server that sends it.
 */

byte queue, list[SERVERS + SERVERS], dead, published;
#define ON_A_LIST (list[0] | list[1] | list[2] | list[3])

#if defined(SHARED_LIST)
#define list_of(server) list[0]                                  /* breaks server.list.own */
#elif defined(RANDOM_LIST)
bool born[SERVERS];
#define list_of(server) list[server + SERVERS * born[server]]
#else
#define list_of(server) list[server]
#endif

inline require_never_lost() {
  require(never_lost, (accepted & ~(queue | ON_A_LIST | dead | published)) == 0)
}

/* LPUSH */
inline push(it) { add(accepted, it); add(queue, it) }

/* BLMOVE; it leaves the job that it took in `job`. */
inline move() {
  any_of(queue);
  drop(queue, job);
#ifdef POP_THEN_PUSH
  printf("server %d: pops job %d\n", me, job); require_never_lost();  /* breaks server.claim.atomic */
#endif
  add(list_of(me), job);
  require_never_lost()
}

/* LREM */
inline remove(it) {
#ifndef REENCODED_BYTES                                          /* breaks server.remove.exact-bytes */
  drop(list_of(me), it);
#endif
  require(refused_stays, !has(refused, it));
  require_never_lost()
}

/* PUBLISH: a client that is subscribed has the result now, and no other ever will. */
inline publish(it) {
  add(published, it);
  drop(refused, it);
#ifdef CRASH_TABLE
  results++;
#endif
  receive(it)
}
