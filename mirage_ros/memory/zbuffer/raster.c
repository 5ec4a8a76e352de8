/* The z-buffer of one view on a CPU: the same winners as reference.winners_dense, bit for bit.
 *
 * The rules are described in reference.py, the order of float32 operations in projection.py. Compile without contraction
 * of multiplications and additions (-ffp-contract=off): a fused operation rounds differently.
 *
 * Blocks of elements are projected with vector instructions, then drawn one by one. The order of the tests on a cell
 * matters: elements come near to far, so most of them lose against what is there, and the processor guesses right.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "raster.h"

/* Raised whenever the meaning of an argument changes; cpu.py refuses a library of another version. */
#define VERSION 5
#define EMPTY INT64_MAX
/* Elements in a block, see culling.py. */
#define BLOCK 256

/* What is drawn and where; cpu.py holds the same structure. */
typedef struct {
  const float *x, *y, *z; /* metres, relative to the memory's origin */
  const float *size;      /* metres */
  const int64_t *blocks;  /* blocks in view, near to far */
  int64_t block_count;
  float *surface, *limit; /* room for one number for each cell of the bordered grid */
  int64_t *keys;          /* likewise */
  int64_t *winners;       /* (height, width) indices of elements, -1 where there is none: the result */
  float matrix[12];       /* rows for column, row and depth */
  float half_focal[2];
  float near_plane, outside, centre, factor;
  int32_t height, width, border, max_footprint, footprints, integer_centres, strict;
} Scene;

/* The elements of one block, projected. Cells other than the own one are those on the element's own side. */
typedef struct {
  float depth[BLOCK], column[BLOCK], row[BLOCK], reach_x[BLOCK], reach_y[BLOCK];
  float dx[BLOCK], dy[BLOCK], far_x[BLOCK], far_y[BLOCK]; /* from the centres of the own cell, and of those beside it */
  int32_t own_x[BLOCK], own_y[BLOCK], cell[BLOCK], step_x[BLOCK], step_y[BLOCK];
  int32_t taken[BLOCK], wide[BLOCK], covers[BLOCK];
  int32_t listed[BLOCK];
} Block;

/* Bits of `covers`: the cell beside along columns, along rows, and along both. */
enum { BESIDE = 1, BELOW = 2, DIAGONAL = 4 };

EXPORT int32_t mirage_memory_version(void) { return VERSION; }

static inline int32_t pitch_of(const Scene *s) { return s->width + 2 * s->border; }

static inline int32_t slots_of(const Scene *s) { return (s->height + 2 * s->border) * pitch_of(s); }

