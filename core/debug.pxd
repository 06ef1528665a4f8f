"""What only a debug build does: MATCHBOX_DEBUG=1 in the environment of setup.py defines MB_DEBUG as 1.

In a release build MB_DEBUG is the constant 0, and the compiler leaves out what it guards.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from * nogil:
    """
    #include <stdio.h>
    #include <stdlib.h>
    #ifndef MB_DEBUG
    #define MB_DEBUG 0
    #endif
    /* A wrong fill is worse than an outage: say what is broken, and where in the log, and end the process. */
    static inline void mb_broken(const char *what, uint32_t invariant, uint64_t which, uint64_t sequence) {
        fprintf(stderr, "matchbox: broken invariant: %s: invariant=%u, of=%llu, log_sequence=%llu\\n", what,
                (unsigned)invariant, (unsigned long long)which, (unsigned long long)sequence);
        fflush(stderr);
        abort();
    }
    """
    bint MB_DEBUG
    void mb_broken(const char* what, uint32_t invariant, uint64_t which, uint64_t sequence)
