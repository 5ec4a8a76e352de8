/* What the compiled parts of the memory share. */

#ifndef MIRAGE_MEMORY_RASTER_H
#define MIRAGE_MEMORY_RASTER_H

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* The library is built for any processor of its kind; where compiler and loader allow it also carries code for wider
 * vectors, and chooses when it is loaded. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define WIDE
#endif

#endif
