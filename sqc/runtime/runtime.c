/* Entry points of a compiled model: handles, checks, workspaces and the loop over the steps. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <xmmintrin.h>

#include "sqc.h"
#include "sqc_model.h"
#include "sqc_threads.h"

enum {
    ALIGNMENT = 64,
    SLACK = 256, /* kernels may touch this much on either side of the arena */
    HUGE_PAGE = 1 << 21,
    IDLE_WORKSPACES = 16
};

/* What one run writes: the arena, and the arguments of all steps with their addresses filled in. Threads that compute
 * rounds beside the one that runs have each their own. */
typedef struct workspace {
    struct workspace *next; /* of the next thread, if it ever needed one */
    unsigned char *memory;
    double *seconds; /* of each step in this thread's rounds, if it was ever asked for */
    sqc_any arguments[];
} workspace;

typedef struct {
    sqc_pool *pool;
    sqc_model *variants;
    const char *target;
} shared_state;

/* Idle workspaces wait in slots exchanged atomically: a fork in the middle of anything leaves no lock behind. */
struct sqc_model {
    shared_state *shared;
    const sqc_program *program;
    _Atomic(workspace *) idle[IDLE_WORKSPACES];
};

static _Thread_local char last_error[SQC_MESSAGE_BYTES];

const char *sqc_last_error(void) { return last_error; }

void sqc_set_error(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(last_error, sizeof last_error, format, values);
    va_end(values);
}

int sqc_number_rules_version(void) { return sqc_number_rules; }

/* Workspaces ------------------------------------------------------------------------------------------------------ */

static void free_workspace(workspace *space) {
    for (workspace *next; space; space = next) {
        next = space->next;
        free(space->memory);
        free(space->seconds);
        free(space);
    }
}

/* Where an argument lies in the first round. */
static unsigned char *address(const workspace *space, const sqc_argument *argument, const void *const *inputs,
                              void *const *outputs) {
    switch (argument->region) {
    case SQC_INPUT: return (unsigned char *)inputs[argument->offset];
    case SQC_OUTPUT: return outputs[argument->offset];
    case SQC_ARENA: return space->memory + SLACK + argument->offset;
    default: return (unsigned char *)sqc_constants + argument->offset;
    }
}

static workspace *new_workspace(const sqc_program *program) {
    size_t alignment = program->arena_bytes < HUGE_PAGE / 2 ? ALIGNMENT : HUGE_PAGE;
    size_t bytes = (program->arena_bytes + 2 * SLACK + alignment - 1) / alignment * alignment;
    workspace *space = calloc(1, sizeof *space + program->argument_count * sizeof(sqc_any));
    if (!space) return NULL;
    space->memory = aligned_alloc(alignment, bytes);
    if (!space->memory) {
        free(space);
        return NULL;
    }
    if (alignment == HUGE_PAGE) madvise(space->memory, bytes, MADV_HUGEPAGE); /* a wish: fewer misses of addresses */
    memset(space->memory, 0, bytes); /* also takes the page faults before the first run */
    for (size_t i = 0; i < program->argument_count; i++) {
        const sqc_argument *argument = &program->arguments[i];
        bool inside = argument->region == SQC_ARENA || argument->region == SQC_CONSTANTS;
        space->arguments[i] = (sqc_any){.type = SQC_ANY_POINTER};
        if (inside) space->arguments[i].pointer = address(space, argument, NULL, NULL);
    }
    return space;
}

static workspace *take_workspace(sqc_model *model) {
    for (int i = 0; i < IDLE_WORKSPACES; i++) {
        if (!atomic_load_explicit(&model->idle[i], memory_order_relaxed)) continue;
        workspace *space = atomic_exchange(&model->idle[i], NULL);
        if (space) return space;
    }
    return new_workspace(model->program);
}

static void give_workspace(sqc_model *model, workspace *space) {
    for (int i = 0; i < IDLE_WORKSPACES; i++) {
        workspace *none = NULL;
        if (atomic_compare_exchange_strong(&model->idle[i], &none, space)) return;
    }
    free_workspace(space);
}

/* Handles --------------------------------------------------------------------------------------------------------- */

