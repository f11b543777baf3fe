/* The C interface of a model compiled by sqc.
 *
 * A compiled model is one shared library that exports the functions below and needs nothing but libc. Link with it,
 * or dlopen it and look the functions up. A process may load many models; a handle belongs to the library that made it.
 *
 * Threads: any number of threads may call sqc_run and sqc_profile on one handle at once; each call works in memory of
 * its own. One call at a time spreads over the worker threads, the others run on their calling thread: the results are
 * the same bits. sqc_close must be the last call on a handle and wait for all others.
 */
#ifndef SQC_H
#define SQC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SQC_API __attribute__((visibility("default")))

typedef struct sqc_model sqc_model;

typedef enum {
    SQC_OK = 0,
    SQC_BAD_ARGUMENT = 1,
    SQC_UNSUPPORTED_PROCESSOR = 2,
    SQC_OUT_OF_MEMORY = 3,
    SQC_NO_THREAD = 4,
    SQC_KERNEL_FAILED = 5
} sqc_status;

typedef enum {
    SQC_BOOL = 0,
    SQC_UINT8 = 1,
    SQC_INT8 = 2,
    SQC_UINT16 = 3,
    SQC_INT16 = 4,
    SQC_INT32 = 5,
    SQC_INT64 = 6,
    SQC_FLOAT16 = 7,
    SQC_FLOAT32 = 8,
    SQC_FLOAT64 = 9
} sqc_dtype;

/* An input or output: a dense row-major array, aligned to its element. */
typedef struct {
    const char *name;
    sqc_dtype dtype;
    int32_t rank;
    const int64_t *shape;
    size_t bytes;
} sqc_tensor;

/* Checks the processor, then makes a handle with one thread. */
SQC_API sqc_status sqc_open(sqc_model **model);
SQC_API void sqc_close(sqc_model *model);

/* Which of the targets that the model was compiled for runs here: the best that the processor supports. */
SQC_API const char *sqc_target(const sqc_model *model);

/* A model compiled for several batch sizes has one variant for each, and sqc_open gives the first. A variant shares
 * threads and lifetime with the handle it came from, and is a handle to all functions but sqc_close. */
SQC_API size_t sqc_variant_count(const sqc_model *model);
SQC_API sqc_status sqc_variant(sqc_model *model, size_t index, sqc_model **variant);

SQC_API size_t sqc_input_count(const sqc_model *model);
SQC_API sqc_status sqc_input_info(const sqc_model *model, size_t index, sqc_tensor *info);
SQC_API size_t sqc_output_count(const sqc_model *model);
SQC_API sqc_status sqc_output_info(const sqc_model *model, size_t index, sqc_tensor *info);

/* One pointer for each input and each output, in order; outputs may not overlap inputs. */
SQC_API sqc_status sqc_run(sqc_model *model, const void *const *inputs, void *const *outputs);

/* Runs any number of samples: cut into the batch sizes of the variants, the largest first, with the same bits as one by
 * one. Less than the smallest batch are filled up with zeros. Inputs and outputs are dense arrays whose leading dimension
 * is that of sqc_input_info, sqc_output_info, divided by sqc_samples and multiplied by count. On failure some of the
 * outputs may have been written. */
SQC_API sqc_status sqc_run_samples(sqc_model *model, size_t count, const void *const *inputs, void *const *outputs);

/* How many samples one sqc_run of this variant takes; 0 where the results of a sample may depend on the others, so that
 * sqc_run_samples refuses. */
SQC_API size_t sqc_samples(const sqc_model *model);

/* How many threads one run may use, the caller's included; 0: as many as the processors that affinity and the limits of
 * the container leave to this process now. A change of those later counts when this is called again. */
SQC_API sqc_status sqc_set_threads(sqc_model *model, int threads);
SQC_API int sqc_threads(const sqc_model *model);

/* How long a thread without work spins before it sleeps, from 0, where it sleeps at once, to 1000000 (1 s); 200 at
 * first. Longer makes the next loop or run start sooner; a worker uses that much of a core after each run at most. */
SQC_API sqc_status sqc_set_spin(sqc_model *model, int microseconds);
SQC_API int sqc_spin(const sqc_model *model);

/* What models need to know of each other, lest together they use more cores than there are: how many threads are in
 * runs. A run then takes only what the others leave it, at the least its calling thread, and threads without work give
 * way. The handles of one library share by themselves. For several libraries, let them share one of these:
 *
 *     static sqc_cores cores; // all zero; lives longer than the models
 *     first_library.sqc_share_cores(model, &cores);
 *     second_library.sqc_share_cores(other_model, &cores);
 *
 * It holds nothing but a number, so libraries may be closed and unloaded in any order. NULL ends the sharing. */
typedef struct {
    int32_t reserved[32];
} sqc_cores;

SQC_API sqc_status sqc_share_cores(sqc_model *model, sqc_cores *cores);

/* Runs parallel loops on threads of the caller's instead of worker threads; NULL goes back to those. The function must
 * call task(data, i) once for every i from 0 to count - 1, in any order and on any threads, and return 0 when all have
 * returned. Anything else makes the run fail. count is what sqc_set_threads set, so set that too; one run at a time
 * calls the function, from the thread that called sqc_run. With OpenMP:
 *
 *     int with_openmp(void *context, int count, sqc_task *task, void *data) {
 *     #pragma omp parallel for schedule(dynamic)
 *         for (int i = 0; i < count; i++) task(data, i);
 *         return 0;
 *     }
 */
typedef void sqc_task(void *data, int index);
typedef int sqc_parallel_for(void *context, int count, sqc_task *task, void *data);

SQC_API sqc_status sqc_set_parallel_for(sqc_model *model, sqc_parallel_for *function, void *context);

/* Like sqc_run, and writes how long each step took: sqc_step_count doubles. */
SQC_API size_t sqc_step_count(const sqc_model *model);
SQC_API const char *sqc_step_name(const sqc_model *model, size_t index);
SQC_API sqc_status sqc_profile(sqc_model *model, const void *const *inputs, void *const *outputs, double *seconds);

/* Which version of sqc's number rules (NUMERICS.md) the model computes by. */
SQC_API int sqc_number_rules_version(void);

/* Why the last call on this thread that did not return SQC_OK failed. */
SQC_API const char *sqc_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
