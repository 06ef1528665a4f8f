"""Numbers that may have been given out in what was lost.

A start that finds neither that the exchange has stopped in order, nor its log ring, has lost with
the memory what was in the ring and not in the journal: at most a ring full of records. Orders and
trades of these may have been told, at a lower assurance than durable. No number is to be given
twice, so that a bot that knows one never takes something else for it: the journal goes on with as
many LOST records as the ring has places. Sequences, and with them the ids of orders, follow each
other without a gap, as everywhere; trades and changes of the depth go on MB_LOST_NUMBERS higher.
"""

import numpy as np

from matchbox.persistence.journal import Writer
from matchbox.shm.records import LOG_RECORD, Kind


def pass_over(writer: Writer, count: int) -> tuple[int, int]:
    """Journal `count` LOST records; the first and last sequence. Raises JournalError."""
    last = np.frombuffer(writer.last_record, LOG_RECORD)[0]
    first = writer.last_sequence + 1
    rows = np.zeros(count, LOG_RECORD)
    rows["sequence"] = np.arange(first, first + count)
    rows["kind"] = Kind.LOST
    rows["timestamp_ns"] = last["timestamp_ns"]
    # All before it is settled: a log full of these would be more than can be unsettled.
    rows["settled_lag"] = 1
    rows["order_id"], rows["quantity_lots"] = first, count
    for begin in range(0, count, writer.batch_records):
        writer.append(rows[begin : begin + writer.batch_records])
    return first, writer.last_sequence
