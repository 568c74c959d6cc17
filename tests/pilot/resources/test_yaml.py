import pytest

from pilot.resources.yaml import MAX_DEPTH, documents, format_path, parse_path, plain


def value(text):
    found, errors = documents(text, "f.yaml")
    assert not errors, [str(e) for e in errors]
    assert len(found) == 1
    return found[0].value


def error(text):
    _, errors = documents(text, "f.yaml")
    assert len(errors) == 1
    return errors[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            (word, word)
            for word in ("no", "on", "yes", "y", "010", "1_000", "1:30", "2020-01-01", ".inf", "0x", "1.2.3")
        ),
        *(("~", None), ("null", None), ("", None), ("true", True), ("FALSE", False)),
        *(("12", 12), ("-3", -3), ("0", 0), ("0x1f", 31), ("0o17", 15), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0)),
        *(("1e999", "1e999"), ("9" * 500, "9" * 500)),
    ],
)
def test_unquoted_scalars_are_those_of_json_and_everything_else_is_text(text, expected):
    assert plain(text) == expected
    assert type(plain(text)) is type(expected)


def test_quotes_and_tags_decide():
    assert value("a: '1'\nb: \"true\"\nc: !!str 12\nd: !!int '12'\ne: ! 5\nf: |\n  1\n") == {
        "a": "1",
        "b": "true",
        "c": "12",
        "d": 12,
        "e": "5",
        "f": "1\n",
    }


def test_keys_are_text():
    assert value("8080: {true: 1}") == {"8080": {"true": 1}}


def test_several_documents_and_empty_ones():
    found, errors = documents("---\n# only a comment\n---\na: 1\n---\n- b\n...\n", "f.yaml")
    assert [d.value for d in found] == [{"a": 1}, ["b"]]
    assert not errors


def test_json_with_tabs_is_yaml():
    assert value('{\n\t"a": [1,\t2]}') == {"a": [1, 2]}


def test_byte_order_mark_is_passed_over():
    assert value(b"\xef\xbb\xbfa: 1") == {"a": 1}
    assert value("\ufeffa: 1") == {"a": 1}


def test_positions_are_those_of_keys_and_items():
    (document,), _ = documents("a:\n  b:\n  - c: 1\n  -   2\n", "f.yaml")
    assert document.position(("a",)) == (1, 1)
    assert document.position(("a", "b")) == (2, 3)
    assert document.position(("a", "b", 0, "c")) == (3, 5)
    assert document.position(("a", "b", 1)) == (4, 7)
    assert document.position(("a", "b", 7, "x")) == (2, 3)
    assert document.position(("a", "x", "y")) == (1, 1)


def test_anchors_and_merges():
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {<<: [*b, {z: 4}]}\nthree: *b\nkey: &k n\n*k : 5\n"
    assert value(text) == {
        "base": {"x": 1, "y": 2},
        "one": {"x": 1, "y": 3},
        "two": {"x": 1, "y": 2, "z": 4},
        "three": {"x": 1, "y": 2},
        "key": "n",
        "n": 5,
    }


def test_every_duplicate_key_is_told_and_the_first_value_stays():
    found, errors = documents("a: 1\nb:\n  c: 2\n  c: 3\na: 4\n", "f.yaml")
    assert found[0].value == {"a": 1, "b": {"c": 2}}
    assert [(e.line, e.column) for e in errors] == [(4, 3), (5, 1)]
    assert "first on line 1" in errors[1].what


@pytest.mark.parametrize(
    ("text", "what", "place"),
    [
        ("a: [1,\n b: 2", "not YAML", (3, 1)),
        ("a: 1\n b: 2", "not YAML", (2, 3)),
        ("a:\n\t- b", "a tab", (2, 1)),
        ("a: b\x00", "U+0000", (1, 5)),
        ("x: 1\na: \x07", "U+0007", (2, 4)),
        ("a: *nobody", "alias *nobody", (1, 4)),
        ("a: &x [*x]", "alias *x", (1, 8)),
        ("a: !python/object x", "unknown tag", (1, 4)),
        ("? [a]\n: 1", "key must be text", (1, 3)),
        ("a: {<<: 1}", "merges mappings only", (1, 9)),
        ("%YAML 9.0\n---\na: 1", "not YAML", (1, 1)),
    ],
)
def test_bad_text_is_an_error_with_its_place(text, what, place):
    found = error(text)
    assert what in found.what
    assert found.remedy
    assert (found.line, found.column) == place
    assert found.file == "f.yaml"


def test_not_utf8_is_an_error_with_its_place():
    found = error(b"a: 1\nb: \xff\n")
    assert found.what == "not UTF-8 text"
    assert (found.line, found.column) == (2, 4)


def test_documents_before_a_syntax_error_are_there():
    found, errors = documents("a: 1\n---\nb: [\n", "f.yaml")
    assert [d.value for d in found] == [{"a": 1}]
    assert len(errors) == 1


@pytest.mark.parametrize("opening", ["[", "- ", "{a: "])
def test_deep_nesting_is_an_error_and_no_crash(opening):
    assert f"deeper than {MAX_DEPTH}" in error(opening * 50_000).what


def test_a_billion_laughs_are_an_error():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 10)]
    assert "aliases written out" in error("\n".join(lines)).what


def test_an_ipv6_prefix_may_end_a_flow_list():
    assert value("addresses: [1.2.3.4, 2001:db8::]\nb: 1") == {"addresses": ["1.2.3.4", "2001:db8::"], "b": 1}


def test_paths_are_written_and_read():
    path = ("spec", "http", 0, "headers", "x.y/z", "a-b")
    assert format_path(path) == 'spec.http[0].headers["x.y/z"].a-b'
    assert parse_path(format_path(path)) == path
    assert format_path(()) == ""
    assert format_path((0, "a")) == "[0].a"
