# SPDX-License-Identifier: MIT
"""Rows into groups: keys to numbers, and rows to the group with that number.

``codes`` (n,) are the groups of rows, negative for none.
"""

from __future__ import annotations

from typing import Any

from gbreg._jit import cell_of, entry, hash_place, inlined, peek, prefetch, word, word_hash
from gbreg.problem import FloatArray, IntArray

AHEAD = 16  # rows between asking for memory and using it
# Of a value in a hash table: itself, or the hash of a string, and its code + 1, 0 where a place is free; of a
# string also where its bytes are. What was ``found`` has the same facts, but a string's row for its code.
VALUE, CODE, WHERE, LENGTH = 0, 1, 2, 3
ROW = CODE


@entry
def find_bounds(values: Any, first: int) -> tuple[int, int]:
    """Bounds of all values and the first."""
    least = most = first
    for i in range(values.shape[0]):
        least = min(least, values[i])
        most = max(most, values[i])
    return least, most


@entry
def add_digit(values: Any, low: int, base: int, codes: Any) -> None:
    """``codes = codes * base + (values - low)``."""
    for i in range(values.shape[0]):
        codes[i] = codes[i] * base + (values[i] - low)


@inlined
def put_found(found: IntArray, code: int, table: IntArray, place: int) -> None:
    """What was found as number ``code`` to its place in the table."""
    for fact in range(found.shape[1]):
        table[place, fact] = found[code, fact]
    table[place, CODE] = code + 1


@entry
def fill_table(found: IntArray, shift: int, table: IntArray) -> None:
    """Put values known to be distinct into an empty table."""
    mask = table.shape[0] - 1
    for i in range(found.shape[0]):
        place = hash_place(found[i, VALUE], shift)
        while table[place, CODE] != 0:
            place = (place + 1) & mask
        put_found(found, i, table, place)


@entry
def find_distinct(
    values: IntArray,
    codes: Any,
    lo: int,
    shift: int,
    table: IntArray,
    n_found: int,
    found: IntArray,
) -> tuple[int, int]:
    """Number values from row lo on by first appearance; returns the row where room ran out, and n_found.

    table (2^(64 - shift), 2) and found (half of that, 1) are of the values found so far.
    """
    mask = table.shape[0] - 1
    last = values.shape[0] - 1
    i = lo
    room = True
    while i <= last and room:
        prefetch(table, hash_place(values[min(i + AHEAD, last)], shift))
        value = values[i]
        place = hash_place(value, shift)
        while table[place, CODE] != 0 and table[place, VALUE] != value:
            place = (place + 1) & mask
        if table[place, CODE] == 0:
            room = n_found < found.shape[0]
            if room:
                found[n_found, VALUE] = value
                put_found(found, n_found, table, place)
                n_found += 1
        if room:
            codes[i] = table[place, CODE] - 1
            i += 1
    return i, n_found


@entry
def stream_values(
    values: IntArray, low: int, shift: int, streams: Any, lo: int, hi: int, ids: Any, counts: IntArray
) -> None:
    """The stream of each of values lo:hi into ids, and how many each has into counts.

    Equal cells of ``2^shift`` from ``low`` on have their streams in ``streams``; values beyond are in the
    first or the last.
    """
    last = streams.shape[0] - 1
    for i in range(lo, hi):
        cell = min(cell_of(values[i], low, shift), last) if values[i] > low else 0
        stream = streams[cell]
        ids[i] = stream
        counts[stream] += 1


@entry
def spread_values(values: IntArray, ids: Any, lo: int, hi: int, cursor: IntArray, moved: IntArray) -> None:
    """Values lo:hi to where the cursor of their stream stands."""
    for i in range(lo, hi):
        place = cursor[ids[i]]
        cursor[ids[i]] = place + 1
        moved[place] = values[i]


@entry
def collect_codes(
    moved: Any, ids: Any, lo: int, hi: int, cursor: IntArray, first: IntArray, codes: Any
) -> None:
    """The way back of `spread_values`: codes lo:hi, counted from the first code of the stream on."""
    for i in range(lo, hi):
        place = cursor[ids[i]]
        cursor[ids[i]] = place + 1
        codes[i] = first[ids[i]] + moved[place]


