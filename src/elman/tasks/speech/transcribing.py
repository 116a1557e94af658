"""`elman transcribe RUN FILE|FOLDER|-`: recordings as text, words with times, subtitles; and sound as it comes."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from elman.config import Amount, Count, Flag, Positive, UserError, Whole, option
from elman.data.audio.pcm import WIDTHS, Mixer, pcm
from elman.data.audio.sound import SUFFIXES
from elman.data.audio.transcripts import recordings_in
from elman.data.audio.whole import UNKNOWN_SIZES
from elman.data.inputs import STANDARD_INPUT, check_inputs
from elman.files import write_bytes
from elman.tasks.speech import answers
from elman.tasks.speech.hearing import Heard, Update
from elman.tasks.speech.searching import Searching
from elman.tasks.speech.subtitles import WRITERS, Transcript
from elman.tasks.verbs import CHECKPOINT

if TYPE_CHECKING:
    from elman.tasks.speech.task import TrainedSpeech

__all__ = ["Transcribe", "transcribe"]

Samples = Literal["s16le", "s24le", "s32le", "f32le", "f64le", "u8", "mulaw", "alaw"]
# Files that are no raw samples, by their first bytes: heard as samples they would be noise.
FILES = {
    b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"FORM": "AIFF", b".snd": "AU", b"caff": "CAF", b"riff": "W64",
    b"NIST": "NIST SPHERE", b"\x1aE\xdf\xa3": "Matroska or WebM", b"#!AMR": "AMR",
}  # fmt: skip


@dataclass(frozen=True)
class Transcribe(Searching):
    """Flags of `elman transcribe`."""

    inputs: tuple[str, ...] = option(
        (),
        "recordings, folders of them, or - for sound on standard input",
        unit="FILE|FOLDER|-",
        positional=True,
    )
    format: Literal["text", "words", "json", "srt", "vtt", "ctm"] = option(
        "text", "text, a word a line with times and confidence, JSON, subtitles, or CTM"
    )
    to: str = option("", "folder that gets a file for each recording (empty: all is printed)", unit="FOLDER")
    samples: Samples = option("s16le", "raw samples on standard input; a WAV header there says it by itself")
    hertz: Whole = option(0, "their rate (0: that of the training)", unit="HERTZ")
    channels: Count = option(
        1, "their channels, heard as one: their mean, or the loudest where they cancel", unit="COUNT"
    )
    chunk: Positive = option(160.0, "how much of standard input is heard at once", unit="MS")
    endpoint: Amount = option(
        0.8,
        "silence after which an utterance on standard input has ended (0: none ends before the sound)",
        unit="SECONDS",
    )
    partial: Flag = option(False, "print an utterance on standard input while it goes on, too, behind a ~")
    checkpoint: Literal["best", "last"] = option("best", CHECKPOINT)


def transcribe(trained: TrainedSpeech, settings: Transcribe) -> Iterator[str]:
    """Write down each input; what cannot be read is named on standard error."""
    if trained.codec.classes:
        raise UserError(
            f"{trained.run.path} tells classes of recordings: ask it by elman predict; to write speech down, train "
            f"with --target text"
        )
    check_inputs(settings.inputs)
    if STANDARD_INPUT in settings.inputs:
        if len(settings.inputs) > 1 or settings.to:
            raise UserError("- is heard as it comes: give it alone, and without --to")
        if settings.beam or settings.language_model or settings.by == "attention":
            raise UserError(
                "- is written by the best path, which never changes: leave --beam, --language-model and --by out"
            )
        yield from live(trained, settings, sys.stdin.buffer)
        return
    files = [file for path in settings.inputs for file in _files(Path(path))]
    if settings.format in {"srt", "vtt"} and len(files) > 1 and not settings.to:
        raise UserError(
            f"{len(files)} recordings in one file of subtitles would have times at odds: give --to FOLDER"
        )
    yield from _recordings(trained, settings, files)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = recordings_in(path)
    if not found:
        raise UserError(f"{path} holds no recordings ({', '.join(sorted(SUFFIXES)[:6])}, ...)")
    return found


def _recordings(trained: TrainedSpeech, settings: Transcribe, files: Sequence[Path]) -> Iterator[str]:
    write = WRITERS[settings.format]
    folder = Path(settings.to) if settings.to else None
    names, search = _names(files), trained.search(settings)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    for file, name in zip(files, names, strict=True):
        (found,) = answers.opened([str(file)], trained.codec, trained.config)
        if isinstance(found, str):
            faults.append(f"{file}: {found}")
            continue
        (heard,) = trained.heard(answers.steps_of_opened([found], trained.codec, trained.config), search)
        transcript = Transcript(name, heard, found.seconds)
        if folder:
            path = folder / f"{name}.{_suffix(settings.format)}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, write([transcript], several=False).encode())
            yield f"{path}\n"
        else:
            yield write([transcript], several=len(files) > 1)
    if len(faults) == len(files):
        raise UserError(f"nothing could be written down: {faults[0]}{', ...' * (len(faults) > 1)}")
    sys.stderr.writelines(f"{fault}\n" for fault in faults)


def _suffix(form: str) -> str:
    return {"text": "txt", "words": "tsv"}.get(form, form)


def _names(files: Sequence[Path]) -> list[str]:
    """A name for each recording: that of the file, with folders where two have the same one."""
    bare = [file.stem for file in files]
    return [
        stem if bare.count(stem) == 1 else "-".join(file.with_suffix("").parts[-3:]).strip("/")
        for stem, file in zip(bare, files, strict=True)
    ]


# Sound as it comes


class _Source(NamedTuple):
    """Raw samples: their form, rate and channels, and what has been read of them already."""

    form: str
    rate: int
    channels: int
    begun: bytes
    # Bytes that the header promises; None where it does not know.
    size: int | None = None


def live(trained: TrainedSpeech, settings: Transcribe, stream: BinaryIO) -> Iterator[str]:
    """What is heard of a stream: each utterance as it ends, with --partial what is known of it before."""
    source = _source(stream, settings, trained.codec.mel.rate)
    listener = trained.listen(rate=source.rate, endpoint=settings.endpoint)
    shown = ""
    number = 0
    for updates in _updates(listener, source, stream, settings.chunk):
        for update in updates:
            if update.final:
                # At the end of the sound nothing may be left to say.
                if update.heard.text:
                    number += 1
                    yield _final(update, settings, number)
                shown = ""
            elif settings.partial and update.heard.text != shown:
                shown = update.heard.text
                yield _partial(update, settings)


def _updates(listener: Any, source: _Source, stream: BinaryIO, chunk: float) -> Iterator[list[Update]]:
    width = WIDTHS[source.form] * source.channels
    size = max(1, round(chunk * source.rate / 1000)) * width
    mix, rest, came = Mixer(source.channels), source.begun, len(source.begun)
    while True:
        wanted = size if source.size is None else min(size, source.size - came + len(rest))
        while len(rest) < wanted and (more := stream.read1(wanted - len(rest))):  # type: ignore[attr-defined]
            rest += more
            came += len(more)
        whole = len(rest) // width * width
        if not whole:
            break
        yield listener(mix(pcm(rest[:whole], source.form, source.channels)))
        rest = rest[whole:]
    if source.size is not None and came < source.size:
        sys.stderr.write(f"standard input ends before its header says: {came:,} of {source.size:,} bytes\n")
    elif rest:
        sys.stderr.write(f"standard input ends within a sample: its last {len(rest)} bytes are not heard\n")
    if came < width:
        sys.stderr.write("standard input held no sound\n")
    yield listener.finish()


def _source(stream: BinaryIO, settings: Transcribe, rate: int) -> _Source:
    """What the header of a WAV file says, or else the flags."""
    begun = stream.read(12)
    if begun[:4] not in {b"RIFF", b"RF64"}:
        _refuse_file(begun)
        return _Source(settings.samples, settings.hertz or rate, settings.channels, begun)
    found: _Source | None = None
    while len(head := stream.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        if name == b"data" and found:
            return found._replace(size=None if length in UNKNOWN_SIZES else length)
        body = stream.read(length + length % 2)
        if name == b"fmt ":
            found = _header(body)
    raise UserError("standard input begins as a WAV file and has no samples in it")


def _header(body: bytes) -> _Source:
    """What the chunk `fmt ` of a WAV file says."""
    if len(body) < 16:
        raise UserError("standard input begins as a WAV file, and its header is cut off")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
    kind = struct.unpack("<H", body[24:26])[0] if kind == 0xFFFE and len(body) >= 26 else kind
    if not channels or not rate:
        raise UserError(
            f"standard input is a WAV file of {channels} channels at {rate} Hz: its header is damaged"
        )
    return _Source(_form(kind, bits), rate, channels, b"")


def _refuse_file(begun: bytes) -> None:
    kind = next((name for magic, name in FILES.items() if begun.startswith(magic)), "")
    kind = "MP4" if begun[4:8] == b"ftyp" else kind
    if kind:
        raise UserError(
            f"standard input is {kind}, no raw samples and no WAV: name the file, or decode it first, as ffmpeg -i - "
            f"-f wav - does"
        )


def _form(kind: int, bits: int) -> Samples:
    known: dict[tuple[int, int], Samples] = {
        (1, 16): "s16le",
        (1, 32): "s32le",
        (3, 32): "f32le",
        (3, 64): "f64le",
        (1, 24): "s24le",
        (1, 8): "u8",
        (6, 8): "alaw",
        (7, 8): "mulaw",
    }
    if (kind, bits) not in known:
        raise UserError(
            f"standard input is a WAV file of {bits} bits, kind {kind}; samples of 8 to 32 bits, floats, A-law and "
            f"mu-law can be heard as they come: convert it, or name the file"
        )
    return known[kind, bits]


def _final(update: Update, settings: Transcribe, number: int) -> str:
    heard: Heard = update.heard
    if settings.format == "json":
        words = [word.to_json() for word in heard.words]
        found = {"final": True, "text": heard.text, "confidence": round(heard.confidence, 4), "words": words}
        return json.dumps(found, ensure_ascii=False) + "\n"
    end = heard.words[-1].end if heard.words else 0.0
    if settings.format in {"srt", "vtt"}:
        return WRITERS[settings.format]([Transcript("-", heard, end)], several=False, first=number)
    return WRITERS[settings.format]([Transcript("-", heard, end)], several=False)


def _partial(update: Update, settings: Transcribe) -> str:
    if settings.format == "json":
        return json.dumps({"final": False, "text": update.heard.text}, ensure_ascii=False) + "\n"
    return f"~ {update.heard.text}\n" if settings.format == "text" else ""
