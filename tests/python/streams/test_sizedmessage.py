"""Sized messages: the public module `zc.zrs.sizedmessage`."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zc.zrs.sizedmessage import LimitExceeded, Stream, marshal, marshals


def test_marshal_puts_the_length_before_the_message() -> None:
    assert marshal(b"zrs2.0") == b"\0\0\0\6zrs2.0"
    assert marshal(b"") == b"\0\0\0\0"


def test_marshals_makes_one_message_of_several_pieces() -> None:
    header, pieces = marshals([b"ab", b"", b"c"])
    assert header + b"".join(pieces) == marshal(b"abc")


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_messages_come_out_whole_however_the_stream_is_cut(
    messages: list[bytes], size: int
) -> None:
    stream_bytes = b"".join(map(marshal, messages))
    received: list[bytes] = []
    stream = Stream(received.append)
    for start in range(0, len(stream_bytes), size):
        stream(stream_bytes[start : start + size])
    assert received == messages


def test_an_incomplete_message_waits() -> None:
    received: list[bytes] = []
    stream = Stream(received.append)
    stream(struct.pack(">I", 3) + b"ab")
    assert received == []
    stream(b"c")
    assert received == [b"abc"]


def test_a_message_of_the_limit_is_allowed_and_a_longer_one_is_refused_at_its_header() -> None:
    received: list[bytes] = []
    stream = Stream(received.append, limit=8)
    with pytest.raises(LimitExceeded) as caught:
        stream(marshal(b"12345678") + struct.pack(">I", 13))
    assert received == [b"12345678"]
    assert caught.value.args == (8, 13)


def test_a_refused_stream_stays_refused() -> None:
    stream = Stream(lambda _: pytest.fail("a message after the refusal"), limit=8)
    with pytest.raises(LimitExceeded):
        stream(struct.pack(">I", 13))
    with pytest.raises(LimitExceeded) as caught:
        stream(b"x" * 13 + marshal(b"ab"))
    assert caught.value.args == (8, 13)


def test_a_message_that_its_receiver_refuses_is_not_delivered_again() -> None:
    received: list[bytes] = []

    def refuse_once(message: bytes) -> None:
        received.append(message)
        if len(received) == 1:
            raise RuntimeError

    stream = Stream(refuse_once)
    with pytest.raises(RuntimeError):
        stream(marshal(b"a") + marshal(b"b"))
    stream(b"")
    assert received == [b"a", b"b"]
