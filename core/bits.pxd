"""Compiler intrinsics for hot code: branch hints, bit scans, prefetches, checked products."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from * nogil:
    """
    #define mb_likely(x) __builtin_expect(!!(x), 1)
    #define mb_unlikely(x) __builtin_expect(!!(x), 0)
    /* x != 0 for both: the index of a set bit. */
    #define mb_lowest_bit(x) ((uint32_t)__builtin_ctz(x))
    #define mb_highest_bit(x) (63u - (uint32_t)__builtin_clzll(x))
    /* Both for writing: whatever we fetch early we are about to change. */
    #define mb_prefetch(p) __builtin_prefetch((p), 1, 3)
    #define mb_multiply(a, b, product) __builtin_mul_overflow((a), (b), (product))
    """
    bint mb_likely(bint x)
    bint mb_unlikely(bint x)
    uint32_t mb_lowest_bit(uint32_t x)
    uint32_t mb_highest_bit(uint64_t x)
    void mb_prefetch(const void* p)
    bint mb_multiply(int64_t a, int64_t b, int64_t* product)
