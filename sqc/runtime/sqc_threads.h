/* Worker threads, behind the parallel loops of kernels. */
#ifndef SQC_THREADS_H
#define SQC_THREADS_H

#include <stdbool.h>

#include "sqc.h"

enum { SQC_MAX_THREADS = 128, SQC_MESSAGE_BYTES = 512 };

typedef struct sqc_pool sqc_pool;

sqc_pool *sqc_pool_create(void);
void sqc_pool_destroy(sqc_pool *pool);

/* What the functions of sqc.h set, for the pool of a handle. */
sqc_status sqc_pool_resize(sqc_pool *pool, int threads);
int sqc_pool_threads(const sqc_pool *pool);
void sqc_pool_set_spin(sqc_pool *pool, int microseconds);
int sqc_pool_spin(const sqc_pool *pool);
void sqc_pool_share_cores(sqc_pool *pool, sqc_cores *cores);
void sqc_pool_set_parallel_for(sqc_pool *pool, sqc_parallel_for *function, void *context);

/* Around every run. In between, parallel loops of the calling thread run on the pool; serially where the pool has one
 * thread or another run holds it. Leaving takes what entering gave. */
sqc_cores *sqc_pool_enter(sqc_pool *pool);
void sqc_pool_leave(sqc_pool *pool, sqc_cores *cores);

/* Kernels tell the iterations of a parallel loop before they launch it. They go through `blocks` blocks of rows with one
 * part of the channels before they take the next. */
void sqc_announce_loop(int32_t count, int32_t blocks);

/* TVM's interface of parallel loops. Without a number of tasks there are as many as suit the loop that was announced; a
 * task that fails, not giving 0, has told why by sqc_set_error. A loop inside of a loop is serial. */
typedef struct {
    void *sync_handle;
    int32_t num_task;
} sqc_environment;
typedef int sqc_loop_body(int task, sqc_environment *environment, void *data);
int TVMBackendParallelLaunch(sqc_loop_body *body, void *data, int tasks);

/* On how many threads of the pool a loop that the calling thread launches may run, at most (1 where the caller brings its
 * own threads); and which of these the calling thread is, 0 being the one that launches. */
int sqc_loop_threads(void);
int sqc_loop_thread(void);

/* Processors that affinity and the control group's quota leave to this process; at least 1. */
int sqc_available_cpus(void);

/* The rounding mode and exception masks that the number rules assume. */
enum { SQC_DEFAULT_MXCSR = 0x1f80 };

/* Sets and reads this thread's sqc_last_error. */
__attribute__((format(printf, 1, 2))) void sqc_set_error(const char *format, ...);

#endif
