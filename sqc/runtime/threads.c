/* Worker threads that run the parallel loops of kernels.
 *
 * A parallel loop becomes a job of one slot per thread. Its launch costs one store when the workers are spinning, plus
 * a system call when some sleep. Every worker claims its own slot first and then any that nobody has claimed, and so
 * does the launching thread: a loop never waits for a worker that has yet to wake up.
 *
 * Kernels split a loop by slot, not by thread, so that who runs a slot changes nothing in the results.
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
#include <unistd.h>
#include <xmmintrin.h>

/* How long a waiting thread spins before it sleeps, in ticks of the time stamp counter (2 to 4 in a nanosecond): longer
 * inside a run, where the next loop is near. */
enum { SPIN_BETWEEN_RUNS = 300 * 1000, SPIN_INSIDE_RUN = 3000 * 1000, WORKER_STACK_BYTES = 1 << 20 };

/* TVM's interface of parallel loops. */
typedef struct {
    void *sync_handle;
    int32_t num_task;
} parallel_environment;
typedef int parallel_body(int task, parallel_environment *environment, void *data);

typedef struct {
    _Alignas(64) _Atomic uint32_t claimed; /* the last job in which somebody took this slot */
    pthread_t thread;
    sqc_pool *pool;
    uint32_t first_job;
} slot;

struct sqc_pool {
    _Alignas(64) _Atomic uint32_t job; /* counts launches; workers wait for it to change */
    _Atomic int sleepers;
    _Alignas(64) _Atomic uint32_t pending; /* slots of the job not finished yet */
    _Atomic int owner_sleeps;
    _Alignas(64) _Atomic int busy; /* held by one run, or by a change of the number of threads */
    _Atomic int threads;           /* as asked for */
    int slots;                     /* running: the launching thread and the workers */
    _Atomic bool stopping;
    bool spins; /* waiting threads spin at first; not where they outnumber the processors */
    parallel_body *body;
    void *data;
    int tasks;
    _Atomic int failed;
    char message[SQC_MESSAGE_BYTES]; /* of the first task that failed */
    sqc_pool *next;
    slot slot[SQC_MAX_THREADS];
};

static _Thread_local sqc_pool *current;

/* Waiting --------------------------------------------------------------------------------------------------------- */

static void futex_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int threads) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, threads, NULL, NULL, 0);
}

static bool keep_spinning(sqc_pool *pool, uint64_t start) {
    if (!pool->spins) return false;
    bool inside = atomic_load_explicit(&pool->busy, memory_order_relaxed);
    __builtin_ia32_pause();
    return __builtin_ia32_rdtsc() - start < (inside ? SPIN_INSIDE_RUN : SPIN_BETWEEN_RUNS);
}

static uint32_t wait_for_job(sqc_pool *pool, uint32_t last) {
    uint64_t start = __builtin_ia32_rdtsc();
    uint32_t job;
    while ((job = atomic_load_explicit(&pool->job, memory_order_acquire)) == last)
        if (!keep_spinning(pool, start)) break;
    if (job != last) return job;
    atomic_fetch_add(&pool->sleepers, 1);
    while ((job = atomic_load(&pool->job)) == last) futex_wait(&pool->job, last);
    atomic_fetch_sub(&pool->sleepers, 1);
    return job;
}

static void wait_for_slots(sqc_pool *pool) {
    uint64_t start = __builtin_ia32_rdtsc();
    uint32_t pending;
    while ((pending = atomic_load_explicit(&pool->pending, memory_order_acquire)) != 0) {
        if (keep_spinning(pool, start)) continue;
        atomic_store(&pool->owner_sleeps, 1);
        if ((pending = atomic_load(&pool->pending)) != 0) futex_wait(&pool->pending, pending);
    }
    atomic_store_explicit(&pool->owner_sleeps, 0, memory_order_relaxed);
}

static void announce_job(sqc_pool *pool) {
    atomic_fetch_add(&pool->job, 1);
    if (atomic_load(&pool->sleepers)) futex_wake(&pool->job, SQC_MAX_THREADS);
}

/* Jobs ------------------------------------------------------------------------------------------------------------ */

static bool claim(slot *slot, uint32_t job) {
    uint32_t last = atomic_load_explicit(&slot->claimed, memory_order_relaxed);
    if ((int32_t)(last - job) >= 0) return false;
    return atomic_compare_exchange_strong(&slot->claimed, &last, job);
}

