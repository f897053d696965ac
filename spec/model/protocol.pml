/*
 * The JobQueue protocol as Redis, its clients and its servers live it, with a fault at every step.
 *
 * One transition is one command that Redis executes, one reply that is read, or one fault. Lists are
 * sets of jobs: a claim takes any waiting job, so what holds here holds in every order. This file has
 * the parameters, the properties and the end; redis.pml, client.pml and server.pml have one party
 * each. A known bug is one #ifdef, next to the requirement that it breaks. README.md says what is left
 * out; check.py runs it all.
 */

#ifndef JOBS
#define JOBS 3
#endif
#ifndef FAULTS
#define FAULTS 2                  /* how many faults may happen; 0: any number */
#endif
#ifndef HANDS
#define HANDS 2                   /* how many jobs a server runs at once */
#endif
#ifndef MALFORMED
#define MALFORMED NONE            /* the message that no server can answer */
#endif
#ifndef FORBIDDEN
#define FORBIDDEN NONE            /* the job on whose channel Redis forbids every server to publish */
#endif

#define CLIENTS 2
#define SERVERS 2
#define NONE JOBS                 /* no job */
#define one(job) (1 << (job))
#define has(set, job) (((set) >> (job)) & 1)
#define add(set, job) set = set | one(job)
#define drop(set, job) set = set & ~one(job)
#define EVERY_JOB (one(JOBS) - 1)

mtype = {
  never_lost,                     /* an accepted job is always in the queue, on a list, dead or answered */
  empty_when_quiet,               /* when all is idle, the queue and the lists are empty */
  settled_when_quiet,             /* when all is idle, every job is settled, unless it is dead */
  settled_once,                   /* a client settles each job once */
  refused_stays,                  /* a removal never takes effect where its PUBLISH was refused */
  rerun_after_fault,              /* a job runs again only where a fault made its server forget the run */
  runs_once                       /* each job runs once: not promised, and refuted */
}
/* One more, comes_to_rest, is not an assertion but a search for cycles: once faults have stopped, all
   becomes quiet. With what holds when all is idle it says that everything is finished at last, and
   assumes nothing about who moves when. */

/* For the properties alone: the jobs whose push Redis accepted, those whose every push it refused
   PUBLISH so far, and those that ran and whose server still knows it. */
byte accepted, refused, ran;

byte faults = (FAULTS == 0 -> 1 : FAULTS);
#define fault_possible (faults > 0)
#define fault() faults = faults - (FAULTS > 0)

hidden byte job;                  /* scratch of one transition */

#ifdef EXACTLY_ONCE
byte ever_ran;
#endif
#ifdef CRASH_TABLE                /* one death, and a row for each place in which it can leave the job */
byte runs, results, died, queue_then, list_then, dead_then, runs_then, results_then;
#endif

inline require(property, condition) {
  if
  :: (condition)
  :: else -> printf("violated: %e\n", property); assert(false)
  fi
}

inline any_of(set) {
  if
  :: has(set, 0) -> job = 0
  :: has(set, 1) -> job = 1
  :: has(set, 2) -> job = 2
  fi
}

#include "redis.pml"
#include "client.pml"
#include "server.pml"

/* Calm begins at any moment: no fault happens from then on, and everybody comes back. When nothing
   can move any more, all is idle. */
init {
  atomic { run client(0); run client(1); run server(0); run server(1); run wire(0); run wire(1) };
progress_faults:
  atomic { faults = 0; printf("everybody: no fault happens from here on\n") };
  timeout -> printf("everybody: all is idle\n");
#ifdef CRASH_TABLE
  if
  :: died ->
       printf("row %d %d %d %d %d %d %d\n",
              queue_then, list_then, dead_then, runs_then, results_then, runs, results - results_then)
  :: else
  fi;
#endif
  require(empty_when_quiet, !(queue | ON_A_LIST));
  require(settled_when_quiet, (settled | (pending & dead)) == EVERY_JOB)
}
