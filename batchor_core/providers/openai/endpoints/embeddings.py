"""The Embeddings endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import OutputKind, VectorOutput
from batchor_core.core.types import JSONObject
from batchor_core.providers.openai.endpoints.text_input import TextInput

_ENCODINGS = ("base64", "float", None)
_OF_THE_JOB = ("dimensions", "encoding_format")

OWN_LENGTHS = {
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
}
"""Dimensions of vectors of OpenAI's models where a request asks for none."""

FIXED_LENGTH = frozenset({"text-embedding-ada-002"})
"""OpenAI's models that refuse ``dimensions``, since their vectors have one length."""


class Embeddings(TextInput):
    """The answer is the vector of the text.

    The endpoint would take several texts in a body. A row has one, so that each text has a result and an error of its own, and
    the most inputs of a batch (50,000 at OpenAI) are its most requests.
    """

    name = OpenAIEndpoint.EMBEDDINGS
    outputs = frozenset({OutputKind.VECTOR, OutputKind.BODY})

    def check_vectors(self, output: VectorOutput, *, model: str, options: Mapping[str, Any]) -> None:
        """Refuse options with which no vector would be what the output says."""
        wanted = options.get("dimensions")
        if wanted is not None and (isinstance(wanted, bool) or wanted != output.dimensions):
            raise InvalidInputError(
                f"request_options ask for dimensions={wanted!r}, and the job's output is VectorOutput({output.dimensions}): "
                "every row would fail after it is paid for. Leave dimensions out of request_options: requests ask for those of "
                "the output"
            )
        length = OWN_LENGTHS.get(model, output.dimensions)
        if length != output.dimensions and not _asks_for_dimensions(model, options):
            raise InvalidInputError(
                f"vectors of {model} have {length:,} dimensions if requests ask for none, and the job's output is "
                f"VectorOutput({output.dimensions}): every row would fail after it is paid for; give VectorOutput({length})"
            )
        encoding = options.get("encoding_format")
        if encoding not in _ENCODINGS:
            raise InvalidInputError(
                f"request_options ask for encoding_format={encoding!r}; it must be 'base64' or 'float'"
            )
        if output.dtype != "float32" and "encoding_format" not in options:
            raise InvalidInputError(
                f"{self.name.value} answers with float32, and the job's output is VectorOutput(dtype={output.dtype!r}); leave dtype out. If "
                "your server answers with other numbers, name how it writes them: request_options={'encoding_format': 'float'}"
            )

    def vectors(self, output: VectorOutput, *, model: str, options: Mapping[str, Any]) -> JSONObject:
        """The dimensions that the job expects, in base64. An option that is None leaves its field out."""
        fields: JSONObject = {"encoding_format": "base64"}
        if _asks_for_dimensions(model, options):
            fields["dimensions"] = output.dimensions
        return {name: value for name, value in (fields | dict(options)).items() if value is not None}

    def option(self, name: str, value: Any) -> tuple[str, Any]:
        """A row can't have vectors of another form than the job's."""
        if name in _OF_THE_JOB:
            raise InvalidInputError(f"options must not set {name}: it is the same for all rows of a job")
        return super().option(name, value)


def _asks_for_dimensions(model: str, options: Mapping[str, Any]) -> bool:
    return model not in FIXED_LENGTH and options.get("dimensions", True) is not None
