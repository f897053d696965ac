/*
 * A server: looks at its list, claims, runs, publishes, removes; HANDS jobs at once. One that is down
 * or cut off is one that has yet to look, so its restart is not a transition of its own. A claim is
 * outstanding whenever a hand is free and nothing found is waiting; its empty replies change nothing.
 */

#ifdef ONE_LOOK
#define LOOKS 1                                                  /* breaks server.recovery.second-look */
#else
#define LOOKS 2
#endif

#ifdef DELAYED                    /* the network delivers a claim when T has passed, too */
#define claim_is_gone(me) true
#else
#define claim_is_gone(me) (late[me] != CLAIM)
#endif

#ifdef PLAIN_PIPELINE                                            /* breaks server.publish.refused */
#define finished(me) (jobs_at(me, REMOVE) | jobs_at(me, REMOVE_DEAD) | jobs_at(me, REFUSED))
#else
#define finished(me) (jobs_at(me, REMOVE) | jobs_at(me, REMOVE_DEAD))
#endif

mtype = { CLAIM, HANDLE, PUBLISH, REFUSED, REMOVE, REMOVE_DEAD, DONE };
#define AWAY 0

bool ready[SERVERS];              /* it has looked at its list since it was connected */
byte looks[SERVERS] = LOOKS;      /* how often it still has to look */
byte found[SERVERS];              /* the jobs that it found there and has not started */
mtype stage[SERVERS * 3];         /* what it does next with each job in its hands */
#define at(me, it) stage[3 * me + it]
#define jobs_at(me, what) \
  ((at(me, 0) == what) | (at(me, 1) == what) << 1 | (at(me, 2) == what) << 2)
#define in_hands(me) (7 & ~jobs_at(me, AWAY))
#define hand_free(me) ((at(me, 0) != AWAY) + (at(me, 1) != AWAY) + (at(me, 2) != AWAY) < HANDS)
#define claiming(me) (ready[me] && !found[me] && hand_free(me))  /* server.recovery.first */
#define working(me) (ready[me] || in_hands(me) || looks[me] != LOOKS)

/* What its dead connection sent and Redis has not executed: the step that sent it, and the job. A late
   claim is the ghost pop. */
mtype late[SERVERS];
byte late_job[SERVERS];
#define arrived() late[me] = 0; late_job[me] = 0

/* LRANGE, while no claim is outstanding: what it runs is known, and the rest is to be started. */
inline look() {
  printf("server %d: looks at its list\n", me);
  looks[me]--;
#ifdef RUN_WHAT_RUNS
  found[me] = list_of(me);                                       /* breaks server.recovery.running */
#else
  found[me] = list_of(me) & ~in_hands(me);
#endif
#ifdef EMPTY_THE_LIST
  list_of(me) = 0; require_never_lost();                         /* breaks server.remove.only */
#endif
  ready[me] = true
}

inline look_again() { ready[me] = false; looks[me] = LOOKS; found[me] = 0 }

inline forget(it) { drop(ran, it); at(me, it) = AWAY }

/* What becomes of a job in hands that are cut off: a result is kept and published again, or forgotten;
   where the reply to its PUBLISH was read, the removal may be repeated alone; a claim whose reply was
   lost was never known. What is forgotten is found on the list, if it is there. */
inline keep_or_forget(it) {
  if
  :: at(me, it) == AWAY
  :: at(me, it) == REMOVE || (at(me, it) == DONE && has(ran, it)) -> at(me, it) = REMOVE
  :: at(me, it) != AWAY && has(ran, it) -> at(me, it) = PUBLISH  /* server.publish.again */
  :: at(me, it) != AWAY -> forget(it)
  fi
}

/* The connection dies: a command that is on its way is lost, or executed later. */
inline cut_off() {
  if
#ifndef CRASH_TABLE
  :: claiming(me) -> late[me] = CLAIM; late_job[me] = 0
  :: jobs_at(me, PUBLISH) & ~one(FORBIDDEN) ->
       any_of(jobs_at(me, PUBLISH) & ~one(FORBIDDEN)); late[me] = PUBLISH; late_job[me] = job
  :: jobs_at(me, REMOVE) -> any_of(jobs_at(me, REMOVE)); late[me] = REMOVE; late_job[me] = job
#endif
  :: true
  fi
}

