/*
 * Takeover: the lists of servers that never come back. Is a job ever stranded, or a live server robbed?
 *
 * It is a model of its own, since protocol.pml with leases would be too large to search. SERVERS names,
 * each with a list. Name 0 may crash, be paused and lose its connections, but comes back at last; any
 * other may also die for good, or be stopped for good. Lists are sets of jobs, and all jobs wait in the
 * queue at the beginning. One transition is one command or script that Redis executes, one reply that
 * is read, or one fault. There is no clock: a lease may end only by a fault (a pause, Redis away) or
 * when its life is over, and then at any moment; C is passed when a list has been marked; G, when no
 * claim of the list's owner can be late any more.
 *
 * Calm begins at any moment: no fault from then on. When nothing can move any more, all is idle.
 * A known bug is one #ifdef, next to the requirement that it breaks.
 */

#ifndef SERVERS
#define SERVERS 2
#endif
#ifndef JOBS
#define JOBS 2
#endif
#ifndef FAULTS
#define FAULTS 2                  /* how many faults may happen */
#endif
#ifndef HANDS
#define HANDS 1                   /* how many jobs a server runs at once */
#endif
#ifndef ROLLBACK
#define ROLLBACK 0                /* 1: a lagging replica is promoted once */
#endif

#define one(job) (1 << (job))
#define has(set, job) (((set) >> (job)) & 1)
#define add(set, job) set = set | one(job)
#define drop(set, job) set = set & ~one(job)
#define size(set) (has(set, 0) + has(set, 1) + has(set, 2))
#define EVERY_JOB (one(JOBS) - 1)

mtype = {
  never_lost,                     /* an accepted job is always in the queue, on a list or answered */
  empty_when_quiet,               /* when all is idle, the queue and the lists are empty: every job is answered */
  rerun_after_fault,              /* each run more of a job needs a fault more */
  robbed_after_lapse              /* nothing is adopted from a life that serves, unless a fault ended its lease */
}
mtype = { DOWN, START, LOOK, SERVE };          /* what a server does */
mtype = { NONE, SENT, MOVED, ADOPTING };       /* its claim: none, blocked, executed but not read; an adoption */

/* Redis. A lease holds the token of a life, 0 is none. */
#define ALIVE 0
#define LAPSED 1                  /* marked as lapsed, C ago */
#define EMPTIED 2                 /* and found empty */
byte queue = EVERY_JOB, published, list[3], lease[3], mark[3];
bool registered[3];

/* What the network still holds of connections that are gone. */
bool late_claim[3];
byte late_adoption[3];            /* 1 + whose list */
byte late_release[3];             /* the token of the life that has sent it */

/* The servers. */
mtype phase[3] = DOWN, claim[3] = NONE;
byte token[3] = 1, reply[3], target[3];
byte have[3], ran[3], sent[3];    /* the jobs in hand: to run, to publish, to remove */
bool unanswered[3];               /* a claim of this life was never answered */
bool second[3];                   /* a second look is due */
bool born[3], made[3];            /* this life has registered once; and that created the registration */
bool robbed[3];                   /* a fault has ended the lease of this life */
#ifdef RENEWS_ELSEWHERE
bool elsewhere[3];                /* its renewals go on at the Redis that was the primary */
#endif

byte faults = FAULTS, happened, runs[3];
bool calm;
hidden byte job, whose;           /* scratch of one transition */

#define fault_possible (faults > 0 && !calm)
#define fault() faults--; happened++
#define in_hands(me) (have[me] | ran[me] | sent[me])
#define hand_free(me) (size(in_hands(me)) < HANDS && !have[me])
#define has_lease(me) (lease[me] == token[me])
#ifdef RENEWS_ELSEWHERE                                          /* breaks server.takeover.registers */
#define renewed(me) (has_lease(me) || elsewhere[me])
#else
#define renewed(me) has_lease(me)
#endif
#define lapsed(t) (registered[t] && lease[t] == 0)
#define markable(me, t) (t != me && lapsed(t) && mark[t] == ALIVE)
#define emptied(me, t) (t != me && lapsed(t) && mark[t] == LAPSED && !list[t])
#ifdef NO_LEASE_CHECK                                            /* breaks server.takeover.only-lapsed */
#define adoptable(me, t) (t != me && registered[t] && list[t])
#else
#define adoptable(me, t) (t != me && lapsed(t) && list[t] && mark[t] != ALIVE)
#endif
#ifdef PRUNE_EARLY                                               /* breaks server.takeover.prunes */
#define prunable(me, t) (t != me && lapsed(t) && mark[t] == EMPTIED && !list[t])
#else
#define prunable(me, t) (t != me && lapsed(t) && mark[t] == EMPTIED && !list[t] && !late_claim[t] && claim[t] != SENT)
#endif
#ifdef NO_STRAY_LOOK                                             /* breaks server.takeover.own-list */
#define stray(me) false
#else
#define stray(me) (has_lease(me) && (list[me] & ~in_hands(me)))
#endif
#define due(me) (!renewed(me) || second[me] || stray(me) || markable(me, 0) || markable(me, 1) || markable(me, 2) \
  || (hand_free(me) && (adoptable(me, 0) || adoptable(me, 1) || adoptable(me, 2))))
