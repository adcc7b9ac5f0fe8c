"""Viewers of the live page that read all that they are sent: python -m benchmark.page_viewers URL COUNT

Drawing is a browser's work, on another machine as a rule; here it would take both cores.
"""

from __future__ import annotations

import struct
import sys
import threading
from typing import Any

import msgspec
import viser
import zstandard
from websockets.sync.client import connect


def open_page(url: str) -> Any:
    """A connection as a browser makes it."""
    return connect(
        url.replace("http", "ws", 1).rstrip("/"), subprotocols=[f"viser-v{viser.__version__}"], max_size=None
    )


def messages(data: bytes) -> list[dict[str, Any]]:
    """What is in one frame."""
    size, packed = struct.unpack_from("<QQ", data)
    inner = zstandard.ZstdDecompressor().decompress(data[16 : 16 + packed], max_output_size=size)
    found: list[dict[str, Any]] = msgspec.msgpack.decode(inner)["messages"]
    return found


def main() -> None:
    """Read until ended."""
    url, count = sys.argv[1], int(sys.argv[2])
    pages = [open_page(url) for _ in range(count)]
    print("open", flush=True)

    def read(page: Any) -> None:
        while True:
            page.recv()

    for page in pages[1:]:
        threading.Thread(target=read, args=(page,), daemon=True).start()
    read(pages[0])


if __name__ == "__main__":
    main()
