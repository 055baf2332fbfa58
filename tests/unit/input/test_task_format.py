"""Task formats: columns, headers, groups, packed commands, shuffling, combinations."""

from __future__ import annotations

from itertools import chain

import pytest

from pipeline.input.task_format import (
    ArgumentProduct,
    FieldParser,
    TaskFormat,
    TaskFormatter,
)
from pipeline.model.errors import PipelineError, UsageError
from pipeline.model.messages import RecordFormat
from pipeline.model.records import ArgumentSource, PackingLimit, decode_fields


def parse_values(
    task_format: TaskFormat, *pieces: list[bytes], file: int = 1, limit: PackingLimit | None = None
) -> list[list[bytes]]:
    """Return the values of all records of lines that are added in these pieces."""
    parser = FieldParser(task_format, limit)
    records = list(chain.from_iterable(parser.add_lines(piece, file) for piece in pieces)) + parser.finish()
    return [decode_fields(record)[0] for record in records]


def test_colsep_splits_and_trims_columns() -> None:
    assert parse_values(TaskFormat(colsep=","), [b"a, b ,c", b"", b"x"]) == [[b"a", b"b", b"c"], [b""], [b"x"]]
    assert parse_values(TaskFormat(colsep="[;|]"), [b"a;b|c\xff"]) == [[b"a", b"b", b"c\xff"]]


def test_csv_value_may_contain_quotes_and_newlines() -> None:
    pieces = [b'"a ""q"" b","c'], [b'd",e', b"f,g"]
    assert parse_values(TaskFormat(csv=True), *pieces) == [[b'a "q" b', b"c\nd", b"e"], [b"f", b"g"]]
    assert parse_values(TaskFormat(csv=True, colsep=";"), [b"a;b,c"]) == [[b"a", b"b,c"]]


def test_csv_unclosed_quotes_end_with_input() -> None:
    assert parse_values(TaskFormat(csv=True), [b'a,"b', b"c"]) == [[b"a", b"b\nc"]]


def test_header_names_columns_of_each_file() -> None:
    parser = FieldParser(TaskFormat(colsep=",", header=True))
    records = parser.add_lines([b"x,y", b"1,2", b"3", b"4,5,6"], 1) + parser.add_lines([b"z", b"7"], 2)
    assert [decode_fields(record) for record in records] == [
        ([b"1", b"2"], [b"x", b"y"]),
        ([b"3", b""], [b"x", b"y"]),
        ([b"4", b"5"], [b"x", b"y"]),
        ([b"7"], [b"z"]),
    ]


def test_group_size_last_group_may_be_smaller() -> None:
    assert parse_values(TaskFormat(group_size=2), [b"1"], [b"2", b"3"]) == [[b"1", b"2"], [b"3"]]
    assert parse_values(TaskFormat(group_size=2, colsep=","), [b"a,b", b"c", b"d"]) == [[b"a", b"b", b"c"], [b"d"]]
    assert parse_values(TaskFormat(group_size=2)) == []


def test_pack_slots_fills_commands_and_shares_the_rest() -> None:
    assert parse_values(TaskFormat(pack_slots=2), [b"%d" % n for n in range(5)]) == [[b"0", b"1", b"2"], [b"3", b"4"]]
    many = [b"x" * 97 for _ in range(30)]
    limit = PackingLimit(1000, lambda value: len(value) + 3)
    records = parse_values(TaskFormat(pack_slots=1), many, limit=limit)
    assert list(map(len, records)) == [10, 10, 10]
    large = b"x" * 2000  # does not fit, but alone
    assert parse_values(TaskFormat(pack_slots=1), [b"a", large, b"b"], limit=limit) == [[b"a"], [large], [b"b"]]
    assert parse_values(TaskFormat(pack_slots=9, group_size=2), many[:5]) == [many[:2], many[2:4], many[4:5]]


def test_shuffle_is_the_same_for_same_input_or_seed() -> None:
    texts = [b"%d" % n for n in range(100)]

    def shuffle(seed: int | None = None, lines: list[bytes] = texts) -> list[bytes]:
        parser = FieldParser(TaskFormat(is_shuffled=True, seed=seed))
        assert parser.add_lines(lines, 1) == []
        return parser.finish()

    assert shuffle() == shuffle() != texts
    assert shuffle(1) == shuffle(1) != shuffle(2)
    assert sorted(shuffle()) == sorted(shuffle(1)) == sorted(texts)
    assert shuffle(lines=texts[:-1]) != [text for text in shuffle() if text != b"99"]


