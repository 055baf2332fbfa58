"""From texts to records: columns, names, groups, commands as long as they may be, and orders."""

from __future__ import annotations

from itertools import chain

import pytest

from pipeline.input.task_format import (
    ARGUMENT_OVERHEAD_BYTES,
    MAX_PACKED_BYTES,
    ArgumentProduct,
    FieldParser,
    TaskFormat,
    TaskFormatter,
)
from pipeline.model.errors import PipelineError, UsageError
from pipeline.model.messages import RecordFormat
from pipeline.model.records import ArgumentSource, decode_fields


def shaped(form: TaskFormat, *pieces: list[bytes], file: int = 1) -> list[list[bytes]]:
    """The values of all records, of texts that come in these pieces."""
    shaping = FieldParser(form)
    records = list(chain.from_iterable(shaping.add_lines(piece, file) for piece in pieces)) + shaping.finish()
    return [decode_fields(record)[0] for record in records]


def test_columns_are_cut_and_trimmed() -> None:
    assert shaped(TaskFormat(colsep=","), [b"a, b ,c", b"", b"x"]) == [[b"a", b"b", b"c"], [b""], [b"x"]]
    assert shaped(TaskFormat(colsep="[;|]"), [b"a;b|c\xff"]) == [[b"a", b"b", b"c\xff"]]


def test_a_value_of_csv_may_hold_everything_also_over_two_pieces() -> None:
    pieces = [b'"a ""q"" b","c'], [b'd",e', b"f,g"]
    assert shaped(TaskFormat(csv=True), *pieces) == [[b'a "q" b', b"c\nd", b"e"], [b"f", b"g"]]
    assert shaped(TaskFormat(csv=True, colsep=";"), [b"a;b,c"]) == [[b"a", b"b,c"]]


def test_quotes_that_are_never_closed_are_the_last_record() -> None:
    assert shaped(TaskFormat(csv=True), [b'a,"b', b"c"]) == [[b"a", b"b\nc"]]


def test_the_first_line_of_each_file_names_its_columns() -> None:
    shaping = FieldParser(TaskFormat(colsep=",", header=True))
    records = shaping.add_lines([b"x,y", b"1,2", b"3", b"4,5,6"], 1) + shaping.add_lines([b"z", b"7"], 2)
    assert [decode_fields(record) for record in records] == [
        ([b"1", b"2"], [b"x", b"y"]),
        ([b"3", b""], [b"x", b"y"]),
        ([b"4", b"5"], [b"x", b"y"]),
        ([b"7"], [b"z"]),
    ]


def test_so_many_make_one_and_the_last_may_have_fewer() -> None:
    assert shaped(TaskFormat(group_size=2), [b"1"], [b"2", b"3"]) == [[b"1", b"2"], [b"3"]]
    assert shaped(TaskFormat(group_size=2, colsep=","), [b"a,b", b"c", b"d"]) == [[b"a", b"b", b"c"], [b"d"]]
    assert shaped(TaskFormat(group_size=2)) == []


def test_as_many_as_fit_one_command_and_the_rest_spread_evenly() -> None:
    assert shaped(TaskFormat(pack_slots=2), [b"%d" % n for n in range(5)]) == [[b"0", b"1", b"2"], [b"3", b"4"]]
    many = [b"x" * 997 for _ in range(300)]
    records = shaped(TaskFormat(pack_slots=1), many)
    assert [value for record in records for value in record] == many
    sizes = [sum(len(value) + ARGUMENT_OVERHEAD_BYTES for value in record) for record in records]
    assert all(MAX_PACKED_BYTES - 1000 < size <= MAX_PACKED_BYTES for size in sizes[:-1])
    assert shaped(TaskFormat(pack_slots=9, group_size=2), many[:5]) == [many[:2], many[2:4], many[4:5]]


def test_another_order_is_the_same_for_the_same_input_or_seed() -> None:
    texts = [b"%d" % n for n in range(100)]

    def order(seed: int | None = None, given: list[bytes] = texts) -> list[bytes]:
        shaping = FieldParser(TaskFormat(is_shuffled=True, seed=seed))
        assert shaping.add_lines(given, 1) == []
        return shaping.finish()

    assert order() == order() != texts
    assert order(1) == order(1) != order(2)
    assert sorted(order()) == sorted(order(1)) == sorted(texts)
    assert order(given=texts[:-1]) != [text for text in order() if text != b"99"]


