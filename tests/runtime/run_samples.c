/* Runs 0 to 70 samples of a model that doubles two numbers a sample, in memory of just the size that they take. */
#include <stdio.h>
#include <stdlib.h>

#include "sqc.h"

enum { VALUES = 2 };

static int run(sqc_model *model, size_t count) {
    float *x = malloc(count * VALUES * sizeof *x + 1), *y = malloc(count * VALUES * sizeof *y + 1);
    for (size_t i = 0; i < count * VALUES; i++) x[i] = (float)i;
    const void *inputs[] = {x};
    void *outputs[] = {y};
    int wrong = sqc_run_samples(model, count, inputs, outputs) != SQC_OK;
    for (size_t i = 0; !wrong && i < count * VALUES; i++) wrong = y[i] != 2 * x[i];
    free(x);
    free(y);
    return wrong;
}

int main(void) {
    sqc_model *model, *none;
    if (sqc_open(&model) || sqc_set_threads(model, 2)) return 1;
    for (size_t count = 0; count <= 70; count++)
        if (run(model, count)) return printf("%zu samples: %s\n", count, sqc_last_error()), 1;
    if (sqc_run_samples(model, 1, NULL, NULL) != SQC_BAD_ARGUMENT) return 2;
    if (sqc_variant(model, 99, &none) != SQC_BAD_ARGUMENT) return 3;
    sqc_close(model);
    return 0;
}
