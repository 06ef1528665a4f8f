"""Price levels in order: set-up, checking, and a Python view for tests. The layout is in price_index.pxd."""

from matchbox.core.arena cimport arena_map, arena_unmap

from matchbox.shm.errors import BadArgument

if sizeof(price_level) != 32 or sizeof(price_node) != 64 or sizeof(price_meta) != 16:
    raise ImportError("price_index: a struct has not the size that its layout says")

# Every byte of a level: one level, one node, one meta. State bounds with it, not with a copy of it.
BYTES_PER_LEVEL = sizeof(price_level) + sizeof(price_node) + sizeof(price_meta)


cdef int price_index_create(price_index* index, uint32_t capacity) except -1:
    cdef size_t rows = <size_t>capacity + 1
    cdef uint32_t i
    if not 1 <= capacity <= PRICE_INDEX_MAX_LEVELS:
        raise BadArgument(f"bad capacity of a price index: capacity={capacity}, maximum={PRICE_INDEX_MAX_LEVELS}")
    index.arena_bytes = rows * (sizeof(price_node) + sizeof(price_level) + sizeof(price_meta))
    index.arena = arena_map(index.arena_bytes)
    # Widest first: each array is then aligned to its elements.
    index.nodes = <price_node*>index.arena
    index.levels = <price_level*>(index.nodes + rows)
    index.metas = <price_meta*>(index.levels + rows)
    index.capacity = capacity
    index.count = 0
    for i in range(<uint32_t>PRICE_SIDES):
        index.root[i] = index.best[i] = 0
    index.levels[0].key = <uint64_t>-1
    index.free_level = index.free_node = 1
    for i in range(1, capacity):
        index.levels[i].first = i + 1
        index.metas[i].parent = i + 1
    return 0


cdef void price_index_destroy(price_index* index) noexcept nogil:
    arena_unmap(index.arena, index.arena_bytes)
    index.arena = NULL
    index.arena_bytes = 0


cdef int _validate_child(const price_index* index, uint32_t side, uint32_t parent, uint32_t position, uint32_t child,
                         uint32_t* levels, uint32_t* nodes) noexcept nogil:
    cdef const price_meta* meta
    cdef const price_meta* above = &index.metas[parent]
    cdef uint64_t key
    cdef uint32_t node, level, i
    cdef int failed
    if _is_node(child):
        node = _node(child)
        meta = &index.metas[node]
        key = meta.prefix
        nodes[0] += 1
        if meta.parent != parent or (parent and meta.position != position):
            return 1
        if child != _child_of_node(node, meta.shift) or (parent and meta.shift >= above.shift):
            return 2
        if meta.bitmap & (meta.bitmap - 1) == 0:
            return 3
        for i in range(16):
            if (meta.bitmap >> i & 1) != (index.nodes[node].child[i] != 0):
                return 4
            if index.nodes[node].child[i]:
                failed = _validate_child(index, side, node, i, index.nodes[node].child[i], levels, nodes)
                if failed:
                    return failed
    else:
        level = _level(child)
        key = index.levels[level].key
        levels[0] += 1
        if index.levels[level].parent != parent or index.levels[level].side != side:
            return 5
    if parent and (key >> above.shift >> 4 << above.shift << 4 != above.prefix
                   or (key >> above.shift & 15) != position):
        return 6
    return 0


cdef int price_index_validate(const price_index* index) noexcept nogil:
    """0, or: 1 parent, 2 shift, 3 too few children, 4 bitmap, 5 level, 6 prefix, 7 best, 8 order, 9 counts."""
    cdef uint32_t side, level, below, levels = 0, nodes = 0, seen = 0, free_nodes = 0, free_levels = 0
    cdef int failed
    for side in range(<uint32_t>PRICE_SIDES):
        if index.root[side]:
            failed = _validate_child(index, side, 0, 0, index.root[side], &levels, &nodes)
            if failed:
                return failed
        if index.best[side] != _lowest(index, index.root[side]):
            return 7
        level = index.best[side]
        while level:
            seen += 1
            below = price_index_next(index, level)
            if below and index.levels[below].key <= index.levels[level].key:
                return 8
            level = below
    level = index.free_level
    while level and free_levels <= index.capacity:
        free_levels += 1
        level = index.levels[level].first
    level = index.free_node
    while level and free_nodes <= index.capacity:
        free_nodes += 1
        level = index.metas[level].parent
    if levels != index.count or seen != levels or levels + free_levels != index.capacity \
            or nodes + free_nodes != index.capacity or (levels and nodes >= levels):
        return 9
    return 0


cdef class PriceIndex:
    """A price index of its own, for tests and exploration. Sides are 0 (bids), 1 (asks), 2 to 5; levels are numbers.

    Not for hot code, which uses the functions of price_index.pxd on a C struct.
    """

    cdef price_index index

    def __init__(self, uint32_t capacity):
        price_index_destroy(&self.index)
        price_index_create(&self.index, capacity)

    def __dealloc__(self):
        price_index_destroy(&self.index)

    def __len__(self):
        return self.index.count

    def find(self, side, price):
        """The number of the level at `price`, or 0."""
        _check(side, price)
        return price_index_find(&self.index, side, price)

    def insert(self, side, price):
        """The number of the level at `price`, made if there was none. Raises BadArgument if all are in use."""
        _check(side, price)
        if self.index.count == self.index.capacity and not self.find(side, price):
            raise BadArgument(f"no level left: capacity={self.index.capacity}")
        return price_index_insert(&self.index, side, price)

    def remove(self, side, price):
        """Remove the level at `price`. Raises BadArgument if there is none."""
        level = self.find(side, price)
        if level == 0:
            raise BadArgument(f"no level at this price: side={side}, price={price}")
        price_index_remove(&self.index, level)

    def best(self, side):
        """The price of the best level of `side`, or None."""
        _check(side, 0)
        return self._price(price_index_best(&self.index, side))

    def next(self, side, price):
        """The price of the next worse level after the one at `price`, or None."""
        return self._price(price_index_next(&self.index, self.find(side, price)))

    def after(self, side, price):
        """The price of the best level worse than `price`, or None."""
        _check(side, price)
        return self._price(price_index_after(&self.index, side, price))

    def prices(self, side):
        """All prices of `side`, best first."""
        _check(side, 0)
        found = []
        cdef uint32_t level = price_index_best(&self.index, side)
        while level:
            found.append(price_of(&self.index.levels[level]))
            level = price_index_next(&self.index, level)
        return found

    def validate(self):
        """Check every invariant. Raises AssertionError."""
        cdef int failed = price_index_validate(&self.index)
        if failed:
            raise AssertionError(f"price index is broken: invariant={failed}")

    @property
    def memory_bytes(self):
        """Bytes mapped."""
        return self.index.arena_bytes

    cdef object _price(self, uint32_t level):
        return price_of(&self.index.levels[level]) if level else None


cdef int _check(side, price) except -1:
    if not 0 <= side < PRICE_SIDES or not 0 <= price < 1 << 40:
        raise BadArgument(f"no such side or price: side={side}, price={price}")
    return 0
