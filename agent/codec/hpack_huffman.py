"""Strings in HPACK's Huffman code (RFC 7541 5.2, appendix B): read four bits at a time, by a table made once.

We write no such strings: they are a quarter shorter on the wire, and dearer than the bytes that they save.
"""

from __future__ import annotations

from typing import Final

from agent.codec.hpack_table import CompressionError

# The code is canonical: codes of one length are in the order of their symbols, shorter ones before longer ones, so
# that it is known by the symbols of each length. The end of a string is the last code of 30 bits, all of them ones.
_SYMBOLS: Final = (
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b'!"()?'),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (22, b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9"),
    (
        23,
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5"
        b"\xe7\xef",
    ),
    (24, b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (
        28,
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"
        b"\x7f\xdc\xf9",
    ),
    (30, b"\n\r\x16"),
)
_LONGEST_PADDING: Final = 7
_LEAF: Final = 1 << 9
_EOS: Final = 256
_ERROR: Final = -1
_EMITS: Final = 1 << 16  # a step is the node that it leads to, and above it, if this bit is set, a symbol
_NODE: Final = 0xFF


def _tree() -> list[int]:
    """Both children of each node, the root first: a node's number, or a symbol with _LEAF."""
    children = [_ERROR, _ERROR]
    code, length = 0, 0
    for size, symbols in _SYMBOLS:
        code, length = code << (size - length), size
        for symbol in [*symbols, _EOS] if size == 30 else [*symbols]:
            node = 0
            for bit in range(size - 1, -1, -1):
                at = 2 * node + (code >> bit & 1)
                if not bit:
                    children[at] = _LEAF | symbol
                elif children[at] == _ERROR:
                    children[at] = len(children) // 2
                    children += [_ERROR, _ERROR]
                node = children[at]
            code += 1
    return children


def _steps(children: list[int]) -> list[int]:
    """For each node and the four bits that follow: where they lead to. No code is so short that two would end there."""
    steps: list[int] = []
    for start in range(len(children) // 2):
        for bits in range(16):
            step = start
            for shift in (3, 2, 1, 0):
                child = children[2 * (step & _NODE) + (bits >> shift & 1)]
                if child == _LEAF | _EOS:
                    step = _ERROR
                    break
                step = step & ~_NODE | child if child < _LEAF else _EMITS | (child & _NODE) << 8
            steps.append(step)
    return steps


def _padding(children: list[int]) -> list[int]:
    """Nodes at which a string may end: up to seven bits of padding, all ones, lead there."""
    nodes = [0]
    for _ in range(_LONGEST_PADDING):
        nodes.append(children[2 * nodes[-1] + 1])
    return nodes


_TREE: Final = _tree()
_STEPS: Final = _steps(_TREE)
_PADDING: Final = _padding(_TREE)


def decode(text: bytes) -> bytes:
    """The string that is coded so. Raises CompressionError."""
    steps = _STEPS
    node = 0
    symbols: list[int] = []
    for byte in text:
        for bits in (byte >> 4, byte & 15):
            step = steps[node << 4 | bits]
            if step < 0:
                raise CompressionError
            if step >= _EMITS:
                symbols.append(step >> 8 & _NODE)
            node = step & _NODE
    if node not in _PADDING:
        raise CompressionError
    return bytes(symbols)
