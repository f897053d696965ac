/*
 * A server: looks at its list, claims, runs, publishes, removes. One that is down, or not connected,
 * is one that has yet to look; so its restart is no transition of its own.
 */

mtype = { LOOK, CLAIM, HANDLE, PUBLISH, REFUSED, REMOVE, REMOVE_DEAD, DONE };
#ifdef ONE_LOOK
#define LOOKS 1                                                  /* breaks server.recovery.second-look */
#else
#define LOOKS 2
#endif

mtype step[SERVERS] = LOOK;       /* what it does next */
byte held[SERVERS] = NONE;        /* the job in its hands */
byte found[SERVERS];              /* the jobs that it found on its list and has not started */
byte looks[SERVERS] = LOOKS;      /* how often it still has to look */
#define working(me) (step[me] != LOOK || held[me] != NONE || looks[me] != LOOKS)

/* What its dead connection sent and Redis has not executed: the step that sent it, and the job. A late
   claim is the ghost pop. */
mtype late[SERVERS];
byte late_job[SERVERS];

inline go_on() {
  if
  :: held[me] != NONE -> step[me] = PUBLISH                      /* server.publish.again */
  :: held[me] == NONE && found[me] ->
       any_of(found[me]); drop(found[me], job);
       held[me] = job; step[me] = HANDLE
  :: held[me] == NONE && !found[me] -> step[me] = CLAIM          /* server.recovery.first */
  fi
}

inline look_again() { step[me] = LOOK; looks[me] = LOOKS; found[me] = 0 }

/* The server forgets what it holds, the run included. */
inline forget() { drop(ran, held[me]); held[me] = NONE }

/* The connection dies: a command that is on its way is lost, or executed later. */
inline cut_off() {
  if
#ifndef CRASH_TABLE
  :: step[me] == CLAIM || step[me] == PUBLISH && held[me] != FORBIDDEN || step[me] == REMOVE ->
       late[me] = step[me]; late_job[me] = held[me]
#endif
  :: true
  fi
}

proctype server(byte me) {
end:
  do
  :: atomic { step[me] == LOOK ->
       looks[me]--;
       found[me] = list_of(me);
       printf("server %d: looks at its list\n", me);
#ifdef RUN_WHAT_RUNS
       ;                                                         /* breaks server.recovery.running */
#else
       drop(found[me], held[me]);
#endif
#ifdef EMPTY_THE_LIST
       list_of(me) = 0; require_never_lost();                    /* breaks server.remove.only */
#endif
       go_on() }

  :: atomic { step[me] == CLAIM && queue ->
       move();
       printf("server %d: claims job %d\n", me, job);
       held[me] = job; step[me] = HANDLE }

  :: atomic { step[me] == CLAIM && looks[me] && late[me] != CLAIM ->
       printf("server %d: T has passed\n", me);
       step[me] = LOOK }                                         /* server.recovery.second-look */

#ifdef LOOK_WHILE_CLAIMING
  :: atomic { step[me] == HANDLE && looks[me] ->                 /* breaks server.recovery.quiet */
       printf("server %d: looks at its list before it has read the claim's reply\n", me);
       looks[me]--; found[me] = list_of(me) }
#endif

  :: atomic { step[me] == HANDLE && held[me] == MALFORMED ->
       printf("server %d: pushes message %d to the dead list\n", me, held[me]);
#ifdef REMOVE_BEFORE_BURYING
       remove(held[me]);                                         /* breaks server.dead-list.keeps */
#endif
       add(dead, held[me]);
       step[me] = REMOVE_DEAD }

  :: atomic { step[me] == HANDLE && held[me] != MALFORMED ->
       printf("server %d: runs job %d\n", me, held[me]);
       require(rerun_after_fault, !has(ran, held[me]));
#ifdef EXACTLY_ONCE
       require(runs_once, !has(ever_ran, held[me])); add(ever_ran, held[me]);
#endif
#ifdef CRASH_TABLE
       runs++;
#endif
       add(ran, held[me]);
       step[me] = PUBLISH }

#ifdef REMOVE_BEFORE_PUBLISH
  :: atomic { step[me] == PUBLISH && has(list_of(me), held[me]) ->
       printf("server %d: removes job %d\n", me, held[me]);
       remove(held[me]) }                                        /* breaks server.publish.before-remove */
#endif

  :: atomic { step[me] == PUBLISH && held[me] != FORBIDDEN ->
       printf("server %d: publishes the result of job %d\n", me, held[me]);
       publish(held[me]);
       step[me] = REMOVE }

  :: atomic { step[me] == PUBLISH && held[me] == FORBIDDEN ->
       printf("redis: forbids server %d to publish on the channel of job %d\n", me, held[me]);
#ifdef RETRY_FORBIDDEN
       step[me] = REFUSED }                                      /* breaks server.publish.noperm */
#else
       add(dead, held[me]);
       step[me] = REMOVE_DEAD }