#ifdef CLAIM_FIRST                                               /* breaks server.takeover.first */
#define may_claim(me) true
#else
#define may_claim(me) (!calm || !due(me))
#endif

inline require(property, condition) {
  if
  :: (condition)
  :: else -> printf("violated: %e\n", property); assert(false)
  fi
}
inline any_of(set) { if :: has(set, 0) -> job = 0 :: has(set, 1) -> job = 1 :: has(set, 2) -> job = 2 fi }
inline require_never_lost() {
  require(never_lost, ((queue | published | list[0] | list[1] | list[2]) & EVERY_JOB) == EVERY_JOB)
}
inline start(it) {
  printf("server %d: runs job %d\n", me, it);
  runs[it]++;
  require(rerun_after_fault, runs[it] <= 1 + happened);
  drop(have[me], it); add(ran[me], it)
}
/* The connection is gone; what it had sent is lost, or is executed at any time later. */
inline cut_off() {
  if
  :: claim[me] == SENT -> unanswered[me] = true; if :: late_claim[me] = true :: skip fi
  :: claim[me] == MOVED -> unanswered[me] = true
  :: claim[me] == ADOPTING -> unanswered[me] = true; if :: late_adoption[me] = 1 + target[me] :: skip fi
  :: else
  fi;
  claim[me] = NONE; reply[me] = 0; target[me] = 0; second[me] = true
}
inline next_life() { unanswered[me] = false; born[me] = false; token[me]++; phase[me] = START }
inline forget() { have[me] = 0; ran[me] = 0; sent[me] = 0; robbed[me] = false }
/* The script `adopt`, as Redis executes it; `job` is what it moved, or JOBS. */
inline adopt(t) {
  job = JOBS;
  if
#ifdef UNFENCED_ADOPTER                                          /* breaks server.takeover.only-lapsed */
  :: adoptable(me, t) ->
#else
  :: adoptable(me, t) && has_lease(me) ->
#endif
       require(robbed_after_lapse, phase[t] != SERVE || robbed[t]);
       any_of(list[t]);
#ifndef COPY_NOT_MOVE                                            /* breaks server.takeover.adopts */
       drop(list[t], job);
#endif
#ifdef POP_THEN_ADOPT                                            /* breaks server.takeover.adopts */
       require_never_lost();
#endif
       add(list[me], job);
       if :: list[t] == 0 && mark[t] == LAPSED -> mark[t] = EMPTIED :: else fi;
       printf("redis: server %d adopts job %d of server %d\n", me, job, t)
  :: else
  fi;
  require_never_lost()
}
/* An adoption is a claim, and none is sent while another one is outstanding. */
#define SCAN(t) \
  :: atomic { phase[me] == SERVE && claim[me] == NONE && hand_free(me) && renewed(me) && adoptable(me, t) -> \
       claim[me] = ADOPTING; target[me] = t } \
  :: atomic { phase[me] == SERVE && markable(me, t) -> \
       printf("server %d: marks server %d as lapsed\n", me, t); mark[t] = LAPSED } \
  :: atomic { phase[me] == SERVE && emptied(me, t) -> mark[t] = EMPTIED } \
  :: atomic { phase[me] == SERVE && prunable(me, t) -> \
       printf("server %d: prunes server %d\n", me, t); registered[t] = false; mark[t] = ALIVE }

