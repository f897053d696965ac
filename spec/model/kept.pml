/*
 * Kept results: does every caller get a result, and which one, when subscriptions and servers are lost?
 *
 * One job, since each has a key and may have a channel of its own. Client 0 pushes it and waits; client 1 collects it
 * by its handle, in another process. Each run has another result, and the results are numbered in the order of the
 * runs, so two with the same digest can be told apart. One transition is one command that Redis executes,
 * one reply that is read, or one fault. Nothing expires: what is shown here holds until `keep_ms` have passed.
 *
 * Calm begins at any moment: no fault from then on. When nothing can move any more, all is idle.
 * A known bug is one #ifdef, next to the requirement that it breaks.
 */

#ifndef FAULTS
#define FAULTS 3                  /* how many faults may happen */
#endif

#define SERVERS 2
#define LOST 255                  /* settled as connection-lost */

mtype = {
  settled_when_quiet,             /* when all is idle, the job is settled by its caller and by who has its handle */
  found_first,                    /* a look finds the first result that was stored, or nothing where none was yet */
  heard_found,                    /* who listens all the time hears what others find, if one step stores and publishes */
  lost_unanswered,                /* a job is settled as lost only if its push wasn't answered */
  callers_agree                   /* all get the same result: not promised, and refuted */
}
mtype = { NOWHERE, QUEUE, LIST_0, LIST_1, REMOVED };     /* where the message is */
mtype = { UNSENT, PUSHED, ANSWERED };                    /* the push; its reply may still be lost */
mtype = { AWAY, ASKED, LISTENS, LEFT };                  /* a subscription: none, in Redis, its reply was read; given up */
mtype = { NONE, DUE, REPLIED };                          /* a look */
mtype = { IDLE, RAN, CHECKED, STORED, PUBLISHED };       /* what a server has done with the job in its hand */

/* Redis. A result is its number; 0 is none. */
mtype place = NOWHERE;
byte stored;

/* The clients. Of what Redis sent to a subscriber, only the first message counts. */
mtype push = UNSENT, subscription[2] = AWAY, look[2] = NONE;
byte message[2], found[2], settled[2];
bool away_once[2];                /* it has been without its subscription since the push */
#ifdef LOOK_ONCE
bool looked[2];
#endif

/* The servers. */
mtype phase[SERVERS] = IDLE;
byte hand[SERVERS], results;

/* For the properties alone. */
byte first;                       /* the first result that was stored */
bool apart;                       /* which was published by a step of its own */

byte faults = FAULTS;
#define fault_possible (faults > 0)
#define may_subscribe(me) (subscription[me] == AWAY && !settled[me] && (me == 0 || push == ANSWERED))
#define list(me) (me == 0 -> LIST_0 : LIST_1)

inline require(property, condition) {
  if
  :: (condition)
  :: else -> printf("violated: %e\n", property); assert(false)
  fi
}
inline settle(it) {
  require(lost_unanswered, it != LOST || push != ANSWERED);
  settled[me] = it;                                              /* client.settle.once */
  subscription[me] = AWAY; look[me] = NONE; found[me] = 0; message[me] = 0
}
inline deliver(to, it) {
  if :: (subscription[to] == ASKED || subscription[to] == LISTENS) && !message[to] -> message[to] = it :: else fi
}

/* One command each, as Redis executes it. */
inline store(own_step) {
  if
#ifdef LAST_WINS                                                 /* breaks server.kept.first */
  :: true ->
#elif defined(CHECK_THEN_SET)                                    /* breaks server.kept.first */
  :: phase[me] == CHECKED || !stored ->
#elif defined(STORES_OWN_ENTRY)                                  /* breaks server.kept.stores */
  :: !stored && place == list(me) ->
#else
  :: !stored ->
#endif
       printf("server %d: stores result %d\n", me, hand[me]);
       stored = hand[me];
       if :: !first -> first = stored; apart = own_step :: else fi
  :: else
  fi
}
inline publish() {
  printf("server %d: publishes result %d\n", me, hand[me]);
  deliver(0, hand[me]); deliver(1, hand[me])
}
inline remove() { if :: place == list(me) -> place = REMOVED :: else fi }

