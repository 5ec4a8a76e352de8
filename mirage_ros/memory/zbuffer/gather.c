/* Features of winners, decoded and turned from rows of elements into planes of channels, in one pass over the result.
 *
 * The same numbers as indexing, converting, scaling and transposing in torch, without its intermediate tensors.
 */

#include <stdint.h>
#include <string.h>

#include "raster.h"

enum { INT8, FLOAT16, BFLOAT16, FLOAT32 };
/* Cells handled at once: one cache line of the result. */
#define TILE 16
#define CHANNELS 64

/* What is gathered; cpu.py holds the same structure. */
typedef struct {
  const void *features;   /* (elements, channels) */
  const float *scale;     /* (channels) factors of int8 features */
  const int64_t *winners; /* (views, cells) rows, -1 where there is none */
  int64_t winners_stride; /* from one view to the next */
  float *result;          /* (views, channels, cells), zero where there is no winner */
  int64_t channels, cells;
  int32_t type;
} Gather;

static inline float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float half_to_float(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff, exponent = magnitude >> 10;
  /* Exponents are biased by 15 and by 127. */
  uint32_t bits = (magnitude << 13) + (112u << 23);
  bits += exponent == 31 ? 112u << 23 : 0;
  const float subnormal = (float)(int32_t)magnitude * 0x1p-24f;
  uint32_t small;
  memcpy(&small, &subnormal, sizeof small);
  return from_bits((exponent ? bits : small) | sign);
}

/* Up to CHANNELS channels of one element. */
static inline void decode(const Gather *g, int64_t row, int64_t first, int32_t count, float *restrict values) {
  const int64_t at = row * g->channels + first;
  if (g->type == INT8) {
    const int8_t *restrict stored = (const int8_t *)g->features + at;
    const float *restrict scale = g->scale + first;
    for (int32_t c = 0; c < count; c++) values[c] = (float)stored[c] * scale[c];
  } else if (g->type == FLOAT16) {
    const uint16_t *restrict stored = (const uint16_t *)g->features + at;
    for (int32_t c = 0; c < count; c++) values[c] = half_to_float(stored[c]);
  } else if (g->type == BFLOAT16) {
    const uint16_t *restrict stored = (const uint16_t *)g->features + at;
    for (int32_t c = 0; c < count; c++) values[c] = from_bits((uint32_t)stored[c] << 16);
  } else {
    memcpy(values, (const float *)g->features + at, count * sizeof *values);
  }
}

/* The features of views `first`, `first + step` and so on, below `count`. */
WIDE EXPORT void mirage_memory_gather(const Gather *g, int32_t first, int32_t step, int32_t count) {
  float values[TILE][CHANNELS];
  for (int32_t view = first; view < count; view += step) {
    const int64_t *winners = g->winners + view * g->winners_stride;
    float *planes = g->result + view * g->channels * g->cells;
    for (int64_t channel = 0; channel < g->channels; channel += CHANNELS) {
      const int32_t held = (int32_t)(g->channels - channel < CHANNELS ? g->channels - channel : CHANNELS);
      for (int64_t cell = 0; cell < g->cells; cell += TILE) {
        const int32_t width = (int32_t)(g->cells - cell < TILE ? g->cells - cell : TILE);
        for (int32_t j = 0; j < width; j++) {
          if (winners[cell + j] < 0)
            memset(values[j], 0, sizeof values[j]);
          else
            decode(g, winners[cell + j], channel, held, values[j]);
        }
        float *restrict plane = planes + channel * g->cells + cell;
        for (int32_t c = 0; c < held; c++, plane += g->cells)
          for (int32_t j = 0; j < width; j++) plane[j] = values[j][c];
      }
    }
  }
}
