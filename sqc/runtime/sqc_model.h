/* The tables that the compiler writes for one model (model.c), and how they call its kernels. */
#ifndef SQC_MODEL_H
#define SQC_MODEL_H

#include "sqc.h"

/* Layout of TVMFFIAny for the one kind of value that kernels take. */
typedef struct {
    int32_t type;
    uint32_t padding;
    union {
        void *pointer;
        int64_t bits;
    };
} sqc_any;

#define SQC_ANY_POINTER 4 /* kTVMFFIOpaquePtr */

typedef int sqc_kernel(void *self, const sqc_any *arguments, int32_t count, sqc_any *result);

typedef enum { SQC_INPUT, SQC_OUTPUT, SQC_ARENA, SQC_CONSTANTS } sqc_region;

/* offset: the index of an input or output, bytes into the arena or the constants. stride: by how many bytes the address
 * moves on from one round to the next. */
typedef struct {
    sqc_region region;
    uint64_t offset, stride;
} sqc_argument;

typedef struct {
    sqc_kernel *kernel;
    const char *name;
    uint32_t first_argument;
    uint32_t argument_count;
} sqc_step;

/* So many steps, all of them one after the other in each round. */
typedef struct {
    size_t steps, rounds;
} sqc_stage;

typedef struct {
    size_t input_count, output_count, stage_count, step_count, argument_count;
    const sqc_tensor *inputs, *outputs;
    const sqc_stage *stages;
    const sqc_step *steps; /* of all stages */
    const sqc_argument *arguments; /* of all steps, one after the other */
    size_t arena_bytes;
    size_t samples; /* in one run; 0 where they may depend on each other */
} sqc_program;

/* The model for one target. missing_feature gives the processor feature that its kernels need and this processor or its
 * system lacks, after `skip` others; or NULL. */
typedef struct {
    const char *target;
    const char *(*missing_feature)(size_t skip);
    const sqc_program *programs;
} sqc_candidate;

/* Asks the system to let this process use AMX's tiles; 0 if it refuses. */
int sqc_may_use_tiles(void);

extern const sqc_candidate sqc_candidates[]; /* the best first */
extern const size_t sqc_candidate_count;
extern const size_t sqc_program_count; /* of each */
extern const unsigned char sqc_constants[];
extern const int sqc_number_rules;

#endif
