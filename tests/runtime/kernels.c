/* Kernels as TVM would make them, in C: tests of the runtime start in no time. Compiled once for each -DKERNEL=symbol. */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int32_t type, padding;
    void *pointer;
} any;
typedef struct {
    void *sync;
    int32_t tasks;
} environment;
typedef int body(int task, environment *, void *data);

__attribute__((weak)) int (*__TVMBackendParallelLaunch)(body *, void *data, int tasks);
__attribute__((weak)) void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
__attribute__((weak)) int (*__TVMBackendFreeWorkspace)(int, int, void *);
void sqc_announce_loop(int32_t count, int32_t blocks);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);

#define NAME2(symbol) __tvm_ffi_##symbol
#define NAME(symbol) NAME2(symbol)
#define ENTRY int NAME(KERNEL)(void *self, const any *arguments, int32_t count, any *result)

enum { add_one = 1, scale, nearest, nearest_rows, nap, late, workspace, refuse, refuse_inside, double_8, double_32 };
enum { double_128 = double_32 + 1 };
enum { KIND = KERNEL, ROWS = 64, COLUMNS = 256 };

static int fail(const char *why) {
    const char *parts[] = {"Mismatched ", NULL, why};
    TVMFFIErrorSetRaisedFromCStrParts("ValueError", parts, 3);
    return -1;
}

static int row_range(int task, environment *env, int *end) {
    int rows = (ROWS + env->tasks - 1) / env->tasks;
    *end = rows * (task + 1) < ROWS ? rows * (task + 1) : ROWS;
    return rows * task;
}

static int add_one_rows(int task, environment *env, void *data) {
    const any *arguments = data;
    const uint8_t *x = arguments[0].pointer;
    uint8_t *y = arguments[1].pointer;
    int end, row = row_range(task, env, &end);
    for (; row < end; row++)
        for (int i = 0; i < COLUMNS; i++) y[row * COLUMNS + i] = x[row * COLUMNS + i] + 1;
    return 0;
}

/* Rounds by the mode of the thread that it runs on. */
static int nearest_row(int task, environment *env, void *data) {
    const any *arguments = data;
    const float *x = arguments[0].pointer;
    float *y = arguments[1].pointer;
    int end, row = row_range(task, env, &end);
    for (; row < end; row++) y[row] = (float)lrintf(x[row]);
    return 0;
}

/* Writes which thread ran each row; a task takes long enough for the others to wake up. */
static int nap_rows(int task, environment *env, void *data) {
    int32_t *y = ((const any *)data)[1].pointer;
    int end, row = row_range(task, env, &end);
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    for (; row < end; row++) y[row] = gettid();
    return 0;
}

/* As if the core that the first row runs on were busy with something else. */
static int late_rows(int task, environment *env, void *data) {
    int32_t *y = ((const any *)data)[1].pointer;
    int end, row = row_range(task, env, &end);
    if (row == 0) nanosleep(&(struct timespec){.tv_nsec = 200 * 1000 * 1000}, NULL);
    for (; row < end; row++) y[row] = gettid();
    return 0;
}

static int refuse_task(int task, environment *env, void *data) {
    return task == env->tasks - 1 ? fail("task") : 0;
}

ENTRY {
    for (int32_t i = 0; i < count; i++)
        if (arguments[i].type != 4) return fail("argument");
    float *x = arguments[0].pointer, *y = arguments[count - 1].pointer;
    switch (KIND) {
        case add_one: return __TVMBackendParallelLaunch(add_one_rows, (void *)arguments, 0);
        case nearest_rows: return __TVMBackendParallelLaunch(nearest_row, (void *)arguments, 0);
        case nap: return __TVMBackendParallelLaunch(nap_rows, (void *)arguments, 0);
        case late: sqc_announce_loop(ROWS, 1); return __TVMBackendParallelLaunch(late_rows, (void *)arguments, 0);
        case scale:
            for (int i = 0; i < 4; i++) y[i] = x[i] * *(float *)arguments[1].pointer;
            return 0;
        case double_8:
        case double_32:
        case double_128:
            for (int i = 0; i < (KIND == double_8 ? 8 : KIND == double_32 ? 32 : 128); i++) y[i] = x[i] * 2;
            return 0;
        case nearest:
            for (int i = 0; i < 4; i++) y[i] = (float)lrintf(x[i]);
            return 0;
        case workspace: {
            float *space = __TVMBackendAllocWorkspace(1, 0, 16, 2, 32);
            if ((uintptr_t)space % 64) return fail("alignment");
            memcpy(space, x, 16);
            memcpy(y, space, 16);
            return __TVMBackendFreeWorkspace(1, 0, space);
        }
        case refuse: return fail("shape");
        case refuse_inside: return __TVMBackendParallelLaunch(refuse_task, (void *)arguments, 0);
    }
    return -1;
}
