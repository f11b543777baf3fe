/* Classifies one image with a compiled model:   cc -I <sqc.h's folder> classify.c -o classify -ldl
 *                                               ./classify model.so image.f32
 * image.f32 holds the input as raw float32, in the shape that the ONNX model takes. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "sqc.h"

/* Looks up a function of sqc.h in the model. */
#define FIND(name) __typeof__(&name) name##_ = (__typeof__(&name))dlsym(library, #name)

int main(int count, char **arguments) {
    void *library = count == 3 ? dlopen(arguments[1], RTLD_NOW) : NULL;
    if (!library) return fprintf(stderr, "usage: classify ./model.so image.f32\n%s\n", count == 3 ? dlerror() : ""), 2;
    FIND(sqc_open);
    FIND(sqc_input_info);
    FIND(sqc_output_info);
    FIND(sqc_run);
    FIND(sqc_close);
    FIND(sqc_last_error);

    sqc_model *model;
    sqc_tensor input, output;
    if (sqc_open_(&model)) return fprintf(stderr, "%s\n", sqc_last_error_()), 1;
    sqc_input_info_(model, 0, &input);
    sqc_output_info_(model, 0, &output);

    void *image = malloc(input.bytes);
    float *scores = malloc(output.bytes);
    FILE *file = fopen(arguments[2], "rb");
    if (!file || fread(image, 1, input.bytes, file) != input.bytes)
        return fprintf(stderr, "%s does not hold %zu bytes\n", arguments[2], input.bytes), 1;
    const void *inputs[] = {image};
    void *outputs[] = {scores};
    if (sqc_run_(model, inputs, outputs)) return fprintf(stderr, "%s\n", sqc_last_error_()), 1;

    size_t best = 0;
    for (size_t i = 1; i < output.bytes / sizeof(float); i++)
        if (scores[i] > scores[best]) best = i;
    printf("class %zu, score %g\n", best, scores[best]);
    sqc_close_(model);
    return 0;
}
