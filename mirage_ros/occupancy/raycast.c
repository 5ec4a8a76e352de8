/* Rays through a grid of voxels: what depth images say of it, and what a camera would see of it.
 *
 * reference.py states both rules in torch, with the same results to the last bit. A ray visits one voxel in each slab of
 * the axis along which it crosses most of them: the one in which it is in the middle of the slab.
 */

#include <math.h>
#include <stdint.h>

#include "../memory/zbuffer/raster.h"

/* Entries of a normal distribution's table for each standard deviation, and its ends. */
#define FINENESS 128
#define ENDS 4
/* So many standard deviations before its depth a surface is so unlikely that evidence rounds to none of it. */
#define CERTAIN 3.0f
/* Slabs that are handled at once. */
#define BATCH 32

/* Grid, rays and tables; rays.py holds the same structure. */
typedef struct {
  int8_t *voxels;          /* (layers, rows, columns) log-odds: written by `cast`, read by `look` */
  const float *origins;    /* (frames, 3) voxels: column, row, layer */
  const float *directions; /* (frames, rays, 3) voxels for each metre of depth */
  const float *near;       /* (frames, rays) metres of depth where a ray begins */
  const float *depth;      /* (frames, rays) metres; of `look`, how far it goes */
  const float *spread;     /* (frames, rays) metres, standard deviation of depth */
  const float *normal;     /* (2 ENDS FINENESS + 1) its distribution */
  const int8_t *evidence;  /* (256) log-odds of a probability */
  const float *passing;    /* (256) share of a ray that passes a voxel with a log-odds, from -128 on */
  float *seen;             /* (rows, columns) largest share of a ray that came there; zero before */
  int64_t frames, rays;
  int32_t size[3];         /* columns, rows, layers */
  float far_plane, least, prior;
  float thickness;         /* metres that things go on behind their surface */
} Rays;

/* The slabs that a ray crosses. */
typedef struct {
  float start[3], step[3]; /* place in the middle of the first slab, and from slab to slab */
  float t, dt;             /* metres of depth there, and from slab to slab */
  int32_t first, count;    /* slabs inside of the grid: the first, and one past the last */
} Walk;

static inline int is_inside(const Rays *r, const Walk *w, int32_t k);

static inline int walk_of(const Rays *r, int64_t frame, int64_t ray, float far_plane, Walk *w) {
  const float *origin = r->origins + 3 * frame, *direction = r->directions + 3 * ray;
  float t0 = r->near[ray], t1 = far_plane;
  for (int a = 0; a < 3; a++) {
    const float size = (float)r->size[a];
    if (direction[a] == 0.0f) {
      if (origin[a] < 0.0f || origin[a] >= size) return 0;
      continue;
    }
    const float one = (0.0f - origin[a]) / direction[a], other = (size - origin[a]) / direction[a];
    t0 = fmaxf(t0, fminf(one, other));
    t1 = fminf(t1, fmaxf(one, other));
  }
  if (!(t0 < t1)) return 0;
  int a = fabsf(direction[1]) > fabsf(direction[0]) ? 1 : 0;
  if (fabsf(direction[2]) > fabsf(direction[a])) a = 2;
  const float last = (float)(r->size[a] - 1);
  const float first = fminf(fmaxf(floorf(origin[a] + direction[a] * t0), 0.0f), last);
  const float end = fminf(fmaxf(floorf(origin[a] + direction[a] * t1), 0.0f), last);
  w->t = (first + 0.5f - origin[a]) / direction[a];
  w->dt = 1.0f / fabsf(direction[a]);
  w->count = (int32_t)fabsf(end - first) + 1;
  for (int b = 0; b < 3; b++) {
    w->start[b] = origin[b] + direction[b] * w->t;
    w->step[b] = direction[b] * w->dt;
  }
  w->start[a] = first + 0.5f;
  w->step[a] = direction[a] > 0.0f ? 1.0f : -1.0f;
  /* In the middle of a slab a ray may be outside while it is inside elsewhere in it. Between two that are inside, all are. */
  for (w->first = 0; w->first < w->count && !is_inside(r, w, w->first);) w->first++;
  while (w->count > w->first && !is_inside(r, w, w->count - 1)) w->count--;
  return w->count > w->first;
}