@inlined
def last_word(address: int, length: int) -> int:
    """The last eight bytes of a string as a number, or all of a shorter one."""
    if length >= 8:
        return word(address, length - 8, 8)
    return word(address, 0, length)


@inlined
def same_bytes(a: int, b: int, length: int) -> bool:
    """Whether two strings of the same length are equal."""
    i = 0
    same = last_word(a, length) == last_word(b, length)
    while same and i < length - 8:
        same = word(a, i, 8) == word(b, i, 8)
        i += 8
    return same


@entry
def find_words(
    ends: Any,
    address: int,
    row: int,
    codes: Any,
    lo: int,
    shift: int,
    table: IntArray,
    n_found: int,
    found: IntArray,
) -> tuple[int, int]:
    """`find_distinct` for strings: number i is bytes ``ends[i]:ends[i + 1]`` from an address on.

    table and found have 4 facts of each; ``row`` is the row of number 0.
    """
    mask = table.shape[0] - 1
    last = ends.shape[0] - 2
    i = lo
    room = True
    while i <= last and room:
        start = address + int(ends[i])
        length = int(ends[i + 1]) - int(ends[i])
        key = word_hash(length, last_word(start, length))
        for j in range(0, length - 8, 8):
            key = word_hash(key, word(start, j, 8))
        place = hash_place(key, shift)
        while table[place, CODE] != 0 and not (
            table[place, VALUE] == key
            and table[place, LENGTH] == length
            and same_bytes(table[place, WHERE], start, length)
        ):
            place = (place + 1) & mask
        if table[place, CODE] == 0:
            room = n_found < found.shape[0]
            if room:
                found[n_found, VALUE] = key
                found[n_found, ROW] = row + i
                found[n_found, WHERE] = start
                found[n_found, LENGTH] = length
                put_found(found, n_found, table, place)
                n_found += 1
        if room:
            codes[i] = table[place, CODE] - 1
            i += 1
    return i, n_found


@entry
def count_codes(codes: Any, lo: int, hi: int, shift: int, counts: Any) -> bool:
    """How many of rows lo:hi have each ``code >> shift``, into counts; whether codes never decrease."""
    ordered = True
    last = codes[lo - 1] if 0 < lo < hi else -1
    for i in range(lo, hi):
        code = codes[i]
        ordered = ordered and code >= last
        last = code
        if code >= 0:
            counts[code >> shift] += 1
    return ordered


@entry
def pack_rows(
    codes: Any,
    lo: int,
    hi: int,
    shift: int,
    cursor: IntArray,
    columns: IntArray,
    Z: FloatArray,
    moved: Any,
    check: FloatArray,
    least: FloatArray,
    places: IntArray,
) -> None:
    """Rows lo:hi to where the cursor of their ``code >> shift`` stands, those without a code to nowhere.

    columns (width,) has the addresses of the values; check (width,) becomes NaN where one is not
    finite, least (width,) the smallest. moved gets the codes in the order of Z, if it has room. A
    block of rows that stays in cache goes column by column; places (any size) is its size.
    """
    size = places.shape[0]
    for start in range(lo, hi, size):
        stop = min(start + size, hi)
        for i in range(start, stop):
            code = codes[i]
            place = -1
            if code >= 0:
                place = cursor[code >> shift]
                cursor[code >> shift] = place + 1
                if moved.shape[0] > 0:
                    moved[place] = code
            places[i - start] = place
        for j in range(columns.shape[0]):
            total = check[j]
            smallest = least[j]
            for i in range(start, stop):
                place = places[i - start]
                if place >= 0:
                    value = peek(columns[j], i)
                    Z[place, j] = value
                    total += 0.0 * value
                    smallest = min(smallest, value)
            check[j] = total
            least[j] = smallest


@entry
def sort_stream(Z: FloatArray, lo: int, hi: int, codes: Any, cursor: IntArray, out: FloatArray) -> None:
    """Rows lo:hi, all of their groups, to where the cursor of their group stands; out begins with row lo."""
    for i in range(lo, hi):
        place = cursor[codes[i]]
        cursor[codes[i]] = place + 1
        for j in range(Z.shape[1]):
            out[place - lo, j] = Z[i, j]
