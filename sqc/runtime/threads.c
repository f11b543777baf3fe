/* Worker threads that run the parallel loops of kernels.
 *
 * A parallel loop becomes a job of one slot per thread, which holds a run of the loop's tasks. Its launch costs a few
 * stores when the workers are spinning, plus a system call for each that sleeps. Every thread takes tasks from the
 * front of its own slot first, less and less at a time, then from the back of the others: a loop waits neither for a
 * worker that has yet to wake up nor for one whose core is slower or busy with something else, and neighbouring tasks
 * stay with one core, whose cache holds what they share.
 *
 * Kernels split a loop by task, not by thread, so that who runs a task changes nothing in the results; nor does the
 * number of tasks. So a run takes no more threads than the cores that other runs leave it (sqc_cores), loop by loop.
 */
#define _GNU_SOURCE
#include "sqc_threads.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <xmmintrin.h>

enum {
    DEFAULT_SPIN_MICROSECONDS = 200,
    PAUSES_PER_LOOK = 32,
    WORKER_STACK_BYTES = 1 << 20,
    TASKS_PER_SLOT = 32 /* that suffice for balance; up to twice as many where iterations don't divide evenly */
};

typedef struct {
    sqc_loop_body *body;
    void *data;
    int tasks;
    int blocks; /* tasks of one part of the channels, if they are shared out by blocks; else 1 */
    _Atomic int done;
    _Atomic int failed;
    char message[SQC_MESSAGE_BYTES]; /* of the first task that failed */
} parallel_loop;

typedef struct {
    _Alignas(64) _Atomic uint64_t left;   /* tasks that nobody has taken: the first, and above it the end */
    _Alignas(64) _Atomic uint32_t asleep; /* apart, because every launch reads it */
    int index;
    pthread_t thread;
    sqc_pool *pool;
    uint64_t first_job;
} slot;

struct sqc_pool {
    _Alignas(64) _Atomic uint64_t job; /* counts launches; the lowest byte holds the slots of the last one */
    _Atomic int core; /* that the last launch came from */
    _Alignas(64) _Atomic uint32_t pending; /* tasks of the job not finished yet */
    _Atomic int owner_sleeps;
    _Alignas(64) parallel_loop *loop;
    _Alignas(64) _Atomic int busy; /* held by one run, or by a change of the pool */
    _Atomic int threads;           /* as asked for */
    _Atomic int team;              /* threads that the run holding the pool counts in cores, itself included */
    _Atomic int cpus;              /* that this process may use, when the threads were set */
    _Atomic int spin;              /* microseconds */
    _Atomic bool stopping;
    int slots; /* running: the launching thread and the workers */
    _Atomic(sqc_cores *) cores;
    sqc_parallel_for *parallel_for; /* the caller's, or NULL */
    void *context;
    sqc_pool *next;
    slot slot[SQC_MAX_THREADS];
};

static _Thread_local sqc_pool *current;
static _Thread_local int thread; /* of the pool */
static _Thread_local struct { int count, blocks; } announced; /* of the next loop; 0 if unknown */

/* Cores ----------------------------------------------------------------------------------------------------------- */

/* Shared by the handles of this library until they are told to share with others. */
static sqc_cores library_cores;

/* The count of threads in runs: in the middle of its struct, so that nothing else lies on its cache line wherever the
 * caller puts it. */
static _Atomic int32_t *running(sqc_cores *cores) { return (_Atomic int32_t *)&cores->reserved[16]; }

static _Atomic int32_t *running_beside(sqc_pool *pool) {
    return running(atomic_load_explicit(&pool->cores, memory_order_relaxed));
}

/* Fits the team to what other runs leave, but for a run alone that is what was asked for; returns its size. */
static int fit_team(sqc_pool *pool) {
    _Atomic int32_t *count = running_beside(pool);
    int team = atomic_load_explicit(&pool->team, memory_order_relaxed);
    int threads = atomic_load_explicit(&pool->threads, memory_order_relaxed);
    int cpus = atomic_load_explicit(&pool->cpus, memory_order_relaxed);
    int room = team + (cpus > threads ? cpus : threads) - atomic_load_explicit(count, memory_order_relaxed);
    int fit = room < 1 ? 1 : room < pool->slots ? room : pool->slots;
    if (fit == team) return team;
    atomic_fetch_add(count, fit - team);
    atomic_store_explicit(&pool->team, fit, memory_order_relaxed);
    return fit;
}

/* Waiting --------------------------------------------------------------------------------------------------------- */

typedef struct {
    unsigned pauses;
    int64_t start;
} spin;