static sqc_status out_of_memory(void) {
    sqc_set_error("out of memory");
    return SQC_OUT_OF_MEMORY;
}

static sqc_status bad_argument(const char *function, const char *what) {
    sqc_set_error("%s: %s", function, what);
    return SQC_BAD_ARGUMENT;
}

static void free_shared(shared_state *shared) {
    if (!shared) return;
    for (size_t v = 0; shared->variants && v < sqc_program_count; v++)
        for (int i = 0; i < IDLE_WORKSPACES; i++) free_workspace(shared->variants[v].idle[i]);
    if (shared->pool) sqc_pool_destroy(shared->pool);
    free(shared->variants);
    free(shared);
}

/* The first candidate that this processor can run, or NULL. */
static const sqc_candidate *choose_candidate(void) {
    for (size_t i = 0; i < sqc_candidate_count; i++)
        if (!sqc_candidates[i].missing_feature(0)) return &sqc_candidates[i];
    return NULL;
}

static sqc_status unsupported_processor(void) {
    char needs[SQC_MESSAGE_BYTES] = "";
    size_t used = 0;
    for (size_t i = 0; i < sqc_candidate_count; i++) {
        const sqc_candidate *candidate = &sqc_candidates[i];
        const char *feature, *joint = i ? "; or with " : "";
        for (size_t skip = 0; (feature = candidate->missing_feature(skip)) && used < sizeof needs; skip++, joint = ", ")
            used += (size_t)snprintf(needs + used, sizeof needs - used, "%s%s", joint, feature);
        if (sqc_candidate_count > 1 && used < sizeof needs)
            used += (size_t)snprintf(needs + used, sizeof needs - used, " (%s)", candidate->target);
    }
    sqc_set_error("this model needs a processor with %s, which this processor lacks or its operating system does not "
                  "enable; compile the model for a target without it",
                  needs);
    return SQC_UNSUPPORTED_PROCESSOR;
}

sqc_status sqc_open(sqc_model **model) {
    if (!model) return bad_argument("sqc_open", "the pointer to the handle is NULL");
    *model = NULL;
    const sqc_candidate *candidate = choose_candidate();
    if (!candidate) return unsupported_processor();
    shared_state *shared = calloc(1, sizeof *shared);
    if (shared) shared->variants = calloc(sqc_program_count, sizeof *shared->variants);
    if (shared) shared->pool = sqc_pool_create();
    if (!shared || !shared->variants || !shared->pool) {
        free_shared(shared);
        return out_of_memory();
    }
    for (size_t v = 0; v < sqc_program_count; v++) {
        shared->variants[v].shared = shared;
        shared->variants[v].program = &candidate->programs[v];
    }
    shared->target = candidate->target;
    *model = shared->variants;
    return SQC_OK;
}

void sqc_close(sqc_model *model) {
    if (model) free_shared(model->shared);
}

const char *sqc_target(const sqc_model *model) { return model->shared->target; }

size_t sqc_variant_count(const sqc_model *model) {
    (void)model;
    return sqc_program_count;
}

sqc_status sqc_variant(sqc_model *model, size_t index, sqc_model **variant) {
    if (!model || !variant) return bad_argument("sqc_variant", "a pointer is NULL");
    if (index >= sqc_program_count) return bad_argument("sqc_variant", "no variant has this index");
    *variant = &model->shared->variants[index];
    return SQC_OK;
}

size_t sqc_input_count(const sqc_model *model) { return model->program->input_count; }
size_t sqc_output_count(const sqc_model *model) { return model->program->output_count; }
size_t sqc_step_count(const sqc_model *model) { return model->program->step_count; }

size_t sqc_samples(const sqc_model *model) { return model->program->samples; }

sqc_status sqc_input_info(const sqc_model *model, size_t index, sqc_tensor *info) {
    if (!model || !info) return bad_argument("sqc_input_info", "a pointer is NULL");
    if (index >= model->program->input_count) return bad_argument("sqc_input_info", "no input has this index");
    *info = model->program->inputs[index];
    return SQC_OK;
}

sqc_status sqc_output_info(const sqc_model *model, size_t index, sqc_tensor *info) {
    if (!model || !info) return bad_argument("sqc_output_info", "a pointer is NULL");
    if (index >= model->program->output_count) return bad_argument("sqc_output_info", "no output has this index");
    *info = model->program->outputs[index];
    return SQC_OK;
}