proctype server(byte me) {
end:
  do
  /* acquire: SET NX, GET, HSET */
  :: atomic { phase[me] == START && (lease[me] == 0 || has_lease(me)) ->
       printf("server %d: has the lease\n", me);
       lease[me] = token[me]; robbed[me] = false;
       if :: !born[me] -> born[me] = true; made[me] = !registered[me] :: else fi;
#if defined(NO_REGISTER_AGAIN)                                   /* breaks server.takeover.registers */
       if :: second[me] -> skip :: else -> registered[me] = true fi;
#elif !defined(CLAIM_BEFORE_REGISTER)                            /* breaks server.takeover.registers */
       registered[me] = true;
#endif
       mark[me] = ALIVE; phase[me] = LOOK }
#ifdef CLAIM_BEFORE_REGISTER
  :: atomic { phase[me] == SERVE && has_lease(me) && !registered[me] -> registered[me] = true }
#endif
#ifdef LOOK_BEFORE_LEASE                                         /* breaks server.takeover.lease-first */
  :: atomic { phase[me] == START && !has_lease(me) && (list[me] & ~in_hands(me)) ->
       printf("server %d: looks without the lease\n", me);
       have[me] = list[me] & ~(ran[me] | sent[me]) }
  :: atomic { phase[me] == START && have[me] && size(ran[me] | sent[me]) < HANDS -> any_of(have[me]); start(job) }
#endif
  /* look: LRANGE while no claim is outstanding; what is gone isn't started */
  :: atomic { phase[me] == LOOK && claim[me] == NONE ->
       printf("server %d: looks at its list\n", me);
       have[me] = list[me] & ~(ran[me] | sent[me]); phase[me] = SERVE }
  :: atomic { phase[me] == SERVE && claim[me] == NONE && second[me] -> second[me] = false; phase[me] = LOOK }
  :: atomic { phase[me] == SERVE && claim[me] == NONE && stray(me) ->
       printf("server %d: looks again\n", me); phase[me] = LOOK }
  /* renew, a script, finds the lease gone; the claim's reply is awaited first */
  :: atomic { phase[me] == SERVE && claim[me] == NONE && !renewed(me) ->
       printf("server %d: finds its lease gone\n", me); phase[me] = START }
  /* run, publish, remove */
  :: atomic { phase[me] == SERVE && have[me] && size(ran[me] | sent[me]) < HANDS -> any_of(have[me]); start(job) }
  :: atomic { phase[me] == SERVE && ran[me] ->
       any_of(ran[me]); printf("server %d: publishes job %d\n", me, job);
       drop(ran[me], job); add(published, job); add(sent[me], job) }
  :: atomic { phase[me] == SERVE && sent[me] ->
       any_of(sent[me]); drop(sent[me], job); drop(list[me], job); require_never_lost() }
  /* claim: the check against the local clock, then the command */
  :: atomic { phase[me] == SERVE && claim[me] == NONE && hand_free(me) && renewed(me) && may_claim(me) ->
       claim[me] = SENT }
  :: atomic { claim[me] == SENT && !queue && due(me) -> claim[me] = NONE }
  :: atomic { claim[me] == MOVED && phase[me] == SERVE ->
       if :: renewed(me) -> add(have[me], reply[me]) :: else -> phase[me] = START fi;
       claim[me] = NONE; reply[me] = 0 }
  SCAN(0)
  SCAN(1)
  SCAN(2)
  /* a graceful stop, for good, or before it starts again under its name; `release` is a script */
  :: atomic { !calm && phase[me] == SERVE && claim[me] == NONE && !in_hands(me) && (me > 0 || fault_possible) ->
       printf("server %d: stops\n", me);
       if
       :: has_lease(me) -> lease[me] = 0
       :: faults > 1 -> fault(); late_release[me] = token[me]   /* its connection is lost */
       :: else
       fi;
#if defined(OWNER_PRUNES)                                        /* breaks server.takeover.own-registration */
       if :: !list[me] -> registered[me] = false :: else fi;
#elif defined(OWNER_PRUNES_ANSWERED)                             /* breaks server.takeover.own-registration */
       if :: !list[me] && !unanswered[me] -> registered[me] = false :: else fi;
#elif defined(OWNER_PRUNES_FRESH)                                /* breaks server.takeover.own-registration */
       if :: !list[me] && made[me] -> registered[me] = false :: else fi;
#else
       if :: !list[me] && made[me] && !unanswered[me] -> registered[me] = false :: else fi;
#endif
       forget();
       if
       :: me > 0 -> phase[me] = DOWN
       :: fault_possible -> fault(); next_life()
       fi }
  /* faults */
  :: atomic { phase[me] != DOWN && fault_possible -> fault(); cut_off(); forget();
       if
       :: printf("server %d: dies, and comes back\n", me);
          next_life()
       :: me > 0 -> printf("server %d: dies for good\n", me); phase[me] = DOWN
       fi }
  :: atomic { phase[me] != DOWN && fault_possible ->
       printf("server %d: loses its connections\n", me);
       fault(); cut_off(); have[me] = 0; ran[me] = ran[me] | sent[me]; sent[me] = 0; phase[me] = START }
  :: atomic { phase[me] != DOWN && has_lease(me) && fault_possible ->
       printf("server %d: is paused, and its lease ends\n", me);
       fault(); robbed[me] = true; lease[me] = 0 }
  od
}

