"""Vectors as bytes: consecutive little-endian numbers of one type, as they are sent in base64 and stored.

Bytes are checked as bytes, without making a Python number of each element.
"""

from __future__ import annotations

import binascii
import struct
import sys
from array import array
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from batchor_core.core.arguments import shown

VectorDtype: TypeAlias = Literal["float32", "float64", "int8", "uint8"]
"""The type of a vector's elements, by its name in numpy and Arrow."""

DTYPES: tuple[str, ...] = get_args(VectorDtype)


class _Element(NamedTuple):
    """The binary form of an element.

    ``code`` is that of ``struct`` and ``array``. In a float that is NaN or infinite, all bits of the exponent are set: they lie
    in the highest byte but for the sign, and in those bits of the byte below that ``mask`` has; 0 if there is no such value.
    """

    code: Literal["f", "d", "b", "B"]
    size: int
    mask: int = 0


_ELEMENTS: dict[str, _Element] = {
    "float32": _Element("f", 4, 0x80),
    "float64": _Element("d", 8, 0xF0),
    "int8": _Element("b", 1),
    "uint8": _Element("B", 1),
}
_FULL_EXPONENT = bytes(int(byte & 0x7F == 0x7F) for byte in range(256))


class VectorError(ValueError):
    """A vector does not fit the job's output.

    Attributes:
        error_class: ``invalid_vector``, ``vector_wrong_dimensions`` or ``vector_not_finite``.
        may_pass: Whether another answer to the same request may be better.
    """

    def __init__(self, error_class: str, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.may_pass = may_pass


def vector_bytes(value: Any, *, dimensions: int, dtype: str) -> bytes:
    """A vector as it is stored.

    Args:
        value: What a provider returned: bytes, a text in base64, or a list of numbers.
        dimensions: How many elements it must have.
        dtype: Their type.

    Raises:
        VectorError: It is not a vector, or has other dimensions or elements.
    """
    element = _ELEMENTS[dtype]
    match value:
        case bytes() | bytearray() | memoryview():
            data = bytes(value)
        case str():
            data = _decoded(value)
        case list() | tuple():
            data = _packed(value, element, dtype)
        case _:
            raise VectorError(
                "invalid_vector", f"the answer is not a vector but {shown(value)}", may_pass=True
            )
    count, rest = divmod(len(data), element.size)
    if rest:
        raise VectorError(
            "invalid_vector",
            f"the vector has {len(data):,} bytes, which is not a multiple of the {element.size} of a {dtype} element",
            may_pass=True,
        )
    if count != dimensions:
        raise VectorError(
            "vector_wrong_dimensions",
            f"the vector has {count:,} dimensions as {dtype}, and the job expects {dimensions:,}",
        )
    if element.mask and (at := _not_finite(data, element)) >= 0:
        raise VectorError("vector_not_finite", f"element {at} of the vector is NaN or infinite as {dtype}")
    return data


def vector_array(data: bytes, dtype: str) -> array[Any]:
    """A stored vector as an array of its elements, which ``numpy.asarray`` uses without copying."""
    made: array[Any] = array(_ELEMENTS[dtype].code, data)
    if sys.byteorder == "big":
        made.byteswap()
    return made


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii.Error is one
        raise VectorError("invalid_vector", f"the vector is not base64: {error}", may_pass=True) from error


def _packed(values: list[Any] | tuple[Any, ...], element: _Element, dtype: str) -> bytes:
    kinds = {int, float} if element.mask else {int}
    if not set(map(type, values)) <= kinds:
        at, wrong = next((at, value) for at, value in enumerate(values) if type(value) not in kinds)
        raise VectorError(
            "invalid_vector",
            f"element {at} of the vector is {shown(wrong)}, which is not a {dtype}",
            may_pass=True,
        )
    try:
        return struct.pack(f"<{len(values)}{element.code}", *values)
    except (struct.error, OverflowError) as error:
        error_class = "vector_not_finite" if element.mask else "invalid_vector"
        raise VectorError(error_class, f"an element of the vector is beyond {dtype}: {error}") from error


def _not_finite(data: bytes, element: _Element) -> int:
    """The index of the first element that is NaN or infinite; -1 if there is none."""
    suspects = data[element.size - 1 :: element.size].translate(_FULL_EXPONENT)
    at = suspects.find(1)
    while at >= 0:
        if data[at * element.size + element.size - 2] & element.mask == element.mask:
            return at
        at = suspects.find(1, at + 1)
    return -1
