"""Tables for pipes and for terminals."""

from __future__ import annotations

import io

from mesh.ctl import tables


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_aligned_columns() -> None:
    stream = io.StringIO()
    tables.show(("NAME", "STATE"), [("reviews-v1", "ok"), ("a", "[bold]")], stream)
    assert stream.getvalue() == "NAME        STATE\nreviews-v1  ok\na           [bold]\n"
    assert tables.align(("A", "B"), []) == "A  B\n"


def test_a_terminal_gets_a_drawn_table_and_text_is_never_markup() -> None:
    stream = FakeTerminal()
    tables.show(("NAME", "STATE"), [("a", "[bold]")], stream)
    assert "[bold]" in stream.getvalue()
    assert "─" in stream.getvalue() or "━" in stream.getvalue()


def test_a_tree_is_text_in_a_pipe_and_drawn_on_a_terminal() -> None:
    lines = ["root", "  [a]", "    b", "  c"]
    pipe = io.StringIO()
    tables.show_tree(lines, pipe)
    assert pipe.getvalue() == "root\n  [a]\n    b\n  c\n"
    terminal = FakeTerminal()
    tables.show_tree(lines, terminal)
    assert [line.split()[-1] for line in terminal.getvalue().splitlines()] == ["root", "[a]", "b", "c"]