proctype client(byte me) {
end:
  do
  /* subscribe: the caller at its start, who has the handle when the push is answered */
#ifdef LOOK_FIRST                                                /* breaks client.kept.looks */
  :: atomic { may_subscribe(me) && away_once[me] && look[me] == NONE -> look[me] = DUE }
  :: atomic { may_subscribe(me) && (!away_once[me] || look[me] == REPLIED) ->
#else
  :: atomic { may_subscribe(me) ->
#endif
       subscription[me] = ASKED }
  :: atomic { subscription[me] == ASKED ->
       printf("client %d: is subscribed\n", me);
       subscription[me] = LISTENS;
#if defined(LOOK_ONCE)                                           /* breaks client.kept.looks */
       if :: away_once[me] && !looked[me] -> looked[me] = true; look[me] = DUE :: else fi
#elif !defined(LOOK_FIRST) && !defined(NEVER_LOOK)               /* breaks client.kept.looks */
       if :: away_once[me] -> look[me] = DUE :: else fi
#endif
  }
  /* push */
  :: atomic { me == 0 && push == UNSENT && subscription[0] == LISTENS ->
       push = PUSHED;
       if
       :: printf("client 0: pushes the job\n");
          place = QUEUE
       :: fault_possible ->
          printf("client 0: pushes the job, which Redis never has\n");
          goto lost
       fi }
  :: atomic { me == 0 && push == PUSHED && !away_once[0] -> push = ANSWERED }
  /* look, on a connection of its own */
  :: atomic { look[me] == DUE ->
       printf("client %d: looks, and result %d is there\n", me, stored);
       require(found_first, stored == first);
       found[me] = stored; look[me] = REPLIED }
  :: atomic { look[me] == REPLIED && subscription[me] == LISTENS ->
       look[me] = NONE;
       if
       :: found[me] -> printf("client %d: settles by result %d, which it found\n", me, found[me]); settle(found[me])
#ifdef ONLY_LOOKS                                                /* breaks client.kept.collects */
       :: else -> subscription[me] = LEFT
#else
       :: else
#endif
       fi }
  /* listen */
  :: atomic { subscription[me] == LISTENS && message[me] ->
#ifdef DEAF_WHILE_LOOKING                                        /* breaks client.settle.result */
       if :: look[me] != NONE -> message[me] = 0; goto end :: else fi;
#endif
       printf("client %d: settles by result %d, which it heard\n", me, message[me]);
       settle(message[me]) }
  /* fault: its connections are gone, with all that they held */
  :: atomic { subscription[me] != AWAY && fault_possible ->
lost:  printf("client %d: loses its connections\n", me);
       faults--;
       subscription[me] = AWAY; look[me] = NONE; found[me] = 0; message[me] = 0;
       away_once[me] = away_once[me] || push != UNSENT;
       if
#ifndef WAITS_UNANSWERED                                         /* breaks client.lost.settles */
       :: me == 0 && push == PUSHED -> settle(LOST)
#endif
#ifdef LOST_AT_ONCE                                              /* breaks client.kept.waits */
       :: me == 0 && push == ANSWERED -> settle(LOST)
#endif
       :: else
       fi }
  od
}

proctype server(byte me) {
end:
  do
  /* claim and run, or find it on the own list and run */
  :: atomic { phase[me] == IDLE && (place == QUEUE || place == list(me)) ->
       place = list(me);
       results++; hand[me] = results; phase[me] = RAN;
       printf("server %d: runs the job, with result %d\n", me, results) }
  /* one MULTI; its reply may still be lost */
  :: atomic { phase[me] == RAN ->
       store(false); publish(); remove(); phase[me] = PUBLISHED }
  /* or one command after the other */
#if defined(STORE_AFTER_PUBLISH)                                 /* breaks server.kept.stores */
  :: atomic { phase[me] == RAN -> publish(); phase[me] = STORED }
  :: atomic { phase[me] == STORED -> store(true); phase[me] = PUBLISHED }
  :: atomic { phase[me] == PUBLISHED -> remove(); hand[me] = 0; phase[me] = IDLE }
#elif defined(STORE_AFTER_REMOVE)                                /* breaks server.kept.stores */
  :: atomic { phase[me] == RAN -> publish(); phase[me] = STORED }
  :: atomic { phase[me] == STORED -> remove(); phase[me] = PUBLISHED }
  :: atomic { phase[me] == PUBLISHED -> store(true); hand[me] = 0; phase[me] = IDLE }
#else
#ifdef CHECK_THEN_SET                                            /* breaks server.kept.first */
  :: atomic { phase[me] == RAN -> if :: stored -> phase[me] = STORED :: else -> phase[me] = CHECKED fi }
  :: atomic { phase[me] == CHECKED -> store(true); phase[me] = STORED }
#elif defined(SILENT_WHERE_STORED)                               /* breaks server.publish.channel */
  :: atomic { phase[me] == RAN ->
       if :: stored -> phase[me] = PUBLISHED :: else -> store(true); phase[me] = STORED fi }
#else
  :: atomic { phase[me] == RAN -> store(true); phase[me] = STORED }
#endif
  :: atomic { phase[me] == STORED -> publish(); phase[me] = PUBLISHED }
  :: atomic { phase[me] == PUBLISHED -> remove(); hand[me] = 0; phase[me] = IDLE }
#endif
  /* faults */
  :: atomic { phase[me] != IDLE && fault_possible ->
       faults--;
       if
       :: printf("server %d: dies; its list is recovered or adopted\n", me);
          if :: place == list(me) -> place = QUEUE :: else fi;
          hand[me] = 0; phase[me] = IDLE
       :: place == list(me) ->
            printf("server %d: is paused, its job is adopted, and it goes on\n", me);
            place = QUEUE
       :: phase[me] != RAN ->
            printf("server %d: loses its connection, and answers again\n", me);
            phase[me] = RAN
       fi }
  od
}

init {
  atomic {
    away_once[1] = true;                                         /* who collects has missed what was before */
    run client(0); run client(1); run server(0); run server(1)
  }
progress_faults:
  atomic { faults = 0; printf("everybody: no fault happens from here on\n") };
  timeout -> printf("everybody: all is idle\n");
  require(settled_when_quiet, settled[0] && (settled[1] || push != ANSWERED));
  require(heard_found, !first || settled[0] == first || apart || away_once[0]);
#ifdef CALLERS_AGREE
  require(callers_agree, settled[0] == settled[1] || push != ANSWERED)
#endif
}