static int64_t nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Whether the thread of a slot should wait on awake: for as long as told, and while no run lacks the core. */
static bool keep_spinning(spin *spin, sqc_pool *pool, int index) {
    __builtin_ia32_pause();
    if (spin->pauses++ % PAUSES_PER_LOOK) return true;
    int64_t most = (int64_t)1000 * atomic_load_explicit(&pool->spin, memory_order_relaxed);
    int threads = atomic_load_explicit(running_beside(pool), memory_order_relaxed);
    if (index >= atomic_load_explicit(&pool->team, memory_order_relaxed)) threads += index; /* not counted in there */
    if (most == 0 || threads > atomic_load_explicit(&pool->cpus, memory_order_relaxed)) return false;
    int64_t now = nanoseconds();
    if (spin->pauses == 1) spin->start = now;
    return now - spin->start < most;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

static uint64_t wait_for_job(slot *self, uint64_t last) {
    sqc_pool *pool = self->pool;
    spin spin = {0};
    uint64_t job;
    while ((job = atomic_load_explicit(&pool->job, memory_order_acquire)) == last)
        if (!keep_spinning(&spin, pool, self->index)) break;
    if (job != last) return job;
    do {
        atomic_store(&self->asleep, 1);
        if (atomic_load(&pool->job) == last) futex_wait(&self->asleep, 1);
    } while ((job = atomic_load(&pool->job)) == last);
    atomic_store_explicit(&self->asleep, 0, memory_order_relaxed);
    return job;
}

static void wait_for_tasks(sqc_pool *pool) {
    spin spin = {0};
    uint32_t pending;
    while ((pending = atomic_load_explicit(&pool->pending, memory_order_acquire)) != 0) {
        if (keep_spinning(&spin, pool, 0)) continue;
        atomic_store(&pool->owner_sleeps, 1);
        if ((pending = atomic_load(&pool->pending)) != 0) futex_wait(&pool->pending, pending);
        atomic_store_explicit(&pool->owner_sleeps, 0, memory_order_relaxed);
    }
}

static uint64_t announce_job(sqc_pool *pool, int slots) {
    uint64_t job = (atomic_load_explicit(&pool->job, memory_order_relaxed) | 255) + 1 + (uint64_t)slots;
    atomic_store_explicit(&pool->core, sched_getcpu(), memory_order_relaxed);
    atomic_store(&pool->job, job);
    for (int i = 1; i < slots; i++) {
        _Atomic uint32_t *asleep = &pool->slot[i].asleep;
        if (atomic_load(asleep) && atomic_exchange(asleep, 0)) futex_wake(asleep);
    }
    return job;
}

/* Takes this thread away from a core, if it is there and may run on others: it would wait there for the thread that
 * launches, or that one for it. Schedulers that save power or pack virtual processors let threads share a core while
 * others are idle. */
static void leave_core(int core) {
    cpu_set_t allowed, others;
    if (sched_getcpu() != core || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    others = allowed;
    CPU_CLR(core, &others);
    if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others))
        sched_setaffinity(0, sizeof allowed, &allowed);
}

/* Jobs ------------------------------------------------------------------------------------------------------------ */

/* Tasks that a thread takes at once. */
typedef struct {
    uint32_t first, end;
} task_range;

static uint64_t range(uint32_t first, uint32_t end) { return (uint64_t)end << 32 | first; }

/* Takes a part of a slot's tasks, from the front or the back: much while much is left, so that few exchanges do. */
static task_range take(slot *slot, bool front) {
    uint64_t left = atomic_load_explicit(&slot->left, memory_order_acquire);
    for (;;) {
        uint32_t first = (uint32_t)left, end = (uint32_t)(left >> 32);
        if (first == end) return (task_range){0, 0};
        uint32_t count = 1 + (end - first) / 4;
        task_range taken = front ? (task_range){first, first + count} : (task_range){end - count, end};
        uint64_t rest = front ? range(taken.end, end) : range(first, taken.first);
        if (atomic_compare_exchange_weak(&slot->left, &left, rest)) return taken;
    }
}

static void run_tasks(parallel_loop *loop, task_range range) {
    sqc_environment environment = {.sync_handle = NULL, .num_task = loop->tasks};
    int parts = loop->tasks / loop->blocks;
    for (uint32_t i = range.first; i < range.end; i++) {
        int task = (int)i % parts * loop->blocks + (int)i / parts;
        if (loop->body(task, &environment, loop->data) == 0) continue;
        if (!atomic_exchange(&loop->failed, 1)) strcpy(loop->message, sqc_last_error());
        return;
    }
}

/* Whoever holds tasks reads the loop that they are of, even if it came for an earlier one: it lasts until they end. */
static void run_slots(sqc_pool *pool, int own, int slots) {
    for (int i = 0; i < slots; i++) {
        slot *slot = &pool->slot[(own + i) % slots];
        uint32_t done = 0;
        for (task_range taken; (taken = take(slot, i == 0)).end; done += taken.end - taken.first)
            run_tasks(pool->loop, taken);
        if (done && atomic_fetch_sub(&pool->pending, done) == done && atomic_load(&pool->owner_sleeps))
            futex_wake(&pool->pending);
    }
}