#endif

  :: atomic { step[me] == PUBLISH && held[me] != FORBIDDEN && fault_possible ->
       printf("redis: refuses server %d's PUBLISH for job %d\n", me, held[me]);
       fault(); refused = refused | (one(held[me]) & ~published);
       step[me] = REFUSED }

#ifdef GIVE_UP
  :: atomic { step[me] == REFUSED -> forget(); go_on() }         /* breaks server.publish.again */
#endif
  :: atomic { step[me] == REFUSED -> look_again() }              /* as a lost connection */

  :: atomic {
#ifdef PLAIN_PIPELINE
       step[me] == REFUSED ||                                    /* breaks server.publish.refused */
#endif
       step[me] == REMOVE || step[me] == REMOVE_DEAD ->
       printf("server %d: removes job %d\n", me, held[me]);
       remove(held[me]);
       step[me] = DONE }

  :: atomic { step[me] == DONE -> held[me] = NONE; go_on() }     /* the reply to the removal is read */

  :: atomic { working(me) && fault_possible ->
       printf("server %d: dies and is started again\n", me);
       fault(); cut_off();
#ifdef CRASH_TABLE
       died = accepted && (list_of(me) || !ON_A_LIST);           /* no other server has it */
       queue_then = queue; list_then = list_of(me); dead_then = dead;
       runs_then = runs; results_then = results;
#endif
#ifdef RANDOM_LIST
       born[me] = !born[me];                                     /* breaks server.list.stable */
#endif
#ifdef NO_LOOK_AT_START
       forget(); found[me] = 0; looks[me] = 0; go_on() }         /* breaks server.recovery.first */
#else
       forget(); look_again() }
#endif

  :: atomic { working(me) && fault_possible ->
       printf("server %d: loses its connection\n", me);
       fault(); cut_off();
       if
       :: has(ran, held[me])                                     /* keeps the result, publishes again */
       :: forget()                                               /* or finds the job on the list, if it is there */
       fi;
#ifdef NO_RESCAN
       looks[me] = 0; found[me] = 0; go_on() }                   /* breaks server.recovery.reconnect */
#else
       look_again() }
#endif
  od
}

#define arrived() late[me] = 0; late_job[me] = 0

/* What a server's dead connection left on its way is executed late, or is gone when T has passed. */
proctype wire(byte me) {
end:
  do
  :: atomic { late[me] == CLAIM && queue ->
       move();
       printf("redis: moves job %d to server %d's list, for a connection that is dead\n", job, me);
       arrived() }
  :: atomic { late[me] == PUBLISH ->
       printf("redis: executes a late PUBLISH of server %d for job %d\n", me, late_job[me]);
       publish(late_job[me]);
       arrived() }
  :: atomic { late[me] == REMOVE ->
       printf("redis: executes a late removal of server %d for job %d\n", me, late_job[me]);
       remove(late_job[me]);
       arrived() }
  :: atomic { late[me] -> arrived() }
  od
}
