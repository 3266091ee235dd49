"""The media type of a file's content, told from its first bytes and its name, the same on every machine."""

from __future__ import annotations

from pathlib import PurePath

LOOKED_AT = 64
"""First bytes of a content that tell its type."""

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_BRANDS = {
    b"avif": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
}

_OFFICE = "application/vnd.openxmlformats-officedocument"
_SUFFIXES = {
    "aac": "audio/aac",
    "aiff": "audio/aiff",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": f"{_OFFICE}.wordprocessingml.document",
    "flac": "audio/flac",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "htm": "text/html",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "m4a": "audio/mp4",
    "md": "text/markdown",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "odt": "application/vnd.oasis.opendocument.text",
    "ogg": "audio/ogg",
    "pdf": "application/pdf",
    "png": "image/png",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": f"{_OFFICE}.presentationml.presentation",
    "rtf": "application/rtf",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webp": "image/webp",
    "xls": "application/vnd.ms-excel",
    "xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    "xml": "application/xml",
}  # fmt: skip

_AUDIO_FORMATS = {"audio/mpeg": "mp3", "audio/mp4": "m4a"}


def media_type_of(beginning: bytes, name: str = "") -> str | None:
    """What a content is: by its first bytes, or else by the suffix of its name; None if neither tells."""
    for start, known in _BEGINNINGS:
        if beginning.startswith(start):
            return known
    if beginning.startswith(b"RIFF") and beginning[8:12] in _RIFF:
        return _RIFF[beginning[8:12]]
    if beginning[4:8] == b"ftyp":
        return _BRANDS.get(beginning[8:12], "video/mp4")
    return _SUFFIXES.get(PurePath(name).suffix.lower().removeprefix("."))


def audio_format_of(media_type: str) -> str | None:
    """The format that an audio part calls a media type; None if it is not of audio."""
    kind, _, subtype = media_type.partition("/")
    return _AUDIO_FORMATS.get(media_type, subtype) if kind == "audio" else None