/* Project a block. */
WIDE static void project(const Scene *s, int64_t first, Block *restrict b) {
  float m[12];
  memcpy(m, s->matrix, sizeof m);
  const float middle_x = s->width * 0.5f + s->border, wide_x = s->width * 0.5f + s->outside;
  const float middle_y = s->height * 0.5f + s->border, wide_y = s->height * 0.5f + s->outside;
  const float limit = (float)s->max_footprint, centre = s->centre, near_plane = s->near_plane;
  const float half_x = s->half_focal[0], half_y = s->half_focal[1];
  const int32_t footprints = s->footprints, pitch = pitch_of(s);
  const float *restrict px = s->x + first, *restrict py = s->y + first, *restrict pz = s->z + first;
  const float *restrict ps = s->size + first;
  for (int32_t i = 0; i < BLOCK; i++) {
    const float x = px[i], y = py[i], z = pz[i];
    const float depth = x * m[8] + y * m[9] + z * m[10] + m[11];
    const float column = (x * m[0] + y * m[1] + z * m[2] + m[3]) / depth;
    const float row = (x * m[4] + y * m[5] + z * m[6] + m[7]) / depth;
    /* Comparisons with a NaN are false. */
    const int32_t taken = (depth > near_plane) & (depth < INFINITY) & (fabsf(column - middle_x) <= wide_x) &
                          (fabsf(row - middle_y) <= wide_y);
    /* What cannot take part may be too large for an integer. */
    b->column[i] = taken ? column : 0.5f;
    b->row[i] = taken ? row : 0.5f;
    b->depth[i] = depth;
    b->taken[i] = taken;
    const float reach_x = ps[i] * half_x / depth, reach_y = ps[i] * half_y / depth;
    /* Unlike a minimum, this keeps what is not a number, which then covers nothing but its own cell. */
    b->reach_x[i] = reach_x > limit ? limit : reach_x;
    b->reach_y[i] = reach_y > limit ? limit : reach_y;
  }
  if (s->integer_centres) {
    for (int32_t i = 0; i < BLOCK; i++) {
      b->own_x[i] = (int32_t)rintf(b->column[i]);
      b->own_y[i] = (int32_t)rintf(b->row[i]);
    }
  } else {
    for (int32_t i = 0; i < BLOCK; i++) {
      b->own_x[i] = (int32_t)b->column[i];
      b->own_y[i] = (int32_t)b->row[i];
    }
  }
  for (int32_t i = 0; i < BLOCK; i++) {
    const float own_x = (float)b->own_x[i], own_y = (float)b->own_y[i];
    const float dx = b->column[i] - (own_x + centre), dy = b->row[i] - (own_y + centre);
    const int32_t side_x = dx < 0 ? -1 : 1, side_y = dy < 0 ? -1 : 1;
    const float far_x = b->column[i] - (own_x + side_x + centre), far_y = b->row[i] - (own_y + side_y + centre);
    const float reach_x = b->reach_x[i], reach_y = b->reach_y[i];
    const int32_t in_x = fabsf(dx) <= reach_x, in_y = fabsf(dy) <= reach_y;
    const int32_t out_x = fabsf(far_x) <= reach_x, out_y = fabsf(far_y) <= reach_y;
    b->covers[i] = footprints * ((out_x & in_y) * BESIDE + (in_x & out_y) * BELOW + (out_x & out_y) * DIAGONAL);
    b->wide[i] = footprints & ((reach_x >= 1.0f) | (reach_y >= 1.0f));
    b->dx[i] = dx;
    b->dy[i] = dy;
    b->far_x[i] = far_x;
    b->far_y[i] = far_y;
    b->cell[i] = b->own_y[i] * pitch + b->own_x[i];
    b->step_x[i] = side_x;
    b->step_y[i] = side_y * pitch;
  }
}

/* Project a block and list those of its elements that may take part; how many. */
static int32_t take(const Scene *s, int64_t first, Block *b) {
  int32_t count = 0;
  project(s, first, b);
  for (int32_t i = 0; i < BLOCK; i++) {
    b->listed[count] = i;
    count += b->taken[i];
  }
  return count;
}

static inline int64_t pack(float measure, int64_t index) {
  uint32_t bits;
  memcpy(&bits, &measure, sizeof bits);
  return (int64_t)((uint64_t)bits << 32 | (uint64_t)index);
}

/* From the centre of the cell that is `step` from the own one, along one axis. */
static inline float offset(float coordinate, int32_t own, int32_t step, float centre) {
  return coordinate - ((float)(own + step) + centre);
}

/* Cells from the own one that a wide footprint may reach: the cell k steps away has its centre at least k - 1/2 from
 * the element. A little slack, the exact test follows. */
static inline int32_t steps_of(const Block *b, int32_t i) {
  const float reach = b->reach_x[i] > b->reach_y[i] ? b->reach_x[i] : b->reach_y[i];
  return (int32_t)(reach + 0.501f);
}

/* Lower the surface, or keys of depth and index, to an element. */
static inline void lower(const Scene *s, int32_t cell, float depth, int64_t index, int32_t strict) {
  if (strict) {
    const int64_t key = pack(depth, index);
    if (key < s->keys[cell]) s->keys[cell] = key;
  } else if (depth < s->surface[cell]) {
    s->surface[cell] = depth;
  }
}

