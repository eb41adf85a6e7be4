"""TOAST placeholders: what the PostgreSQL connector writes for a large value that an update left untouched."""

from __future__ import annotations

import base64
import json
from typing import Any

from daemon.mapping.structure import ConnectorModes


class Placeholder:
    """The forms of one connector's placeholder: text, text array, bytes, integer array, hstore map."""

    def __init__(self, modes: ConnectorModes) -> None:
        text = modes.unavailable_value_placeholder
        if text.startswith("hex:"):
            text = bytes.fromhex(text[4:]).decode(errors="replace")
        raw = text.encode()
        in_binary = {
            "hex": raw.hex(),
            "base64-url-safe": base64.urlsafe_b64encode(raw).decode(),
        }.get(modes.binary_handling_mode, base64.b64encode(raw).decode())
        integers = list(raw)
        self._values: tuple[Any, ...] = (text, [text], in_binary, [in_binary], integers, {text: text})
        self._text = json.dumps(text, ensure_ascii=False)[1:-1].encode()
        self._binary = in_binary.encode()
        self._letter = self._binary[:1]  # looked for first: that is faster, and the default's stands in few messages
        self._integers = ",".join(map(str, integers)).encode()
        self._avro_integers = b"".join(map(_zigzag, integers))

    def take(self, raw: bytes, row: dict[str, Any]) -> tuple[str, ...]:
        """Remove the columns that hold a placeholder from `row`, the image in message `raw`; their names."""
        # Avro, which alone begins with a zero byte, holds texts and bytes as they are, numbers in a form of its own.
        integers = self._integers if raw[0] else self._avro_integers
        no_binary = self._letter not in raw or self._binary not in raw
        if no_binary and self._text not in raw and integers not in raw:
            return ()
        names = tuple(name for name, value in row.items() if value is not None and value in self._values)
        for name in names:
            del row[name]
        return names


def _zigzag(number: int) -> bytes:
    """An integer from 0 to 255 as Avro writes it."""
    doubled = 2 * number
    return bytes([doubled]) if doubled < 128 else bytes([doubled & 127 | 128, doubled >> 7])
