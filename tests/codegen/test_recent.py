"""What was made last is not made again, as long as the bound admits it."""

from __future__ import annotations

from sqc.codegen.recent import Recent


def test_what_was_used_longest_ago_goes_first() -> None:
    recent, made = Recent(10), []

    def get(key: bytes, size: int) -> int:
        def make() -> bytes:
            made.append(key)
            return bytes(size)

        return len(recent.get(key, make))

    assert [get(key, 4) for key in (b"a", b"b", b"a")] == [4, 4, 4]
    assert made == [b"a", b"b"]
    get(b"c", 4)  # in the place of b
    get(b"a", 4)
    get(b"b", 4)
    assert made == [b"a", b"b", b"c", b"b"]
    assert get(b"large", 11) == 11  # more than all room: nothing stays
    get(b"a", 4)
    assert made[-2:] == [b"large", b"a"]
