/* Worker threads, behind the parallel loops of kernels. */
#ifndef SQC_THREADS_H
#define SQC_THREADS_H

#include <stdbool.h>

#include "sqc.h"

enum { SQC_MAX_THREADS = 128, SQC_MESSAGE_BYTES = 512 };

typedef struct sqc_pool sqc_pool;

sqc_pool *sqc_pool_create(void);
void sqc_pool_destroy(sqc_pool *pool);
sqc_status sqc_pool_resize(sqc_pool *pool, int threads);
int sqc_pool_threads(const sqc_pool *pool);

/* Until the release, parallel loops of the calling thread run on the pool. False, and they run serially, where the pool
 * has one thread or another run holds it. */
bool sqc_pool_acquire(sqc_pool *pool);
void sqc_pool_release(sqc_pool *pool);

/* Processors that affinity and the control group's quota leave to this process; at least 1. */
int sqc_available_cpus(void);

/* The rounding mode and exception masks that the number rules assume. */
enum { SQC_DEFAULT_MXCSR = 0x1f80 };

/* Sets and reads this thread's sqc_last_error. */
__attribute__((format(printf, 1, 2))) void sqc_set_error(const char *format, ...);

#endif