static inline int is_inside(const Rays *r, const Walk *w, int32_t k) {
  for (int a = 0; a < 3; a++) {
    const float place = w->start[a] + w->step[a] * (float)k;
    if (!(place >= 0.0f && (int32_t)place < r->size[a])) return 0;
  }
  return 1;
}

/* Indices of the voxels in some slabs, which are inside of the grid. */
static inline void voxels_of(const Rays *r, const Walk *w, int32_t k, int32_t count, int32_t *restrict voxels) {
  const int32_t columns = r->size[0], rows = r->size[1];
  for (int32_t n = 0; n < count; n++) {
    const float at = (float)(k + n);
    const int32_t i = (int32_t)(w->start[0] + w->step[0] * at), j = (int32_t)(w->start[1] + w->step[1] * at);
    voxels[n] = ((int32_t)(w->start[2] + w->step[2] * at) * rows + j) * columns + i;
  }
}

static inline int32_t entry_of(float deviations) {
  const float place = (deviations + (float)ENDS) * (float)FINENESS, last = (float)(2 * ENDS * FINENESS);
  return (int32_t)(place > 0.0f ? place < last ? place : last : 0.0f);
}

static inline void note(int8_t *voxel, int8_t evidence) {
  const int8_t held = *voxel;
  if (evidence > 0 ? evidence > held : held <= 0 && evidence < held) *voxel = evidence;
}

/* The strongest evidence of all rays, occupied before free. */
EXPORT WIDE void mirage_occupancy_cast(const Rays *r) {
  for (int64_t f = 0; f < r->frames; f++) {
    for (int64_t i = 0; i < r->rays; i++) {
      const int64_t at = f * r->rays + i;
      const float depth = r->depth[at], spread = r->spread[at];
      if (!(depth > 0.0f) || !(spread > 0.0f)) continue;
      Walk w;
      if (!walk_of(r, f, at, fminf(r->far_plane, depth + r->thickness + 2.0f * spread), &w)) continue;
      const float half = w.dt * 0.5f, clear = (depth - CERTAIN * spread - half - w.t) / w.dt - 1.0f;
      /* So far the surface is certainly farther away. */
      const int32_t certain = clear < (float)w.first ? w.first : clear < (float)w.count ? (int32_t)clear : w.count;
      int32_t voxels[BATCH], before[BATCH], until[BATCH];
      for (int32_t k = w.first; k < certain; k += BATCH) {
        const int32_t count = certain - k < BATCH ? certain - k : BATCH;
        voxels_of(r, &w, k, count, voxels);
        for (int32_t n = 0; n < count; n++) note(r->voxels + voxels[n], r->evidence[0]);
      }
      for (int32_t k = certain; k < w.count; k += BATCH) {
        const int32_t count = w.count - k < BATCH ? w.count - k : BATCH;
        voxels_of(r, &w, k, count, voxels);
        for (int32_t n = 0; n < count; n++) {
          const float t = w.t + w.dt * (float)(k + n);
          before[n] = entry_of((t - half - r->thickness - depth) / spread);
          until[n] = entry_of((t + half - depth) / spread);
        }
        for (int32_t n = 0; n < count; n++) {
          const float passed = r->normal[before[n]];
          /* The thing is here, or it ended before, and here is as much as anywhere. */
          const float occupied = (r->normal[until[n]] - passed) + r->prior * passed;
          note(r->voxels + voxels[n], r->evidence[(int32_t)(occupied * 255.0f + 0.5f)]);
        }
      }
    }
  }
}

/* How much of a ray of some camera comes to each column of the grid. */
EXPORT WIDE void mirage_occupancy_look(const Rays *r) {
  const int64_t columns = (int64_t)r->size[0] * r->size[1];
  for (int64_t f = 0; f < r->frames; f++) {
    for (int64_t i = 0; i < r->rays; i++) {
      const int64_t at = f * r->rays + i;
      Walk w;
      if (!walk_of(r, f, at, fminf(r->far_plane, r->depth[at]), &w)) continue;
      float left = 1.0f;
      for (int32_t k = w.first; k < w.count && left > r->least; k++) {
        int32_t v;
        voxels_of(r, &w, k, 1, &v);
        float *column = r->seen + v % columns;
        if (left > *column) *column = left;
        left *= r->passing[(int32_t)r->voxels[v] + 128];
      }
    }
  }
}
