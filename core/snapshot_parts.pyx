"""Parts of a snapshot; see snapshot_parts.pxd."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t

import numpy as np

from matchbox.shm.errors import SnapshotError


cdef void* _address(array) except? NULL:
    """Where its bytes are; it is kept by who holds the parts."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef void* address = view.buf
    PyBuffer_Release(&view)
    return address


cdef void* part_make(list parts, str name, uint64_t count, size_t size) except? NULL:
    raw = np.zeros(count * size, np.uint8)
    parts.append((name, raw.view(f"V{size}")))
    return _address(raw)


cdef const void* part_rows(dict parts, str name, size_t size, uint64_t* count) except? NULL:
    array = parts.get(name)
    if array is None:
        raise SnapshotError(f"the snapshot has no such part: part={name}")
    if array.itemsize != size:
        raise SnapshotError(
            f"the snapshot is of another layout: part={name}, row_bytes={array.itemsize}, supported={size}"
        )
    count[0] = len(array)
    return _address(array.view(np.uint8))


cdef const void* part_row(dict parts, str name, size_t size) except NULL:
    cdef uint64_t count
    cdef const void* row = part_rows(parts, name, size, &count)
    if count != 1:
        raise SnapshotError(f"the snapshot is damaged: part={name}, rows={count}, expected=1")
    return row
