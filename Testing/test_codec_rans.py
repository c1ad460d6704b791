"""The entropy coder alone: whatever is coded comes back, in few bytes, and damage is told, never looped on."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib.codec import rans
from MedAELib.codec.rans import PRECISION, Decoder, Tables, encode, lanes_for
from MedAELib.errors import BadInput

TOTAL = 1 << PRECISION


def random_tables(rows: int, generator: np.random.Generator) -> Tables:
    """Rows of 1 to 40 symbols, some nearly certain, some nearly uniform."""
    made = []
    for _ in range(rows):
        weights = generator.random(generator.integers(1, 41)) ** generator.integers(1, 30) + 1e-9
        row = 1 + np.floor(weights / weights.sum() * (TOTAL - len(weights))).astype(np.int64)
        row[0] += TOTAL - row.sum()
        made.append(row)
    return Tables.of(made)


def drawn(tables: Tables, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and entries that were drawn with the rows' own frequencies."""
    rows = generator.integers(0, len(tables.offsets) - 1, count)
    keys = (rows << PRECISION) + generator.integers(0, TOTAL, count)
    return rows, np.searchsorted(tables.keys, keys, side="right") - 1


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 300), max_size=6),
    lanes=st.integers(1, 70),
    rows=st.integers(1, 9),
)
def test_whatever_is_coded_comes_back_batch_by_batch(seed, sizes, lanes, rows):
    generator = np.random.default_rng(seed)
    tables = random_tables(rows, generator)
    batches = [drawn(tables, size, generator) for size in sizes]
    decoder = Decoder(encode([entries for _, entries in batches], tables, lanes), lanes)
    for rows_of_batch, entries in batches:
        assert np.array_equal(decoder.decode(rows_of_batch, tables), entries)
    assert decoder.finished()


def test_rare_symbols_come_back_too():
    """Every entry as often as every other, although some have one chance in 65536."""
    generator = np.random.default_rng(3)
    tables = random_tables(5, generator)
    entries = np.tile(np.arange(len(tables.keys)), 7)
    rows = np.searchsorted(tables.offsets, entries, side="right") - 1
    decoder = Decoder(encode([entries], tables, 3), 3)
    assert np.array_equal(decoder.decode(rows, tables), entries)


def test_the_length_is_within_half_a_percent_of_the_ideal():
    generator = np.random.default_rng(1)
    tables = random_tables(20, generator)
    _, entries = drawn(tables, 300_000, generator)
    ideal = -np.log2(tables.frequencies[entries].astype(float) / TOTAL).sum() / 8
    assert len(encode([entries], tables, lanes_for(ideal))) < 1.005 * ideal


def test_a_prefix_of_the_bytes_holds_the_first_batches():
    generator = np.random.default_rng(2)
    tables = random_tables(4, generator)
    (rows, first), (_, second) = drawn(tables, 500, generator), drawn(tables, 5000, generator)
    data = encode([first, second], tables, 8)
    assert np.array_equal(Decoder(data[: len(data) // 2], 8).decode(rows, tables), first)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 400), change=st.integers(0, 10**6))
def test_damage_is_told_or_seen_at_the_end(seed, cut, change):
    """A cut or a changed byte ends in BadInput, in other symbols, or in a coder that is not finished."""
    generator = np.random.default_rng(seed)
    tables = random_tables(4, generator)
    rows, entries = drawn(tables, 1000, generator)
    data = bytearray(encode([entries], tables, 5))
    if cut:
        del data[-min(cut, len(data)) :]
    else:
        data[change % len(data)] ^= 1 + change % 255
    try:
        decoder = Decoder(bytes(data), 5)
        found = decoder.decode(rows, tables)
    except BadInput as error:
        assert "coded part" in str(error)
        return
    assert not decoder.finished() or not np.array_equal(found, entries)


@pytest.mark.parametrize("rows", [[np.array([TOTAL, 0])], [np.array([5, 6])]], ids=["zero", "not full"])
def test_tables_that_no_coder_could_use_are_refused(rows):
    with pytest.raises(ValueError, match="do not fill"):
        Tables.of(rows)


def searched(data: bytes, lanes: int, rows: np.ndarray, tables: Tables) -> np.ndarray:
    """The definition of the coder, symbol by symbol in whole numbers of any size."""
    state = [int.from_bytes(data[5 * lane : 5 * lane + 5], "little") for lane in range(lanes)]
    words = iter(np.frombuffer(data[5 * lanes :], "<u2").tolist())
    found = []
    for place, row in enumerate(rows.tolist()):
        lane = place % lanes
        slot = state[lane] % TOTAL
        entry = int(np.searchsorted(tables.keys, row * TOTAL + slot, side="right")) - 1
        state[lane] = (
            int(tables.frequencies[entry]) * (state[lane] >> PRECISION) + slot - int(tables.keys[entry]) % TOTAL
        )
        found.append(entry)
        if lane == lanes - 1 or place == len(rows) - 1:
            state = [value << 16 | next(words) if value < 1 << 24 else value for value in state]
    return np.array(found)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), lanes=st.integers(1, 9), rows=st.integers(1, 5))
def test_symbols_are_those_of_the_definition(seed, lanes, rows):
    generator = np.random.default_rng(seed)
    tables = random_tables(rows, generator)
    its_rows, entries = drawn(tables, 400, generator)
    data = encode([entries], tables, lanes)
    assert np.array_equal(Decoder(data, lanes).decode(its_rows, tables), searched(data, lanes, its_rows, tables))


@pytest.mark.parametrize("lanes", [1, 2, 15, 16, 40])
def test_symbol_by_symbol_or_row_by_row_is_the_same(lanes, monkeypatch):
    generator = np.random.default_rng(lanes)
    tables = random_tables(7, generator)
    batches = [drawn(tables, size, generator) for size in (3000, 0, lanes - 1, 1777)]
    coded = set()
    for pay in (0, 99):  # lanes from which on whole rows are coded at once
        monkeypatch.setattr(rans, "_ARRAYS_PAY", pay)
        coded.add(encode([entries for _, entries in batches], tables, lanes))
        decoder = Decoder(min(coded), lanes)
        for rows, entries in batches:
            assert np.array_equal(decoder.decode(rows, tables), entries)
        assert decoder.finished()
    assert len(coded) == 1


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 4000)), min_size=2, max_size=6),
    short=st.integers(0, 9),
)
def test_threads_that_decode_together_find_what_each_finds_alone(seed, sizes, short):
    """Of any lanes and lengths; words that run out are told to their own thread, and to no other."""
    generator = np.random.default_rng(seed)
    tables, start = random_tables(6, generator), Barrier(len(sizes))
    cases = [(lanes, [drawn(tables, count, generator) for count in (size, size // 3)]) for lanes, size in sizes]

    def work(number: int) -> list[np.ndarray] | str:
        lanes, batches = cases[number]
        data = encode([entries for _, entries in batches], tables, lanes)
        decoder = Decoder(data[: 5 * lanes] if number == short else data, lanes)
        start.wait()
        try:
            return [decoder.decode(rows, tables) for rows, _ in batches]
        except BadInput as error:
            return str(error)

    with ThreadPoolExecutor(len(sizes)) as pool:
        results = list(pool.map(work, range(len(sizes))))
    for number, (found, (_, batches)) in enumerate(zip(results, cases, strict=True)):
        if isinstance(found, str):
            assert number == short and "too early" in found
        elif number != short:
            assert all(np.array_equal(some, entries) for some, (_, entries) in zip(found, batches, strict=True))
