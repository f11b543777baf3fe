/* What a parallel loop costs by itself: many loops whose tasks do nothing but wait for each other, so that all threads
 * take part; beside them, the same loops on the caller alone.
 *
 *     cc -O2 -pthread -I sqc/runtime examples/regions.c sqc/runtime/threads.c sqc/runtime/cpus.c -o regions
 *     ./regions [threads [rounds]]
 *
 * Rounds of both kinds take turns; printed are the best and the median round, in nanoseconds a loop. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sqc_threads.h"

enum { LOOPS = 100 };

/* Of the rest of the runtime, which belongs to a model, the pool needs only its errors. */
void sqc_set_error(const char *format, ...) { (void)format; }
const char *sqc_last_error(void) { return ""; }

static _Atomic int arrived;
static int met; /* tasks of the loops before */

static int meet(int task, sqc_environment *of_all, void *data) {
    (void)task, (void)data;
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) < met + of_all->num_task) __builtin_ia32_pause();
    return 0;
}

static void loops(int count, int threads) {
    for (int i = 0; i < count; i++) {
        TVMBackendParallelLaunch(meet, NULL, 0);
        met += threads;
    }
}

static double nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static double round_of(sqc_pool *pool) {
    int threads = sqc_pool_threads(pool);
    sqc_cores *cores = sqc_pool_enter(pool);
    arrived = met = 0;
    loops(LOOPS / 10, threads); /* wakes the workers */
    double start = nanoseconds();
    loops(LOOPS, threads);
    double end = nanoseconds();
    sqc_pool_leave(pool, cores);
    return (end - start) / LOOPS;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments) {
    int threads = count > 1 ? atoi(arguments[1]) : 2, rounds = count > 2 ? atoi(arguments[2]) : 2000;
    sqc_pool *pool = sqc_pool_create(), *alone = sqc_pool_create();
    double *times[2] = {malloc((size_t)rounds * sizeof(double)), malloc((size_t)rounds * sizeof(double))};
    if (threads < 1 || threads > SQC_MAX_THREADS || rounds < 1 || !pool || !alone || !times[0] || !times[1]) return 1;
    if (sqc_pool_resize(pool, threads)) return 1;
    for (int i = 0; i < rounds; i++) {
        times[0][i] = round_of(alone);
        times[1][i] = round_of(pool);
    }
    for (int i = 0; i < 2; i++) {
        qsort(times[i], (size_t)rounds, sizeof(double), by_value);
        printf("%3d thread(s): best %6.0f ns, median %6.0f ns a loop\n", i ? threads : 1, times[i][0],
               times[i][rounds / 2]);
        free(times[i]);
    }
    sqc_pool_destroy(pool);
    sqc_pool_destroy(alone);
    return 0;
}