static void *work(void *argument) {
    slot *self = argument;
    sqc_pool *pool = self->pool;
    uint64_t job = self->first_job;
    thread = self->index;
    _mm_setcsr(SQC_DEFAULT_MXCSR);
    for (;;) {
        job = wait_for_job(self, job);
        if (pool->stopping) return NULL;
        leave_core(atomic_load_explicit(&pool->core, memory_order_relaxed));
        if (self->index < (int)(job & 255)) run_slots(pool, self->index, (int)(job & 255));
    }
}

static void run_on_workers(sqc_pool *pool, parallel_loop *loop, int slots) {
    pool->loop = loop;
    atomic_store_explicit(&pool->pending, (uint32_t)loop->tasks, memory_order_relaxed);
    for (int i = 0, first = 0; i < slots; i++) {
        int end = first + (loop->tasks - first) / (slots - i);
        atomic_store_explicit(&pool->slot[i].left, range((uint32_t)first, (uint32_t)end), memory_order_release);
        first = end;
    }
    announce_job(pool, slots);
    run_slots(pool, 0, slots);
    wait_for_tasks(pool);
}

/* One task of a loop on a thread of the caller's. */
static void run_foreign_task(void *data, int task) {
    parallel_loop *loop = data;
    unsigned mxcsr = _mm_getcsr();
    _mm_setcsr(SQC_DEFAULT_MXCSR);
    run_tasks(loop, (task_range){(uint32_t)task, (uint32_t)task + 1});
    _mm_setcsr(mxcsr);
    atomic_fetch_add(&loop->done, 1);
}

static int run_on_callers_threads(sqc_pool *pool, parallel_loop *loop) {
    int status = pool->parallel_for(pool->context, loop->tasks, run_foreign_task, loop);
    int done = atomic_load(&loop->done);
    if (status) sqc_set_error("the function given to sqc_set_parallel_for returned %d", status);
    else if (done != loop->tasks)
        sqc_set_error("the function given to sqc_set_parallel_for ran %d of %d tasks", done, loop->tasks);
    else return 0;
    return -1;
}

/* How many tasks a loop of so many iterations makes: one each, or so many that the last to end costs little. */
static int count_tasks(int count, int slots) {
    if (count <= TASKS_PER_SLOT * slots) return count;
    int share = count / (TASKS_PER_SLOT * slots);
    return (count - 1) / share + 1;
}

int sqc_loop_threads(void) { return current && !current->parallel_for ? current->slots : 1; }
int sqc_loop_thread(void) { return thread; }

void sqc_announce_loop(int32_t count, int32_t blocks) {
    announced.count = count;
    announced.blocks = blocks;
}

int TVMBackendParallelLaunch(sqc_loop_body *body, void *data, int tasks) {
    sqc_pool *pool = current;
    int slots = !pool ? 1 : pool->parallel_for ? atomic_load(&pool->threads) : fit_team(pool);
    int count = announced.count;
    announced.count = 0;
    if (tasks == 0) tasks = count && slots > 1 && !pool->parallel_for ? count_tasks(count, slots) : slots;
    parallel_loop loop; /* its message is left as it is */
    loop.body = body;
    loop.data = data;
    loop.tasks = tasks;
    loop.blocks = count && tasks == count && slots > 1 ? announced.blocks : 1;
    atomic_init(&loop.done, 0);
    atomic_init(&loop.failed, 0);
    int status = 0;
    current = NULL; /* a loop inside a loop is serial */
    if (slots == 1 || tasks == 1) run_tasks(&loop, (task_range){0, (uint32_t)tasks});
    else if (pool->parallel_for) status = run_on_callers_threads(pool, &loop);
    else run_on_workers(pool, &loop, slots < tasks ? slots : tasks);
    current = pool;
    if (!atomic_load_explicit(&loop.failed, memory_order_relaxed)) return status;
    sqc_set_error("%s", loop.message);
    return -1;
}

int (*__TVMBackendParallelLaunch)(sqc_loop_body *, void *, int) = TVMBackendParallelLaunch;

/* Workers; whoever calls holds the pool ---------------------------------------------------------------------------- */

static void hold(sqc_pool *pool) {
    int idle = 0;
    while (!atomic_compare_exchange_weak(&pool->busy, &idle, 1)) {
        idle = 0;
        sched_yield();
    }
}

static void let_go(sqc_pool *pool) { atomic_store_explicit(&pool->busy, 0, memory_order_release); }

static void stop_workers(sqc_pool *pool) {
    pool->stopping = true;
    announce_job(pool, pool->slots);
    for (int i = 1; i < pool->slots; i++) pthread_join(pool->slot[i].thread, NULL);
    pool->stopping = false;
    pool->slots = 1;
}

