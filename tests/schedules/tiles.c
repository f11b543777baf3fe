/* What AMX's instructions do to tiles of 16 rows of 64 bytes. Compiled without vector registers, which it must not touch. */
#include <stdint.h>

typedef union {
    uint8_t u8[16][64];
    int8_t s8[16][64];
    int32_t s32[16][16];
} tile;

static tile tiles[8];

__attribute__((visibility("hidden"))) void tile_configure(const uint8_t *shape, int64_t stride, int64_t number) {
    (void)stride, (void)number;
    if (shape[0] != 1 || shape[1] != 0) __builtin_trap();
    for (int i = 0; i < 8; i++)
        if (shape[16 + 2 * i] != 64 || shape[17 + 2 * i] != 0 || shape[48 + i] != 16) __builtin_trap();
    for (int i = 0; i < 8 * 16 * 64; i++) ((volatile uint8_t *)tiles)[i] = 0;
}

__attribute__((visibility("hidden"))) void tile_load(const uint8_t *memory, int64_t stride, int64_t number) {
    for (int row = 0; row < 16; row++)
        for (int i = 0; i < 64; i++) tiles[number].u8[row][i] = memory[row * stride + i];
}

__attribute__((visibility("hidden"))) void tile_store(uint8_t *memory, int64_t stride, int64_t number) {
    for (int row = 0; row < 16; row++)
        for (int i = 0; i < 64; i++) memory[row * stride + i] = tiles[number].u8[row][i];
}

__attribute__((visibility("hidden"))) void tile_multiply(int64_t signed_bytes, int64_t unsigned_bytes, int64_t sums) {
    const tile *a = &tiles[unsigned_bytes], *b = &tiles[signed_bytes];
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 16; column++)
            for (int k = 0; k < 64; k++)
                tiles[sums].s32[row][column] += a->u8[row][k] * b->s8[k / 4][column * 4 + k % 4];
}