proctype server(byte me) {
end:
  do
  :: atomic { !ready[me] -> look() }

  :: atomic { ready[me] && looks[me] && claim_is_gone(me) ->     /* server.recovery.second-look */
       printf("server %d: T has passed\n", me);
       look() }

#ifdef DELAYED                    /* a look that finds nothing isn't a step */
#ifndef NO_STRAY                                                 /* breaks server.recovery.stray */
  :: atomic { ready[me] && !looks[me] && !found[me] && (list_of(me) & ~in_hands(me)) ->
       printf("server %d: looks at its list, as it does every few seconds\n", me);
       found[me] = list_of(me) & ~in_hands(me) }                 /* server.recovery.stray */
#endif
#endif

#ifdef LOOK_WHILE_CLAIMING
  :: atomic { ready[me] && looks[me] && jobs_at(me, HANDLE) ->   /* breaks server.recovery.quiet */
       printf("server %d: looks at its list before it has read the reply to a claim\n", me);
       looks[me]--; found[me] = list_of(me) & ~(in_hands(me) & ~jobs_at(me, HANDLE)) }
#endif

  :: atomic { ready[me] && found[me] && hand_free(me) ->
       any_of(found[me]); drop(found[me], job);
       at(me, job) = HANDLE }

  :: atomic { claiming(me) && queue ->
       move();
       printf("server %d: claims job %d\n", me, job);
       at(me, job) = HANDLE }

  :: atomic { ready[me] && (jobs_at(me, HANDLE) & one(MALFORMED)) -> job = MALFORMED;
       printf("server %d: pushes message %d to the dead list\n", me, job);
#ifdef REMOVE_BEFORE_BURYING
       remove(job);                                              /* breaks server.dead-list.keeps */
#endif
       add(dead, job);
       at(me, job) = REMOVE_DEAD }

  :: atomic { ready[me] && (jobs_at(me, HANDLE) & ~one(MALFORMED)) ->
       any_of(jobs_at(me, HANDLE) & ~one(MALFORMED));
       printf("server %d: runs job %d\n", me, job);
       require(rerun_after_fault, !has(ran, job));
#ifdef EXACTLY_ONCE
       require(runs_once, !has(ever_ran, job)); add(ever_ran, job);
#endif
#ifdef CRASH_TABLE
       runs++;
#endif
       add(ran, job);
       at(me, job) = PUBLISH }

#ifdef REMOVE_BEFORE_PUBLISH
  :: atomic { ready[me] && (jobs_at(me, PUBLISH) & list_of(me)) ->
       any_of(jobs_at(me, PUBLISH) & list_of(me));
       printf("server %d: removes job %d\n", me, job);
       remove(job) }                                             /* breaks server.publish.before-remove */
#endif

  :: atomic { ready[me] && (jobs_at(me, PUBLISH) & ~one(FORBIDDEN)) ->
       any_of(jobs_at(me, PUBLISH) & ~one(FORBIDDEN));
       printf("server %d: publishes the result of job %d\n", me, job);
       publish(job);
       at(me, job) = REMOVE }

  :: atomic { ready[me] && (jobs_at(me, PUBLISH) & one(FORBIDDEN)) -> job = FORBIDDEN;
       printf("redis: forbids server %d to publish on the channel of job %d\n", me, job);
#ifdef RETRY_FORBIDDEN
       at(me, job) = REFUSED }                                   /* breaks server.publish.noperm */
#else
       add(dead, job);
       at(me, job) = REMOVE_DEAD }
#endif

  :: atomic { ready[me] && (jobs_at(me, PUBLISH) & ~one(FORBIDDEN)) && fault_possible ->
       any_of(jobs_at(me, PUBLISH) & ~one(FORBIDDEN));
       printf("redis: refuses server %d's PUBLISH for job %d\n", me, job);
       fault(); refused = refused | (one(job) & ~published);
       at(me, job) = REFUSED }

#ifdef GIVE_UP
  :: atomic { jobs_at(me, REFUSED) ->                            /* breaks server.publish.again */
       any_of(jobs_at(me, REFUSED)); forget(job) }
#endif
  :: atomic { jobs_at(me, REFUSED) ->
       any_of(jobs_at(me, REFUSED)); at(me, job) = PUBLISH;
       keep_or_forget(0); keep_or_forget(1); keep_or_forget(2);
       look_again() }                                            /* as a lost connection */

  :: atomic { ready[me] && finished(me) ->
       any_of(finished(me));
       printf("server %d: removes job %d\n", me, job);
       remove(job);
       at(me, job) = DONE }

  :: atomic { ready[me] && jobs_at(me, DONE) ->                  /* the reply to the removal is read */
       any_of(jobs_at(me, DONE));
       at(me, job) = AWAY }

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
       ran = ran & ~in_hands(me);
       at(me, 0) = AWAY; at(me, 1) = AWAY; at(me, 2) = AWAY;
       look_again();
#ifdef NO_LOOK_AT_START
       ready[me] = true; looks[me] = 0                           /* breaks server.recovery.first */
#endif
     }

  :: atomic { working(me) && fault_possible ->
       printf("server %d: loses its connection\n", me);
       fault(); cut_off();
       keep_or_forget(0); keep_or_forget(1); keep_or_forget(2);
       look_again();
#ifdef NO_RESCAN
       ready[me] = true; looks[me] = 0                           /* breaks server.recovery.reconnect */
#endif
     }
  od
}

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