/* Redis, the network, and time. */
proctype world(byte me) {
end:
  do
  :: atomic { claim[me] == SENT && queue ->
       any_of(queue); drop(queue, job); add(list[me], job);
       printf("redis: moves job %d to the list of server %d\n", job, me); claim[me] = MOVED; reply[me] = job }
  :: atomic { late_claim[me] ->
       late_claim[me] = false;
       if
       :: queue -> any_of(queue); drop(queue, job); add(list[me], job);
            printf("redis: a late claim moves job %d to the list of server %d\n", job, me)
       :: skip
       fi }
  :: atomic { claim[me] == ADOPTING ->
       adopt(target[me]); target[me] = 0;
       if :: job < JOBS -> claim[me] = MOVED; reply[me] = job :: else -> claim[me] = NONE fi }
  :: atomic { late_adoption[me] -> whose = late_adoption[me] - 1; late_adoption[me] = 0; if :: adopt(whose) :: skip fi }
  :: atomic { late_release[me] ->
#ifdef BLIND_RELEASE                                             /* breaks server.takeover.releases */
       if :: true ->
#else
       if :: lease[me] == late_release[me] ->
#endif
            printf("redis: a late release deletes the lease of server %d\n", me); lease[me] = 0
       :: else
       fi;
       late_release[me] = 0 }
  :: atomic { lease[me] && (phase[me] == DOWN || !has_lease(me)) ->
       printf("redis: the lease of a life of server %d that is over ends\n", me); lease[me] = 0 }
  od
}

/* A lagging replica is promoted: Redis is as it was at an earlier moment. */
byte then_queue, then_list[3], then_lease[3], then_mark[3];
bool then_registered[3];
proctype replica() {
end:
  atomic { !calm -> then_queue = queue;
    for (whose : 0 .. 2) {
      then_list[whose] = list[whose]; then_lease[whose] = lease[whose];
      then_registered[whose] = registered[whose]; then_mark[whose] = mark[whose] } }
end_promoted:
  atomic { !calm -> happened++; printf("redis: a lagging replica is promoted\n");
    queue = then_queue;
    for (whose : 0 .. 2) {
      list[whose] = then_list[whose]; lease[whose] = then_lease[whose];
      registered[whose] = then_registered[whose]; mark[whose] = then_mark[whose];
      late_claim[whose] = false; late_adoption[whose] = 0; late_release[whose] = 0;
      if
      :: phase[whose] != DOWN ->
           if :: claim[whose] != NONE -> unanswered[whose] = true :: else fi;
           claim[whose] = NONE; reply[whose] = 0; target[whose] = 0; second[whose] = true; robbed[whose] = true;
           have[whose] = 0; ran[whose] = ran[whose] | sent[whose]; sent[whose] = 0;
#ifdef RENEWS_ELSEWHERE
           if :: phase[whose] == SERVE -> elsewhere[whose] = true :: else -> phase[whose] = START fi
#else
           phase[whose] = START
#endif
      :: else
      fi } }
}

init {
  atomic {
    phase[0] = START; run server(0); run world(0);
    phase[1] = START; run server(1); run world(1);
    if :: SERVERS > 2 -> phase[2] = START; run server(2); run world(2) :: else fi;
    if :: ROLLBACK -> run replica() :: else fi
  }
progress_faults:
  atomic { calm = true; faults = 0; printf("everybody: no fault happens from here on\n") };
  timeout -> printf("everybody: all is idle\n");
  require(empty_when_quiet, !(queue | list[0] | list[1] | list[2]))
}
