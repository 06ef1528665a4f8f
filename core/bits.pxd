"""Compiler intrinsics for hot code: branch hints, bit scans, prefetches, checked products, whole records.

mb_clear_record() and mb_copy_record() are memset() and memcpy() of one 128-byte record. GCC makes `rep stos` or
`rep movs` of those, which take longer to begin than the record takes to write.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from * nogil:
    """
    #define mb_likely(x) __builtin_expect(!!(x), 1)
    #define mb_unlikely(x) __builtin_expect(!!(x), 0)
    /* x != 0 for both: the index of a set bit. */
    #define mb_lowest_bit(x) ((uint32_t)__builtin_ctz(x))
    #define mb_highest_bit(x) (63u - (uint32_t)__builtin_clzll(x))
    /* For writing: whatever we fetch early we are about to change. Without the asm, GCC takes a function that does
     * nothing else for one without effects, and drops the calls of it. */
    #define mb_prefetch(p) ({ __builtin_prefetch((p), 1, 3); __asm__ volatile(""); })
    #define mb_multiply(a, b, product) __builtin_mul_overflow((a), (b), (product))
    #define mb_add(a, b, sum) __builtin_add_overflow((a), (b), (sum))
    typedef uint64_t mb_words __attribute__((vector_size(32), aligned(8), may_alias));
    static inline void mb_clear_record(void *record) {
        mb_words *to = (mb_words *)record;
        to[0] = to[1] = to[2] = to[3] = (mb_words){0, 0, 0, 0};
    }
    static inline void mb_copy_record(void *record, const void *source) {
        const mb_words *from = (const mb_words *)source;
        mb_words a = from[0], b = from[1], c = from[2], d = from[3], *to = (mb_words *)record;
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    """
    bint mb_likely(bint x)
    bint mb_unlikely(bint x)
    uint32_t mb_lowest_bit(uint32_t x)
    uint32_t mb_highest_bit(uint64_t x)
    void mb_prefetch(const void* p)
    bint mb_multiply(int64_t a, int64_t b, int64_t* product)
    bint mb_add(int64_t a, int64_t b, int64_t* sum)
    void mb_clear_record(void* record)
    void mb_copy_record(void* record, const void* source)
