/* Runs of any number of samples: cut into the batch sizes that the model was compiled for. */
#include <stdlib.h>
#include <string.h>

#include "sqc_model.h"
#include "sqc_threads.h"

typedef sqc_status tensor_info(const sqc_model *model, size_t index, sqc_tensor *info);

static sqc_status refuse(const char *why) {
    sqc_set_error("sqc_run_samples: %s", why);
    return SQC_BAD_ARGUMENT;
}

/* The variant of the most samples up to `most`, or the one of the fewest if all have more. */
static sqc_model *choose_variant(sqc_model *model, size_t most) {
    sqc_model *best = NULL;
    for (size_t i = 0; i < sqc_variant_count(model); i++) {
        sqc_model *variant;
        sqc_variant(model, i, &variant);
        size_t samples = sqc_samples(variant), held = best ? sqc_samples(best) : 0;
        if (!best || (held > most ? samples < held : samples > held && samples <= most)) best = variant;
    }
    return best;
}

static size_t bytes_per_sample(const sqc_model *variant, tensor_info *info, size_t index) {
    sqc_tensor tensor;
    info(variant, index, &tensor);
    return tensor.bytes / sqc_samples(variant);
}

/* Addresses of inputs, then outputs, `done` samples on. */
static void advance(const sqc_model *variant, const void *const *inputs, void *const *outputs, size_t done,
                    void **addresses) {
    for (size_t i = 0; i < sqc_input_count(variant); i++)
        *addresses++ = (char *)inputs[i] + done * bytes_per_sample(variant, sqc_input_info, i);
    for (size_t i = 0; i < sqc_output_count(variant); i++)
        *addresses++ = (char *)outputs[i] + done * bytes_per_sample(variant, sqc_output_info, i);
}

/* Runs fewer samples than the variant takes, by way of memory for as many as it takes. */
static sqc_status run_filled_up(sqc_model *variant, size_t count, void *const *addresses) {
    size_t inputs = sqc_input_count(variant), outputs = sqc_output_count(variant);
    void **full = calloc(inputs + outputs, sizeof *full);
    sqc_status status = full ? SQC_OK : SQC_OUT_OF_MEMORY;
    for (size_t i = 0; status == SQC_OK && i < inputs + outputs; i++) {
        size_t bytes = i < inputs ? bytes_per_sample(variant, sqc_input_info, i)
                                  : bytes_per_sample(variant, sqc_output_info, i - inputs);
        full[i] = calloc(sqc_samples(variant), bytes);
        if (!full[i]) status = SQC_OUT_OF_MEMORY;
        else if (i < inputs) memcpy(full[i], addresses[i], count * bytes);
    }
    if (status == SQC_OUT_OF_MEMORY) sqc_set_error("out of memory");
    else status = sqc_run(variant, (const void *const *)full, full + inputs);
    for (size_t i = 0; status == SQC_OK && i < outputs; i++)
        memcpy(addresses[inputs + i], full[inputs + i], count * bytes_per_sample(variant, sqc_output_info, i));
    for (size_t i = 0; full && i < inputs + outputs; i++) free(full[i]);
    free(full);
    return status;
}

sqc_status sqc_run_samples(sqc_model *model, size_t count, const void *const *inputs, void *const *outputs) {
    if (!model || !inputs || !outputs) return refuse("the handle, inputs or outputs are NULL");
    if (!sqc_samples(model)) return refuse("the samples of this model's batch may depend on each other; use sqc_run");
    size_t input_count = sqc_input_count(model), output_count = sqc_output_count(model);
    for (size_t i = 0; i < input_count; i++)
        if (!inputs[i]) return refuse("the pointer of an input is NULL");
    for (size_t i = 0; i < output_count; i++)
        if (!outputs[i]) return refuse("the pointer of an output is NULL");
    void **addresses = calloc(input_count + output_count, sizeof *addresses);
    if (!addresses) {
        sqc_set_error("out of memory");
        return SQC_OUT_OF_MEMORY;
    }
    sqc_status status = SQC_OK;
    for (size_t done = 0; status == SQC_OK && done < count;) {
        size_t left = count - done;
        sqc_model *variant = choose_variant(model, left);
        size_t samples = sqc_samples(variant);
        advance(variant, inputs, outputs, done, addresses);
        if (samples <= left) status = sqc_run(variant, (const void *const *)addresses, addresses + input_count);
        else status = run_filled_up(variant, left, addresses);
        done += samples <= left ? samples : left;
    }
    free(addresses);
    return status;
}