static int run_tasks(parallel_body *body, void *data, int first, int stride, int tasks) {
    parallel_environment environment = {.sync_handle = NULL, .num_task = tasks};
    for (int task = first; task < tasks; task += stride)
        if (body(task, &environment, data)) return -1;
    return 0;
}

/* A claim succeeds only while the job is unfinished, so what it reads of the job cannot change under it. */
static void run_slots(sqc_pool *pool, int own, uint32_t job) {
    int slots = pool->slots;
    for (int i = 0; i < slots; i++) {
        int index = (own + i) % slots;
        if (!claim(&pool->slot[index], job)) continue;
        if (run_tasks(pool->body, pool->data, index, slots, pool->tasks) && !atomic_exchange(&pool->failed, 1))
            strncpy(pool->message, sqc_last_error(), sizeof pool->message - 1);
        if (atomic_fetch_sub(&pool->pending, 1) == 1 && atomic_load(&pool->owner_sleeps)) futex_wake(&pool->pending, 1);
    }
}

static void *work(void *argument) {
    slot *self = argument;
    sqc_pool *pool = self->pool;
    uint32_t job = self->first_job;
    _mm_setcsr(SQC_DEFAULT_MXCSR);
    for (;;) {
        job = wait_for_job(pool, job);
        if (pool->stopping) return NULL;
        run_slots(pool, (int)(self - pool->slot), job);
    }
}

int TVMBackendParallelLaunch(parallel_body *body, void *data, int tasks) {
    sqc_pool *pool = current;
    if (!pool || tasks == 1) return run_tasks(body, data, 0, 1, tasks > 0 ? tasks : 1);
    pool->body = body;
    pool->data = data;
    pool->tasks = tasks > 0 ? tasks : pool->slots;
    atomic_store_explicit(&pool->failed, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->pending, (uint32_t)pool->slots, memory_order_relaxed);
    announce_job(pool);
    current = NULL; /* a loop inside a loop is serial */
    run_slots(pool, 0, atomic_load_explicit(&pool->job, memory_order_relaxed));
    wait_for_slots(pool);
    current = pool;
    if (!atomic_load_explicit(&pool->failed, memory_order_relaxed)) return 0;
    sqc_set_error("%s", pool->message);
    return -1;
}

int (*__TVMBackendParallelLaunch)(parallel_body *, void *, int) = TVMBackendParallelLaunch;

/* Workers; whoever calls holds the pool ---------------------------------------------------------------------------- */

static void stop_workers(sqc_pool *pool) {
    pool->stopping = true;
    announce_job(pool);
    for (int i = 1; i < pool->slots; i++) pthread_join(pool->slot[i].thread, NULL);
    pool->stopping = false;
    pool->slots = 1;
}

static bool start_workers(sqc_pool *pool, int threads) {
    sigset_t all, before;
    pthread_attr_t attributes;
    uint32_t job = atomic_load(&pool->job);
    bool started = true;
    pool->spins = threads <= sqc_available_cpus();
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
    sigfillset(&all); /* signals are the application's own threads' business */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_store(&pool->slot[0].claimed, job);
    int count = 1;
    for (; count < threads; count++) {
        slot *slot = &pool->slot[count];
        slot->pool = pool;
        slot->first_job = job;
        atomic_store(&slot->claimed, job);
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
        atomic_store(&pool->sleepers, 0);
        atomic_store(&pool->pending, 0);
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
    int idle = 0;
    while (!atomic_compare_exchange_weak(&pool->busy, &idle, 1)) {
        idle = 0;
        sched_yield();
    }
    stop_workers(pool);
    bool started = start_workers(pool, threads);
    if (!started) sqc_set_error("the system allowed only %d of %d threads", pool->slots, threads);
    atomic_store(&pool->threads, pool->slots);
    atomic_store(&pool->busy, 0);
    return started ? SQC_OK : SQC_NO_THREAD;
}

int sqc_pool_threads(const sqc_pool *pool) { return atomic_load(&pool->threads); }

bool sqc_pool_acquire(sqc_pool *pool) {
    int idle = 0;
    int threads = atomic_load_explicit(&pool->threads, memory_order_relaxed);
    if (threads == 1 || !atomic_compare_exchange_strong(&pool->busy, &idle, 1)) return false;
    if (pool->slots == 1) start_workers(pool, threads);
    current = pool;
    return true;
}

void sqc_pool_release(sqc_pool *pool) {
    current = NULL;
    atomic_store_explicit(&pool->busy, 0, memory_order_release);
}
