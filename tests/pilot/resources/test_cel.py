import pytest

from pilot.resources.cel import MAX_DEPTH, CelError, check


@pytest.mark.parametrize(
    "text",
    [
        "response.code >= 400",
        "connection.mtls && request.url_path.contains('v1beta3')",
        "has(request.headers.x) ? 'a' : \"b\"",
        "a.all(x, x > 1) || b.map(x, x.y, x) == c.map(x, x)",
        "{'a': 1, \"b\": [1, 2,],}",
        "pkg.Msg{field: 1, other: .root.name}",
        "--a - -1 + !!b",
        "!-1",
        "0xFFu == 18446744073709551615u",
        "r'\\d+' + b'\\x00' + '\\u00e4\\n' + R\"\\\"",
        '\'\'\'several\nlines\'\'\' + """and "quotes\\" """',
        ".5 + 1.5e3 + 2e-1",
        "a[0].b(c)[d] // why",
        "'x' in request.headers",
        "a.if",
        "true && null != false",
    ],
)
def test_expressions(text):
    check(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it ends too early"),
        (")++++", "unexpected ')' at character 1"),
        ("a +", "it ends too early"),
        ("a..b", "unexpected '.' at character 3"),
        ("a b", "unexpected 'b' at character 3"),
        ("a ? b", "it ends too early"),
        ("f(a,)", "unexpected ')' at character 5"),
        ("{a}", "unexpected '}' at character 3"),
        ("!-x", "unexpected '-' at character 2"),
        ("a.in", "unexpected 'in' at character 3"),
        ("if", "'if' at character 1 is a reserved word"),
        ("has(a)", "has() asks for a field"),
        ("a.exists(1, x)", "the first argument of exists is not a simple name"),
        ("9223372036854775809", "is too large"),
        ("9" * 5000, "is too large"),
        ("'\\q'", 'unexpected "\'" at character 1'),
        ('"abc', "unexpected '\"' at character 1"),
        ("a @ b", "unexpected '@' at character 3"),
        ("(" * 1000, f"more than {MAX_DEPTH} levels deep"),
    ],
)
def test_what_is_none_and_where(text, why):
    with pytest.raises(CelError) as raised:
        check(text)
    assert why in str(raised.value)
