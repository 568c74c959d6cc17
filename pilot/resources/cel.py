"""The syntax of CEL, the expressions of a Telemetry: is it one? Nothing is evaluated here.

Only the form is read, as Istio's webhook does: names, types and the number of arguments are not looked at, but for the
macros (has, all, exists, exists_one, map, filter), which are part of the syntax. Source: the grammar of the CEL
specification.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias

MAX_DEPTH: Final = 50
"""Of nested parentheses, lists, maps and arguments."""
Shape: TypeAlias = Literal["name", "field", "other"]
"""What an expression is, as far as macros ask: a simple name, a field of something, or anything else."""

_MAX_DIGITS: Final = 24
_ESCAPE = r"\\(?:[abfnrtv\"'`?\\]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})"
_TOKEN: Final = re.compile(
    rf"""
      (?P<blank>   \s+ | //[^\n]* )
    | (?P<text>    [bB]?[rR](?:\"{{3}}.*?\"{{3}}|'{{3}}.*?'{{3}}|\"[^\"\n\r]*\"|'[^'\n\r]*')
                 | [bB]?(?:\"{{3}}(?:{_ESCAPE}|[^\\])*?\"{{3}}|'{{3}}(?:{_ESCAPE}|[^\\])*?'{{3}}
                          |\"(?:{_ESCAPE}|[^\\\"\n\r])*\"|'(?:{_ESCAPE}|[^\\'\n\r])*') )
    | (?P<real>    \d+\.\d+(?:[eE][+-]?\d+)? | \d+[eE][+-]?\d+ | \.\d+(?:[eE][+-]?\d+)? )
    | (?P<integer> (?:0x[0-9a-fA-F]+|\d+)[uU]? )
    | (?P<word>    [a-zA-Z_][a-zA-Z0-9_]* )
    | (?P<sign>    == | != | <= | >= | && | \|\| | [?:.,()\[\]{{}}<>+\-*/%!] )
    """,
    re.VERBOSE | re.DOTALL,
)
_BINARY: Final = frozenset({"||", "&&", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"})
_LITERAL: Final = frozenset({"true", "false", "null"})
_RESERVED: Final = frozenset(
    (
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let"),
        *("loop", "package", "namespace", "return", "var", "void", "while"),
    )
)
# Method -> numbers of arguments with which it is a macro, whose first argument is a simple name.
_MACROS: Final = {"all": (2,), "exists": (2,), "exists_one": (2,), "map": (2, 3), "filter": (2,)}


class CelError(ValueError):
    """Why a text is no CEL expression, and at which character (from 1)."""


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


def check(text: str) -> None:
    """Raise CelError if the text is not one CEL expression."""
    reader = _Reader(_tokens(text))
    reader.expression()
    if reader.next.kind != "end":
        raise reader.unexpected()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CelError(f"unexpected {text[position]!r} at character {position + 1}")
        if match.lastgroup is not None and match.lastgroup != "blank":
            found.append(_Token(match.lastgroup, match[0], position + 1))
        position = match.end()
    return [*found, _Token("end", "", len(text) + 1)]


class _Reader:
    """A recursive descent over tokens. Precedence does not matter to whether a text is an expression."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    @property
    def next(self) -> _Token:
        return self._tokens[self._position]

    def unexpected(self) -> CelError:
        token = self.next
        return CelError(f"unexpected {token.text!r} at character {token.column}" if token.text else "it ends too early")

    def expression(self) -> Shape:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CelError(f"more than {MAX_DEPTH} levels deep")
        shape = self._unary()
        while self.next.text in _BINARY and self.next.kind in ("sign", "word"):
            self._take()
            self._unary()
            shape = "other"
        if self._accept("?"):
            self.expression()
            self._expect(":")
            self.expression()
            shape = "other"
        self._depth -= 1
        return shape

    def _take(self) -> _Token:
        token = self.next
        self._position += 1
        return token

    def _accept(self, sign: str) -> bool:
        if self.next.kind == "sign" and self.next.text == sign:
            self._position += 1
            return True
        return False

    def _expect(self, sign: str) -> None:
        if not self._accept(sign):
            raise self.unexpected()

    def _unary(self) -> Shape:
        if self._accept("!"):
            while self._accept("!"):
                pass
            # Of signs, only that of a number may stand behind one of another sort.
            if self.next.text == "-" and self._tokens[self._position + 1].kind in ("integer", "real"):
                self._take()
            self._member()
            return "other"
        if self._accept("-"):
            while self._accept("-"):
                pass
            self._member()
            return "other"
        return self._member()

    def _member(self) -> Shape:
        shape = self._primary()
        while True:
            if self._accept("."):
                name = self._word()
                shape = "field"
                if self._accept("("):
                    shape = "other"
                    arguments = self._expressions(")")
                    if len(arguments) in _MACROS.get(name, ()) and arguments[0] != "name":
                        raise CelError(f"the first argument of {name} is not a simple name")
            elif self._accept("["):
                self.expression()
                self._expect("]")
                shape = "other"
            elif shape in ("name", "field") and self._accept("{"):
                self._fields()
                shape = "other"
            else:
                return shape

    def _word(self) -> str:
        if self.next.kind != "word" or self.next.text in _LITERAL or self.next.text == "in":
            raise self.unexpected()
        return self._take().text

    def _primary(self) -> Shape:
        if self._accept("("):
            shape = self.expression()
            self._expect(")")
            return shape
        if self._accept("["):
            self._expressions("]")
            return "other"
        if self._accept("{"):
            self._entries()
            return "other"
        token = self.next
        if token.kind in ("text", "real", "integer") or token.text in _LITERAL:
            self._check_range(self._take())
            return "other"
        self._accept(".")
        return self._name()

    def _name(self) -> Shape:
        token = self.next
        name = self._word()
        if name in _RESERVED:
            raise CelError(f"{name!r} at character {token.column} is a reserved word")
        if not self._accept("("):
            return "name"
        arguments = self._expressions(")")
        if name == "has" and len(arguments) == 1 and arguments[0] != "field":
            raise CelError("has() asks for a field, as in has(a.b)")
        return "other"

    @staticmethod
    def _check_range(token: _Token) -> None:
        if token.kind == "integer":
            digits = token.text.rstrip("uU")
            limit = 2**64 - 1 if digits != token.text else 2**63
            if len(digits) > _MAX_DIGITS or int(digits, 16 if digits.startswith("0x") else 10) > limit:
                raise CelError(f"{token.text} at character {token.column} is too large")

    def _expressions(self, end: str) -> list[Shape]:
        """Expressions between commas up to `end`; a list may end in a comma."""
        shapes: list[Shape] = []
        while not self._accept(end):
            shapes.append(self.expression())
            if not self._accept(","):
                self._expect(end)
                break
            if end == ")" and self.next.text == ")":
                raise self.unexpected()
        return shapes

    def _entries(self) -> None:
        while not self._accept("}"):
            self.expression()
            self._entry()
            if not self._accept(","):
                self._expect("}")
                return

    def _fields(self) -> None:
        while not self._accept("}"):
            self._word()
            self._entry()
            if not self._accept(","):
                self._expect("}")
                return

    def _entry(self) -> None:
        self._expect(":")
        self.expression()