static inline void lower_wide(const Scene *s, const Block *b, int32_t i, int64_t index, int32_t strict) {
  const int32_t pitch = pitch_of(s), steps = steps_of(b, i);
  for (int32_t sy = -steps; sy <= steps; sy++) {
    if (!(fabsf(offset(b->row[i], b->own_y[i], sy, s->centre)) <= b->reach_y[i])) continue;
    for (int32_t sx = -steps; sx <= steps; sx++)
      if (fabsf(offset(b->column[i], b->own_x[i], sx, s->centre)) <= b->reach_x[i])
        lower(s, b->cell[i] + sy * pitch + sx, b->depth[i], index, strict);
  }
}

/* Find the frontmost elements that cover each cell: their depths, or where `strict` their keys. */
static inline void draw(const Scene *s, int32_t strict) {
  Block b;
  for (int64_t block = 0; block < s->block_count; block++) {
    const int64_t first = s->blocks[block] * BLOCK;
    const int32_t count = take(s, first, &b);
    for (int32_t k = 0; k < count; k++) {
      const int32_t i = b.listed[k], cell = b.cell[i];
      const float depth = b.depth[i];
      const int64_t index = first + i;
      lower(s, cell, depth, index, strict);
      if (b.wide[i]) {
        lower_wide(s, &b, i, index, strict);
      } else if (b.covers[i]) {
        if (b.covers[i] & BESIDE) lower(s, cell + b.step_x[i], depth, index, strict);
        if (b.covers[i] & BELOW) lower(s, cell + b.step_y[i], depth, index, strict);
        if (b.covers[i] & DIAGONAL) lower(s, cell + b.step_x[i] + b.step_y[i], depth, index, strict);
      }
    }
  }
}

/* Factor by which depth rises within a cell along an axis; `reference._rise` for one cell. */
static inline float rise(float before, float here, float after) {
  /* Outside the image, and where there is no surface, the neighbours are infinite. */
  float ahead = after < INFINITY ? after / here : 0, behind = before < INFINITY ? here / before : 0;
  const int32_t ahead_known = (ahead > 0) & (ahead < INFINITY), behind_known = (behind > 0) & (behind < INFINITY);
  if (!ahead_known) ahead = behind_known ? behind : 1.0f;
  if (!behind_known) behind = ahead;
  const float least = ahead < behind ? ahead : behind, most = ahead < behind ? behind : ahead;
  return (least < 1.0f ? 1.0f : least) / (most > 1.0f ? 1.0f : most);
}

/* Greatest depth that is visible in each cell, minus infinity outside the image; `reference.depth_limit`. */
static void find_limits(const Scene *s) {
  const int32_t pitch = pitch_of(s), slots = slots_of(s);
  float *restrict surface = s->surface, *restrict limit = s->limit;
  for (int32_t slot = 0; slot < slots; slot++) {
    const int32_t row = slot / pitch - s->border, column = slot % pitch - s->border;
    limit[slot] = -INFINITY;
    if (row < 0 || row >= s->height || column < 0 || column >= s->width) surface[slot] = INFINITY;
  }
  for (int32_t row = 0; row < s->height; row++) {
    for (int32_t column = 0; column < s->width; column++) {
      const int32_t slot = (row + s->border) * pitch + column + s->border;
      const float *here = surface + slot;
      if (*here == INFINITY) continue;
      const float vertical = rise(here[-pitch], *here, here[pitch]), horizontal = rise(here[-1], *here, here[1]);
      float deepest = 0;
      for (int32_t dy = -pitch; dy <= pitch; dy += pitch)
        for (int32_t dx = -1; dx <= 1; dx++) deepest = here[dy + dx] > deepest ? here[dy + dx] : deepest;
      const float sloped = *here * (vertical * horizontal);
      limit[slot] = (sloped < deepest ? sloped : deepest) * s->factor;
    }
  }
}

