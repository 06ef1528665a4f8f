"""Parts of a snapshot: a name, and rows of one size in one array.

The row structs of the snapshot_*.pyx modules are what a file holds. Where one is a struct of the engine as it is, its
size guards it; where a row changes its meaning at the same size, LAYOUT of matchbox.core.snapshot must rise.
"""

from libc.stdint cimport uint64_t

# Append a new part, its rows zeroed, for the caller to fill.
cdef void* part_make(list parts, str name, uint64_t count, size_t size) except? NULL

# The rows of a part, and how many there are. Raises SnapshotError if it is not there, or its rows have another size.
cdef const void* part_rows(dict parts, str name, size_t size, uint64_t* count) except? NULL

# The only row of a part. Raises SnapshotError.
cdef const void* part_row(dict parts, str name, size_t size) except NULL