const char *sqc_step_name(const sqc_model *model, size_t index) {
    return index < model->program->step_count ? model->program->steps[index].name : NULL;
}

sqc_status sqc_set_threads(sqc_model *model, int threads) {
    if (!model) return bad_argument("sqc_set_threads", "the handle is NULL");
    if (threads < 0 || threads > SQC_MAX_THREADS)
        return bad_argument("sqc_set_threads", "the number of threads must be from 0 (automatic) to 128");
    return sqc_pool_resize(model->shared->pool, threads);
}

int sqc_threads(const sqc_model *model) { return sqc_pool_threads(model->shared->pool); }

sqc_status sqc_set_spin(sqc_model *model, int microseconds) {
    if (!model) return bad_argument("sqc_set_spin", "the handle is NULL");
    if (microseconds < 0 || microseconds > 1000000)
        return bad_argument("sqc_set_spin", "the time must be from 0 to 1000000 microseconds");
    sqc_pool_set_spin(model->shared->pool, microseconds);
    return SQC_OK;
}

int sqc_spin(const sqc_model *model) { return sqc_pool_spin(model->shared->pool); }

sqc_status sqc_share_cores(sqc_model *model, sqc_cores *cores) {
    if (!model) return bad_argument("sqc_share_cores", "the handle is NULL");
    sqc_pool_share_cores(model->shared->pool, cores);
    return SQC_OK;
}

sqc_status sqc_set_parallel_for(sqc_model *model, sqc_parallel_for *function, void *context) {
    if (!model) return bad_argument("sqc_set_parallel_for", "the handle is NULL");
    sqc_pool_set_parallel_for(model->shared->pool, function, context);
    return SQC_OK;
}

/* Running --------------------------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* One run of a model. */
typedef struct {
    const sqc_program *program;
    const void *const *inputs;
    void *const *outputs;
    workspace *space;
    double *seconds; /* of each step, or NULL */
} run;

/* The steps of a stage, from the first one on. */
typedef struct {
    const run *run;
    size_t first, end;
} stage;

/* Adds what each step took to its seconds, if they are asked for. */
static sqc_status run_steps(const sqc_program *program, const workspace *space, size_t first, size_t end,
                            double *seconds) {
    double before = seconds ? now() : 0;
    for (size_t i = first; i < end; i++) {
        const sqc_step *step = &program->steps[i];
        sqc_any result = {0};
        if (step->kernel(NULL, space->arguments + step->first_argument, (int32_t)step->argument_count, &result)) {
            char why[SQC_MESSAGE_BYTES];
            memcpy(why, last_error, sizeof why);
            sqc_set_error("step %zu (%s) failed: %s", i, step->name, why);
            return SQC_KERNEL_FAILED;
        }
        if (seconds) {
            double after = now();
            seconds[i] += after - before;
            before = after;
        }
    }
    return SQC_OK;
}

/* What moves on from round to round lies in the memory of the run, all else in this thread's. */
static int run_round(int round, sqc_environment *environment, void *data) {
    (void)environment;
    const stage *stage = data;
    const run *run = stage->run;
    const sqc_program *program = run->program;
    workspace *space = run->space;
    for (int thread = sqc_loop_thread(); thread; thread--) space = space->next;
    size_t end = program->steps[stage->end].first_argument;
    for (size_t i = program->steps[stage->first].first_argument; i < end; i++) {
        const sqc_argument *argument = &program->arguments[i];
        if (argument->stride)
            space->arguments[i].pointer =
                address(run->space, argument, run->inputs, run->outputs) + (size_t)round * argument->stride;
    }
    return run_steps(program, space, stage->first, stage->end, run->seconds ? space->seconds : NULL);
}

/* On how many threads to compute whole rounds: all, if nearly all have as many of them, else one after the other. */
static int round_threads(int rounds) {
    int threads = sqc_loop_threads(), most = (rounds + threads - 1) / threads;
    return 4 * most * threads <= 5 * rounds ? threads : 1;
}