@pytest.mark.parametrize("form", [TaskFormat(), TaskFormat(json=True)])
def test_lines_that_are_tasks_pass_as_they_are(form: TaskFormat) -> None:
    assert FieldParser(form).add_lines([b"a\xff", b"", b"{"], 1) == [b"a\xff", b"", b"{"]


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        (TaskFormat(), "line"),
        (TaskFormat(is_shuffled=True), "line"),
        (TaskFormat(json=True), "json"),
        (TaskFormat(pack_slots=2, group_size=2), "packed"),
        (TaskFormat(header=True), "columns"),
        (TaskFormat(source_count=2), "columns"),
    ],
)
def test_workers_are_told_the_shape(form: TaskFormat, shape: str) -> None:
    assert form.shape == shape


def combined(*given: ArgumentSource, header: bool = False) -> list[tuple[bytes, ...]]:
    return ArgumentProduct(given, b"\n", header=header).take(100)


def test_each_is_combined_with_each_the_last_fastest() -> None:
    sources = ArgumentSource(":::", ("a", "b")), ArgumentSource(":::", ("1", "2"))
    assert combined(*sources) == [(b"a", b"1"), (b"a", b"2"), (b"b", b"1"), (b"b", b"2")]
    assert combined(sources[0], ArgumentSource(":::", ())) == []


def test_a_plus_joins_item_to_item_up_to_the_shortest() -> None:
    assert combined(ArgumentSource(":::", ("a", "b", "c")), ArgumentSource(":::+", ("1", "2"))) == [
        (b"a", b"1"),
        (b"b", b"2"),
    ]
    three = ArgumentSource(":::", ("x", "y")), ArgumentSource(":::", ("a", "b")), ArgumentSource(":::+", ("1", "2"))
    assert combined(*three)[:3] == [(b"x", b"a", b"1"), (b"x", b"b", b"2"), (b"y", b"a", b"1")]


def test_the_first_of_each_source_is_its_name() -> None:
    made = ArgumentProduct(
        [ArgumentSource(":::", ("x", "1")), ArgumentSource(":::", ("y", "2", "3"))], b"\n", header=True
    )
    assert (made.names, made.take(9)) == ((b"x", b"y"), [(b"1", b"2"), (b"1", b"3")])


def test_all_combinations_of_large_sources_are_never_made_at_once() -> None:
    words = tuple(map(str, range(20_000)))
    made = ArgumentProduct(
        [ArgumentSource(":::", words), ArgumentSource(":::", words), ArgumentSource(":::", words)], b"\n", header=False
    )
    assert made.take(2) == [(b"0", b"0", b"0"), (b"0", b"0", b"1")]


def test_a_file_that_goes_is_an_error_with_its_name(tmp_path: object) -> None:
    with pytest.raises(PipelineError, match=r"cannot read .*gone"):
        combined(ArgumentSource("::::", (f"{tmp_path}/gone",)))
    with pytest.raises(UsageError, match="gone"):
        TaskFormatter(TaskFormat(source_count=2), [ArgumentSource("::::", (f"{tmp_path}/gone",))], zero=False)


def test_a_forming_says_what_its_records_are_like_and_which_input_it_is() -> None:
    forming = TaskFormatter(TaskFormat(colsep=","), [], zero=True)
    assert (forming.record_format, forming.terminator, forming.reads_input) == (
        RecordFormat(shape="columns"),
        b"\0",
        True,
    )
    assert forming.format(b"a,b\0c\0", 1, "f").records == [b'["a","b"]', b'["c"]']
    assert forming.format(b"", 1, "f").is_last
    assert forming.identity != TaskFormatter(TaskFormat(colsep=";"), [], zero=True).identity
    given = TaskFormatter(
        TaskFormat(source_count=2), [ArgumentSource(":::", ("a",)), ArgumentSource(":::", ("1",))], zero=False
    )
    assert not given.reads_input
    first, last = given.format(b"", 0, ""), given.format(b"", 0, "")
    assert (first.records, first.is_last, last.records, last.is_last) == ([b'["a","1"]'], False, [], True)
