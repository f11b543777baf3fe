/* Everything at once, for sanitizers: pools that share cores run loops on several threads while others change their
 * size, spin time, sharing and threads; with an argument, then also in a forked process. Links with threads.c and
 * cpus.c. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sqc_threads.h"

enum { POOLS = 2, RUNNERS = 4, RUNS = 300, LOOPS = 4, ROWS = 96 };

static _Thread_local char error[SQC_MESSAGE_BYTES];
void sqc_set_error(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(error, sizeof error, format, values);
    va_end(values);
}
const char *sqc_last_error(void) { return error; }

static sqc_pool *pools[POOLS];
static sqc_cores shared;

/* Every loop adds one to each row, whose memory nothing but the loops themselves protects. */
static int add_one(int task, sqc_environment *of_all, void *data) {
    for (int row = task; row < ROWS; row += of_all->num_task) ((int *)data)[row]++;
    return 0;
}

static int refuse_last(int task, sqc_environment *of_all, void *data) {
    (void)data;
    if (task < of_all->num_task - 1) return 0;
    sqc_set_error("refused");
    return -1;
}

static void check(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "%s\n", what);
    _exit(1);
}

static void run(sqc_pool *pool) {
    int rows[ROWS] = {0};
    sqc_cores *cores = sqc_pool_enter(pool);
    for (int i = 0; i < LOOPS; i++) {
        if (i % 2) sqc_announce_loop(ROWS, i % 4 == 1 ? 1 : 2);
        check(TVMBackendParallelLaunch(add_one, rows, 0) == 0, "a loop failed");
    }
    check(TVMBackendParallelLaunch(refuse_last, NULL, 0) == -1, "a loop did not fail");
    check(strcmp(error, "refused") == 0, "the message was lost");
    sqc_pool_leave(pool, cores);
    for (int i = 0; i < ROWS; i++) check(rows[i] == LOOPS, "a row was run too often or not at all");
}

static void *runner(void *argument) {
    for (int i = 0; i < RUNS; i++) run(pools[(*(int *)argument + i / 10) % POOLS]);
    return NULL;
}

static int one_by_one(void *context, int count, sqc_task *task, void *data) {
    (void)context;
    for (int i = count; i-- > 0;) task(data, i);
    return 0;
}

static void *changer(void *argument) {
    (void)argument;
    for (int i = 0; i < RUNS / 10; i++) {
        sqc_pool *pool = pools[i % POOLS];
        sqc_pool_set_spin(pool, i % 3 * 100);
        check(sqc_pool_resize(pool, 1 + i % 4) == SQC_OK, "no threads");
        sqc_pool_share_cores(pool, i % 5 ? &shared : NULL);
        sqc_pool_set_parallel_for(pool, i % 7 ? NULL : one_by_one, NULL);
    }
    return NULL;
}

int main(int count, char **arguments) {
    (void)arguments;
    pthread_t threads[RUNNERS + 1];
    int numbers[RUNNERS];
    for (int i = 0; i < POOLS; i++) {
        pools[i] = sqc_pool_create();
        check(pools[i] && sqc_pool_resize(pools[i], 2 + i) == SQC_OK, "no pool");
    }
    for (int i = 0; i < RUNNERS; i++) {
        numbers[i] = i;
        check(!pthread_create(&threads[i], NULL, runner, &numbers[i]), "no thread");
    }
    check(!pthread_create(&threads[RUNNERS], NULL, changer, NULL), "no thread");
    for (int i = 0; i <= RUNNERS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < POOLS; i++) {
        sqc_pool_share_cores(pools[i], &shared);
        sqc_pool_set_parallel_for(pools[i], NULL, NULL);
        check(sqc_pool_resize(pools[i], 3) == SQC_OK, "no threads");
    }
    check(shared.reserved[16] == 0, "the count of threads in runs is off");
    pid_t child = count > 1 ? fork() : -1;
    for (int i = 0; i < POOLS; i++) {
        run(pools[i]);
        sqc_pool_destroy(pools[i]);
    }
    if (child == 0) _exit(0);
    int status;
    if (child == -1) return count > 1;
    check(waitpid(child, &status, 0) == child && status == 0, "the child failed");
    return 0;
}
