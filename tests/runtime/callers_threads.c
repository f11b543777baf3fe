/* Runs a model of one float input on threads of its own that round upward, and prints its output and what it kept:
 *     callers_threads model.so */
#include <dlfcn.h>
#include <fenv.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "sqc.h"

#define FIND(name) __typeof__(&name) name##_ = (__typeof__(&name))dlsym(library, #name)

enum { THREADS = 4 };

typedef struct {
    sqc_task *task;
    void *data;
    int index, mode;
} job;

static void *work(void *argument) {
    job *job = argument;
    fesetround(FE_UPWARD);
    job->task(job->data, job->index);
    job->mode = fegetround();
    return NULL;
}

/* A pool in its simplest form: a thread a task. */
static int on_new_threads(void *context, int count, sqc_task *task, void *data) {
    pthread_t threads[THREADS];
    job jobs[THREADS];
    for (int i = 0; i < count; i++) {
        jobs[i] = (job){task, data, i, 0};
        if (pthread_create(&threads[i], NULL, work, &jobs[i])) abort();
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        *(int *)context += jobs[i].mode == FE_UPWARD;
    }
    return 0;
}

int main(int count, char **arguments) {
    void *library = count == 2 ? dlopen(arguments[1], RTLD_NOW) : NULL;
    if (!library) return 2;
    FIND(sqc_open);
    FIND(sqc_set_parallel_for);
    FIND(sqc_set_threads);
    FIND(sqc_run);
    FIND(sqc_close);
    sqc_model *model;
    int upward = 0;
    float x[64], y[64];
    for (int i = 0; i < 64; i++) x[i] = (float)i + 0.25f;
    if (sqc_open_(&model) || sqc_set_parallel_for_(model, on_new_threads, &upward) || sqc_set_threads_(model, THREADS))
        return 1;
    for (int run = 0; run < 3; run++)
        if (sqc_run_(model, (const void *[]){x}, (void *[]){y})) return 1;
    sqc_close_(model);
    for (int i = 0; i < 64; i++) printf("%g ", y[i]);
    printf("%d\n", upward);
    return 0;
}
