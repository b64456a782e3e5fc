"""Keeps shared what forks share.

For zygote.py, after the imports and before the first fork. A page is copied when somebody writes
to it, and Python writes where it only reads: it counts references inside of every object. A second
reason are gaps: what a fork makes goes into the free places between older objects, so a few new
ones copy many pages. Nothing here changes what a program does; where it cannot be done, forks only
need more memory and time.
"""

import ctypes
import gc
import os
import re
import sys

# `_Py_IMMORTAL_REFCNT` of CPython 3.12 where pointers have 64 bits (PEP 683): not counted any more.
IMMORTAL = 0xFFFFFFFF
AT_ONCE = 4096
# A row of `sys._debugmallocstats`: number of the class, size, pools, blocks in use, free blocks.
ROW = re.compile(r"^ +\d+ +(\d+) +\d+ +\d+ +(\d+)$", re.MULTILINE)

count = ctypes.c_uint32.from_address


def has_immortals():
    """Whether counts lie where CPython 3.12 has them, and mean what they mean there."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 12):
        return False
    if sys.maxsize != (1 << 63) - 1:
        return False
    mortal = object()
    # Asking takes a reference, too.
    return count(id(None)).value == IMMORTAL and count(id(mortal)).value == sys.getrefcount(mortal) - 1


def make_immortal():
    """Nothing that exists now is counted any more, or freed.

    Taken are all objects that the collector knows, and what they refer to: strings, code, numbers.
    """
    if not has_immortals():
        return
    known = gc.get_objects()
    addresses = set(map(id, known))
    for start in range(0, len(known), AT_ONCE):
        addresses.update(map(id, gc.get_referents(*known[start : start + AT_ONCE])))
    for address in addresses:
        count(address).value = IMMORTAL


def gaps():
    """Size and number of the free places between objects."""
    # It is written to standard error: some 5 KB, which a pipe takes.
    read, write = os.pipe()
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(write, 2)
        sys._debugmallocstats()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(write)
    with open(read, encoding="ascii", errors="replace") as stats:
        text = stats.read()
    return [(int(size), int(free)) for size, free in ROW.findall(text)]


def fill_gaps():
    """Takes all of them, for good; says how many bytes that are."""
    take = ctypes.pythonapi.PyObject_Malloc
    take.restype, take.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    filled = 0
    for size, free in gaps():
        for _ in range(free):
            take(size)
        filled += size * free
    return filled


def keep_shared():
    """All of it. Later objects are counted, collected and freed as ever."""
    gc.collect()
    make_immortal()
    # What made them immortal is garbage by now.
    gc.collect()
    gc.freeze()
    try:
        fill_gaps()
    except (AttributeError, OSError) as error:
        print(f"the free places in memory are not known: {error}", file=sys.stderr)
