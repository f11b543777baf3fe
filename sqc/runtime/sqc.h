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

/* How many threads one run may use, the caller's included; 0: as many as the processors this process may use. */
SQC_API sqc_status sqc_set_threads(sqc_model *model, int threads);
SQC_API int sqc_threads(const sqc_model *model);

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