/* Lets each of the first so many threads have a workspace, and zeros for the seconds of its rounds. */
static bool prepare_threads(const run *run, int threads) {
    workspace *space = run->space;
    for (int i = 0; i < threads; i++, space = space->next) {
        if (run->seconds && !space->seconds) space->seconds = malloc(run->program->step_count * sizeof(double));
        if (run->seconds && !space->seconds) return false;
        if (run->seconds) memset(space->seconds, 0, run->program->step_count * sizeof(double));
        if (i + 1 < threads && !space->next) space->next = new_workspace(run->program);
        if (i + 1 < threads && !space->next) return false;
    }
    return true;
}

/* Shares out the seconds of a whole stage as the threads spent theirs. */
static void share_seconds(const stage *stage, int threads, double whole) {
    const run *run = stage->run;
    double sum = 0;
    for (size_t i = stage->first; i < stage->end; i++) {
        const workspace *space = run->space;
        run->seconds[i] = 0;
        for (int thread = 0; thread < threads; thread++, space = space->next) run->seconds[i] += space->seconds[i];
        sum += run->seconds[i];
    }
    for (size_t i = stage->first; i < stage->end && sum > 0; i++) run->seconds[i] *= whole / sum;
}

static sqc_status run_rounds(const stage *stage, int rounds) {
    int threads = round_threads(rounds);
    if (!prepare_threads(stage->run, threads)) return out_of_memory();
    double before = stage->run->seconds ? now() : 0;
    int failed = 0;
    if (threads > 1) failed = TVMBackendParallelLaunch(run_round, (void *)stage, rounds);
    else
        for (int round = 0; round < rounds && !failed; round++) failed = run_round(round, NULL, (void *)stage);
    if (stage->run->seconds) share_seconds(stage, threads, now() - before);
    return failed ? SQC_KERNEL_FAILED : SQC_OK;
}

static sqc_status run_stages(const run *run) {
    const sqc_program *program = run->program;
    sqc_status status = SQC_OK;
    for (size_t i = 0; run->seconds && i < program->step_count; i++) run->seconds[i] = 0;
    for (size_t s = 0, first = 0; status == SQC_OK && s < program->stage_count; s++) {
        const sqc_stage *found = &program->stages[s];
        stage stage = {run, first, first + found->steps};
        if (found->rounds > 1) status = run_rounds(&stage, (int)found->rounds);
        else status = run_steps(program, run->space, stage.first, stage.end, run->seconds);
        first = stage.end;
    }
    return status;
}

static sqc_status execute(sqc_model *model, const void *const *inputs, void *const *outputs, double *seconds) {
    if (!model || !inputs || !outputs) return bad_argument("sqc_run", "the handle, inputs or outputs are NULL");
    const sqc_program *program = model->program;
    for (size_t i = 0; i < program->input_count; i++)
        if (!inputs[i]) return bad_argument(program->inputs[i].name, "the pointer of this input is NULL");
    for (size_t i = 0; i < program->output_count; i++)
        if (!outputs[i]) return bad_argument(program->outputs[i].name, "the pointer of this output is NULL");

    workspace *space = take_workspace(model);
    if (!space) return out_of_memory();
    for (size_t i = 0; i < program->argument_count; i++) {
        const sqc_argument *argument = &program->arguments[i];
        if (argument->region == SQC_INPUT || argument->region == SQC_OUTPUT)
            space->arguments[i].pointer = address(space, argument, inputs, outputs);
    }
    unsigned mxcsr = _mm_getcsr();
    _mm_setcsr(SQC_DEFAULT_MXCSR);
    sqc_cores *cores = sqc_pool_enter(model->shared->pool);
    sqc_status status = run_stages(&(run){program, inputs, outputs, space, seconds});
    sqc_pool_leave(model->shared->pool, cores);
    _mm_setcsr(mxcsr);
    give_workspace(model, space);
    return status;
}

sqc_status sqc_run(sqc_model *model, const void *const *inputs, void *const *outputs) {
    return execute(model, inputs, outputs, NULL);
}

sqc_status sqc_profile(sqc_model *model, const void *const *inputs, void *const *outputs, double *seconds) {
    if (!seconds) return bad_argument("sqc_profile", "the array of times is NULL");
    return execute(model, inputs, outputs, seconds);
}
