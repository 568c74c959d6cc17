from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from agent.exchange.access_log import FLUSH_BYTES, FLUSH_INTERVAL, AccessLogWriter
from mesh.errors import ConfigError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            pass


def test_lines_are_kept_until_the_flush(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = AccessLogWriter(str(path), pytest.fail)
    writer.write(b"one\n")
    writer.write(b"two\n")
    assert path.read_bytes() == b""
    writer.flush()
    writer.flush()
    assert path.read_bytes() == b"one\ntwo\n"
    writer.write(b"three\n")
    writer.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_full_batch_is_written_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = AccessLogWriter(str(path), pytest.fail)
    line = b"x" * 1023 + b"\n"
    for _ in range(FLUSH_BYTES // len(line)):
        writer.write(line)
    assert path.stat().st_size == FLUSH_BYTES
    writer.close()


async def test_the_task_flushes_every_second_and_at_its_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "access.log"
    writer = AccessLogWriter(str(path), pytest.fail)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.write(b"one\n")
        await trio.sleep(FLUSH_INTERVAL * 1.5)  # virtual time: the interval passes
        assert path.read_bytes() == b"one\n"
        writer.write(b"two\n")
        nursery.cancel_scope.cancel()
    assert path.read_bytes() == b"one\ntwo\n"
    writer.close()


def test_a_slow_reader_blocks_nobody_and_loses_counted_lines_only(pipe: tuple[int, int]) -> None:
    reader, writing = pipe
    dropped: list[str] = []
    writer = AccessLogWriter(writing, dropped.append, max_buffer_bytes=200_000)
    line = b"%06d" + b"x" * 93 + b"\n"
    for n in range(5000):
        writer.write(line % n)
    assert set(dropped) == {"buffer_full"}
    received = b""
    while True:
        try:
            received += os.read(reader, 1 << 20)
        except BlockingIOError:
            writer.flush()
            try:
                received += os.read(reader, 1 << 20)
            except BlockingIOError:
                break
    lines = received.splitlines()
    assert len(lines) + len(dropped) == 5000
    assert [int(each[:6]) for each in lines] == sorted(int(each[:6]) for each in lines)
    assert all(len(each) == 99 for each in lines)


def test_what_a_pipe_never_took_is_counted_at_the_end(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    dropped: list[str] = []
    writer = AccessLogWriter(writing, dropped.append)
    for _ in range(2000):
        writer.write(b"x" * 99 + b"\n")
    writer.close()
    assert dropped
    os.write(writing, b"")  # still open: it was not the writer's


def test_a_reader_that_left_is_counted(pipe: tuple[int, int]) -> None:
    reader, writing = pipe
    dropped: list[str] = []
    writer = AccessLogWriter(writing, dropped.append)
    os.close(reader)
    writer.write(b"a\n")
    writer.write(b"b\n")
    writer.flush()
    assert dropped == ["write_failed", "write_failed"]
    writer.write(b"c\n")
    writer.close()
    assert len(dropped) == 3


def test_a_nonblocking_descriptor_is_as_good(pipe: tuple[int, int]) -> None:
    reader, writing = pipe
    os.set_blocking(writing, False)
    writer = AccessLogWriter(writing, pytest.fail)
    writer.write(b"a\n")
    writer.flush()
    writer.reopen()
    assert os.read(reader, 100) == b"a\n"


def test_reopening_follows_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = AccessLogWriter(str(path), pytest.fail)
    writer.write(b"old\n")
    path.rename(tmp_path / "access.log.1")
    writer.reopen()
    writer.write(b"new\n")
    writer.close()
    assert (tmp_path / "access.log.1").read_bytes() == b"old\n"
    assert path.read_bytes() == b"new\n"


def test_a_failed_reopening_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = AccessLogWriter(str(folder / "access.log"), pytest.fail)
    folder.rename(tmp_path / "moved")
    with pytest.raises(ConfigError):
        writer.reopen()
    writer.write(b"still here\n")
    writer.close()
    assert (tmp_path / "moved" / "access.log").read_bytes() == b"still here\n"


def test_a_path_that_cannot_be_opened_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened: No such file or directory; name a file in a folder"):
        AccessLogWriter(str(tmp_path / "no" / "access.log"), pytest.fail)


def test_dev_stdout_is_the_descriptor_itself(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    writer = AccessLogWriter("/dev/stdout", pytest.fail)
    writer.write(b"hello\n")
    writer.close()
    assert capfdbinary.readouterr().out == b"hello\n"


def test_what_two_write_to_one_pipe_stays_in_whole_lines(pipe: tuple[int, int]) -> None:
    """Each piece that a pipe takes without blocking ends with a line, so another writer's comes between lines."""
    reading, writing = pipe
    writers = [AccessLogWriter(writing, pytest.fail) for _ in range(2)]
    lines = [b"%d %s\n" % (at % 2, b"x" * (at * 37 % 300)) for at in range(60)]
    for at, line in enumerate(lines):
        writers[at % 2].write(line)
    pieces = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        pieces.append(data)
        return real(descriptor, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        for writer in writers:
            writer.flush()
    assert len(pieces) > 2
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert sorted(os.read(reading, 65536).splitlines(keepends=True)) == sorted(lines)