static bool start_workers(sqc_pool *pool, int threads) {
    sigset_t all, before;
    pthread_attr_t attributes;
    uint64_t job = atomic_load(&pool->job);
    bool started = true;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
    sigfillset(&all); /* signals are the application's own threads' business */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int count = 1;
    for (; count < threads; count++) {
        slot *slot = &pool->slot[count];
        slot->index = count;
        slot->pool = pool;
        slot->first_job = job;
        atomic_store(&slot->asleep, 0);
        if (pthread_create(&slot->thread, &attributes, work, slot)) {
            started = false;
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    pool->slots = count; /* before the first job, which is what workers wait for */
    return started;
}

/* Pools ----------------------------------------------------------------------------------------------------------- */

/* A fork copies pools without their workers. The child forgets them, and starts new ones when a run wants them. */
static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t pools_once = PTHREAD_ONCE_INIT;
static sqc_pool *pools;

static void lock_pools(void) { pthread_mutex_lock(&pools_lock); }
static void unlock_pools(void) { pthread_mutex_unlock(&pools_lock); }

static void forget_workers(void) {
    for (sqc_pool *pool = pools; pool; pool = pool->next) {
        pool->slots = 1;
        pool->stopping = false;
        atomic_store(&pool->team, 1);
        atomic_store(running_beside(pool), 0);
        atomic_store(&pool->owner_sleeps, 0);
        atomic_store(&pool->busy, 0);
    }
    unlock_pools();
}

static void watch_forks(void) { pthread_atfork(lock_pools, unlock_pools, forget_workers); }

sqc_pool *sqc_pool_create(void) {
    sqc_pool *pool = aligned_alloc(64, sizeof *pool);
    if (!pool) return NULL;
    memset(pool, 0, sizeof *pool);
    pool->slots = 1;
    atomic_store(&pool->threads, 1);
    atomic_store(&pool->team, 1);
    atomic_store(&pool->spin, DEFAULT_SPIN_MICROSECONDS);
    atomic_store(&pool->cores, &library_cores);
    pthread_once(&pools_once, watch_forks);
    lock_pools();
    pool->next = pools;
    pools = pool;
    unlock_pools();
    return pool;
}

void sqc_pool_destroy(sqc_pool *pool) {
    stop_workers(pool);
    lock_pools();
    sqc_pool **link = &pools;
    while (*link != pool) link = &(*link)->next;
    *link = pool->next;
    unlock_pools();
    free(pool);
}

sqc_status sqc_pool_resize(sqc_pool *pool, int threads) {
    int cpus = sqc_available_cpus();
    hold(pool);
    stop_workers(pool);
    atomic_store(&pool->cpus, cpus);
    int count = threads ? threads : cpus;
    bool started = pool->parallel_for || start_workers(pool, count);
    if (!started) {
        sqc_set_error("the system allowed only %d of %d threads", pool->slots, count);
        count = pool->slots;
    }
    atomic_store(&pool->threads, count);
    let_go(pool);
    return started ? SQC_OK : SQC_NO_THREAD;
}

int sqc_pool_threads(const sqc_pool *pool) { return atomic_load(&pool->threads); }

void sqc_pool_set_spin(sqc_pool *pool, int microseconds) { atomic_store(&pool->spin, microseconds); }
int sqc_pool_spin(const sqc_pool *pool) { return atomic_load(&pool->spin); }

void sqc_pool_share_cores(sqc_pool *pool, sqc_cores *cores) {
    hold(pool);
    atomic_store(&pool->cores, cores ? cores : &library_cores);
    let_go(pool);
}

void sqc_pool_set_parallel_for(sqc_pool *pool, sqc_parallel_for *function, void *context) {
    hold(pool);
    stop_workers(pool); /* without a function of the caller's, the next run starts them again */
    pool->parallel_for = function;
    pool->context = context;
    let_go(pool);
}

sqc_cores *sqc_pool_enter(sqc_pool *pool) {
    int idle = 0;
    int threads = atomic_load_explicit(&pool->threads, memory_order_relaxed);
    sqc_cores *cores = atomic_load_explicit(&pool->cores, memory_order_relaxed);
    atomic_fetch_add(running(cores), 1);
    if (threads == 1 || !atomic_compare_exchange_strong(&pool->busy, &idle, 1)) return cores;
    if (pool->slots == 1 && !pool->parallel_for) start_workers(pool, threads);
    current = pool;
    return cores;
}

void sqc_pool_leave(sqc_pool *pool, sqc_cores *cores) {
    if (current) {
        atomic_fetch_sub(running_beside(pool), atomic_exchange(&pool->team, 1) - 1);
        current = NULL;
        let_go(pool);
    }
    atomic_fetch_sub(running(cores), 1);
}