@pytest.mark.parametrize("task_format", [TaskFormat(), TaskFormat(json=True)])
def test_add_lines_of_line_format_changes_nothing(task_format: TaskFormat) -> None:
    assert FieldParser(task_format).add_lines([b"a\xff", b"", b"{"], 1) == [b"a\xff", b"", b"{"]


@pytest.mark.parametrize(
    ("task_format", "shape"),
    [
        (TaskFormat(), "line"),
        (TaskFormat(is_shuffled=True), "line"),
        (TaskFormat(json=True), "json"),
        (TaskFormat(pack_slots=2, group_size=2), "packed"),
        (TaskFormat(header=True), "columns"),
        (TaskFormat(source_count=2), "columns"),
    ],
)
def test_shape_of_format_is_known(task_format: TaskFormat, shape: str) -> None:
    assert task_format.shape == shape


def combine(*sources: ArgumentSource, header: bool = False) -> list[tuple[bytes, ...]]:
    return ArgumentProduct(sources, b"\n", TaskFormat(header=header)).take(100)


def test_argument_product_last_source_varies_fastest() -> None:
    sources = ArgumentSource(":::", ("a", "b")), ArgumentSource(":::", ("1", "2"))
    assert combine(*sources) == [(b"a", b"1"), (b"a", b"2"), (b"b", b"1"), (b"b", b"2")]
    assert combine(sources[0], ArgumentSource(":::", ())) == []


def test_argument_product_linked_sources_end_with_shortest() -> None:
    assert combine(ArgumentSource(":::", ("a", "b", "c")), ArgumentSource(":::+", ("1", "2"))) == [
        (b"a", b"1"),
        (b"b", b"2"),
    ]
    three = ArgumentSource(":::", ("x", "y")), ArgumentSource(":::", ("a", "b")), ArgumentSource(":::+", ("1", "2"))
    assert combine(*three)[:3] == [(b"x", b"a", b"1"), (b"x", b"b", b"2"), (b"y", b"a", b"1")]


def test_argument_product_header_names_sources() -> None:
    combinations = ArgumentProduct(
        [ArgumentSource(":::", ("x", "1")), ArgumentSource(":::", ("y", "2", "3"))], b"\n", TaskFormat(header=True)
    )
    assert (combinations.names, combinations.take(9)) == ((b"x", b"y"), [(b"1", b"2"), (b"1", b"3")])


def test_argument_product_of_large_sources_is_lazy() -> None:
    arguments = tuple(map(str, range(20_000)))
    combinations = ArgumentProduct(
        [ArgumentSource(":::", arguments), ArgumentSource(":::", arguments), ArgumentSource(":::", arguments)],
        b"\n",
        TaskFormat(),
    )
    assert combinations.take(2) == [(b"0", b"0", b"0"), (b"0", b"0", b"1")]


def test_missing_source_file_raises(tmp_path: object) -> None:
    with pytest.raises(PipelineError, match=r"cannot read .*gone"):
        combine(ArgumentSource("::::", (f"{tmp_path}/gone",)))
    with pytest.raises(UsageError, match="gone"):
        TaskFormatter(TaskFormat(source_count=2), [ArgumentSource("::::", (f"{tmp_path}/gone",))], zero=False)


def test_task_formatter_describes_records_and_input() -> None:
    formatter = TaskFormatter(TaskFormat(colsep=","), [], zero=True)
    assert (formatter.record_format, formatter.terminator, formatter.reads_input) == (
        RecordFormat(shape="columns"),
        b"\0",
        True,
    )
    assert formatter.format(b"a,b\0c\0", 1, "f").records == [b'["a","b"]', b'["c"]']
    assert formatter.format(b"", 1, "f").is_last
    assert formatter.identity != TaskFormatter(TaskFormat(colsep=";"), [], zero=True).identity
    combined = TaskFormatter(
        TaskFormat(source_count=2), [ArgumentSource(":::", ("a",)), ArgumentSource(":::", ("1",))], zero=False
    )
    assert not combined.reads_input
    first, last = combined.format(b"", 0, ""), combined.format(b"", 0, "")
    assert (first.records, first.is_last, last.records, last.is_last) == ([b'["a","1"]'], False, [], True)
