/* What TVM's generated code expects from the library it is linked into. */
#include <stdio.h>
#include <stdlib.h>

#include "sqc_threads.h"

void *TVMBackendAllocWorkspace(int device, int device_id, uint64_t bytes, int type_code, int type_bits) {
    (void)device, (void)device_id, (void)type_code, (void)type_bits;
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!memory) sqc_set_error("out of memory for a workspace of %llu bytes", (unsigned long long)bytes);
    return memory;
}

int TVMBackendFreeWorkspace(int device, int device_id, void *memory) {
    (void)device, (void)device_id;
    free(memory);
    return 0;
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) { sqc_set_error("%s: %s", kind, message); }

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    char message[SQC_MESSAGE_BYTES] = "";
    size_t used = 0;
    for (int32_t i = 0; i < count && used < sizeof message; i++)
        if (parts[i]) used += (size_t)snprintf(message + used, sizeof message - used, "%s", parts[i]);
    sqc_set_error("%s: %s", kind, message);
}

/* Kernels call through these pointers. Each object declares them weak and empty; the link keeps these instead. */
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = TVMBackendAllocWorkspace;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = TVMBackendFreeWorkspace;
void (*__TVMFFIErrorSetRaisedFromCStr)(const char *, const char *) = TVMFFIErrorSetRaisedFromCStr;
void (*__TVMFFIErrorSetRaisedFromCStrParts)(const char *, const char **, int32_t) = TVMFFIErrorSetRaisedFromCStrParts;