/* Lower the key of a cell to a candidate, unless that is too deep there. */
static inline void compete(const Scene *s, int32_t cell, float depth, float dx, float dy, int64_t index) {
  const float xx = dx * dx, yy = dy * dy;
  const int64_t key = pack(xx + yy, index);
  if (key < s->keys[cell] && depth <= s->limit[cell]) s->keys[cell] = key;
}

static inline void compete_wide(const Scene *s, const Block *b, int32_t i, int64_t index) {
  const int32_t pitch = pitch_of(s), reached = steps_of(b, i), steps = reached < 1 ? 1 : reached;
  for (int32_t sy = -steps; sy <= steps; sy++) {
    const float dy = offset(b->row[i], b->own_y[i], sy, s->centre);
    const int32_t near_y = fabsf(dy) < 1.0f, in_y = fabsf(dy) <= b->reach_y[i];
    if (!near_y && !in_y) continue;
    for (int32_t sx = -steps; sx <= steps; sx++) {
      const float dx = offset(b->column[i], b->own_x[i], sx, s->centre);
      const int32_t near_x = fabsf(dx) < 1.0f, in_x = fabsf(dx) <= b->reach_x[i];
      if ((sx || sy) && ((near_x & near_y) || (in_x & in_y)))
        compete(s, b->cell[i] + sy * pitch + sx, b->depth[i], dx, dy, index);
    }
  }
}

/* Find the visible candidate nearest to each cell's centre. */
static void choose(const Scene *s) {
  Block b;
  for (int64_t block = 0; block < s->block_count; block++) {
    const int64_t first = s->blocks[block] * BLOCK;
    const int32_t count = take(s, first, &b);
    for (int32_t k = 0; k < count; k++) {
      const int32_t i = b.listed[k], cell = b.cell[i];
      const float depth = b.depth[i], dx = b.dx[i], dy = b.dy[i], far_x = b.far_x[i], far_y = b.far_y[i];
      const int64_t index = first + i;
      compete(s, cell, depth, dx, dy, index);
      if (b.wide[i]) {
        compete_wide(s, &b, i, index);
        continue;
      }
      /* On a centre line the cells beside are a whole cell away, and too far. */
      const int32_t near_x = fabsf(far_x) < 1.0f, near_y = fabsf(far_y) < 1.0f;
      if (near_x) compete(s, cell + b.step_x[i], depth, far_x, dy, index);
      if (near_y) compete(s, cell + b.step_y[i], depth, dx, far_y, index);
      if (near_x & near_y) compete(s, cell + b.step_x[i] + b.step_y[i], depth, far_x, far_y, index);
    }
  }
}

/* Indices of the keys in the image. */
static void unpack(const Scene *s) {
  int64_t *restrict winners = s->winners;
  const int32_t pitch = pitch_of(s);
  for (int32_t row = 0; row < s->height; row++) {
    const int64_t *restrict keys = s->keys + (row + s->border) * pitch + s->border;
    for (int32_t column = 0; column < s->width; column++)
      *winners++ = keys[column] == EMPTY ? -1 : keys[column] & 0xFFFFFFFF;
  }
}

/* The winners of views `first`, `first + step` and so on, below `count`. */
EXPORT void mirage_memory_winners(const Scene *scenes, int32_t first, int32_t step, int32_t count) {
  for (int32_t view = first; view < count; view += step) {
    const Scene *s = scenes + view;
    const int32_t slots = slots_of(s);
    for (int32_t slot = 0; slot < slots; slot++) s->keys[slot] = EMPTY;
    if (s->strict) {
      draw(s, 1);
    } else {
      for (int32_t slot = 0; slot < slots; slot++) s->surface[slot] = INFINITY;
      draw(s, 0);
      find_limits(s);
      choose(s);
    }
    unpack(s);
  }
}
