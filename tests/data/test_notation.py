"""Music in letters and in XML: what is written is what is heard."""

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.music import FaultError, Note, Reading, read_collection
from elman.data.music.abc import read_abc
from elman.data.music.audio import check_sound, sound_font, wav_bytes
from elman.data.music.musicxml import read_musicxml
from elman.data.music.notate import musicxml_of
from elman.data.music.piece import Piece

HEAD = "X:1\nT:A tune\nM:4/4\nL:1/8\nK:C\n"


def heard(body: str, head: str = HEAD) -> list[tuple[float, float, int]]:
    (piece,) = read_abc(head + body, "a")
    assert isinstance(piece, Piece), piece
    return [(note.start, note.end, note.pitch) for note in piece.notes]


def pitches(body: str, head: str = HEAD) -> list[int]:
    return [pitch for _, _, pitch in heard(body, head)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("C2 E/ F// z2 c", [(0, 1, 60), (1, 1.25, 64), (1.25, 1.375, 65), (2.375, 2.875, 72)]),
        ("A>B A<B", [(0, 0.75, 69), (0.75, 1, 71), (1, 1.25, 69), (1.25, 2, 71)]),
        ("(3CDE F", [(0, 1 / 3, 60), (1 / 3, 2 / 3, 62), (2 / 3, 1, 64), (1, 1.5, 65)]),
        ("[CEG]2 [C2E2]", [(0, 1, 60), (0, 1, 64), (0, 1, 67), (1, 2, 60), (1, 2, 64)]),
        ("C-C | C2-|C2 D", [(0, 1, 60), (1, 3, 60), (3, 3.5, 62)]),
        ("vC uD|kE. HF|]", [(0, 0.5, 60), (0.5, 1, 62), (1, 1.5, 64), (1.5, 2, 65)]),
        ("C!D *E| Tu[F2]2 +", [(0, 0.5, 60), (0.5, 1, 62), (1, 1.5, 64), (1.5, 3.5, 65)]),
        ("C.-C D", [(0, 1, 60), (1, 1.5, 62)]),
        ('"Am"C !trill!D {ef}E ~F', [(0, 0.5, 60), (0.5, 1, 62), (1, 1.5, 64), (1.5, 2, 65)]),
    ],
)
def test_lengths(body: str, expected: list[tuple[float, float, int]]) -> None:
    found = heard(body)
    assert [pitch for *_, pitch in found] == [pitch for *_, pitch in expected]
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("C, C c c' c''", [48, 60, 72, 84, 96]),
        ("F ^F F | F _B =B B | B", [65, 66, 66, 65, 70, 71, 71, 71]),
        ("[K:D]F C [K:Bb]B E [K:Am]F", [66, 61, 70, 63, 65]),
        ("[K:Edor]F C [K:G mix]F", [66, 61, 65]),
        ("[K:D ^g _b]F B G [K:E exp _b ^f]F G c", [66, 70, 68, 66, 67, 72]),
        ("[K:Hp]F C G [K:HP]F", [66, 61, 67, 65]),
        ("[K:D]F [K:clef=bass]F [K:bass]C", [66, 66, 61]),
    ],
)
def test_pitches(body: str, expected: list[int]) -> None:
    assert pitches(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("CD :| E", "CDCDE"),
        ("C |: D :| E |: F :|", "CDDEFF"),
        ("|: C |1 D :|2 E | F", "CDCEF"),
        ("|: C [1 D :| [2 E :| F", "CDCEF"),
        ("|: C :: D :|", "CCDD"),
        ("|: C |1,3 D :|2 E :| F", "CDCECDF"),
        ("C | D || E |]", "CDE"),
        ("|: C | D :|\n|: E :|", "CDCDEE"),
        ("C |\n: D :|\nE", "CDDE"),
        ("|: C [|]D :[|]", "CDCD"),
        ("|: C : D", "CCD"),
    ],
)
def test_repeats(body: str, expected: str) -> None:
    letters = dict(zip((60, 62, 64, 65), "CDEF", strict=True))
    assert "".join(letters[pitch] for pitch in pitches(body)) == expected


def test_what_a_tune_loses_is_remarked_on() -> None:
    (piece,) = read_abc(HEAD + "Q:1/4=90\nC D & E F | [Q:1/4=60] G", "a")
    assert isinstance(piece, Piece)
    assert [note.pitch for note in piece.notes] == [60, 62, 67]
    assert piece.tempo == [(0.0, 60 / 90)]
    assert [remark.split(",")[0] for remark in piece.remarks] == [
        "voices overlaid within a bar (&)",
        "a tempo that changes within a tune",
    ]


def test_files_of_tunes(tmp_path: Path) -> None:
    second = "X:2\nK:G\nQ:1/4=90\nV:1\nF2 G2\nV:2\n[G,,B,,]4\n"
    text = f"% a comment\n{HEAD}C D | E % here\n\n{second}\nX:3\nT:none\n\nX:4\nK:C\nz4\n\nX:5\nK:C\nC § D\n"
    (tmp_path / "a.abc").write_text(text)
    found = read_collection([str(tmp_path)], Reading())
    first, other = (located.piece for located in found.pieces)
    assert first.name == "a 1 A tune"
    assert [note.pitch for note in first.notes] == [60, 62, 64]
    assert (other.key, other.tempo) == ("G major", [(0.0, 60 / 90)])
    assert sorted((note.pitch, note.voice) for note in other.notes) == [(43, 1), (47, 1), (66, 0), (67, 0)]
    reasons = {reason: str(at[0]).rsplit("/", 1)[1] for reason, at in found.account.faults.items()}
    assert reasons == {
        "a tune without a key (a line K: ends its head)": "a.abc:17",
        "a tune without notes": "a.abc:20",
        "a sign that is no ABC ('§')": "a.abc:24",
    }
    with pytest.raises(FaultError, match="without a tune"):
        read_abc("C D E", "a")


def note(step: str, octave: int, duration: int, more: str = "") -> str:
    pitch = f"<pitch><step>{step}</step><octave>{octave}</octave></pitch>"
    return f"<note>{more}{pitch}<duration>{duration}</duration></note>"


def score(measures: str, more: str = "") -> bytes:
    head = (
        "<attributes><divisions>2</divisions><key><fifths>-3</fifths><mode>minor</mode></key>{}</attributes>"
    )
    return (
        "<score-partwise><part-list><score-part id='P1'><midi-instrument id='D'><midi-unpitched>37</midi-unpitched>"
        "</midi-instrument></score-part></part-list><part id='P1'><measure>"
        + head.format(more)
        + measures
        + "</measure></part></score-partwise>"
    ).encode()


def spans(piece: Piece) -> list[tuple[float, float, int]]:
    return [(note.start, note.end, note.pitch) for note in piece.notes]


def test_musicxml() -> None:
    tie = "<tie type='{}'/>"
    measures = (
        "<sound tempo='90'/>"
        + note("C", 4, 2)
        + note("E", 4, 2, "<chord/>")
        + note("G", 4, 2, tie.format("start"))
        + "</measure><measure>"
        + note("G", 4, 4, tie.format("stop"))
        + "<backup><duration>4</duration></backup>"
        + note("C", 3, 3)
        + "<note><rest/><duration>1</duration></note>"
        + "<note><grace/><pitch><step>A</step><octave>4</octave></pitch></note>"
        + note("B", 3, 2).replace("</step>", "</step><alter>-1</alter>")
        + "<direction><sound tempo='60'/></direction>"
    )
    piece = read_musicxml(score(measures), "a")
    assert spans(piece) == [(0, 1, 60), (0, 1, 64), (1, 4, 67), (2, 3.5, 48), (4, 5, 58)]
    assert piece.key == "C minor"
    assert piece.tempo == [(0.0, 60 / 90), (5.0, 1.0)]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(
            "META-INF/container.xml", "<c><rootfiles><rootfile full-path='s.xml'/></rootfiles></c>"
        )
        archive.writestr("s.xml", score(measures))
    assert spans(read_musicxml(packed.getvalue(), "a")) == spans(piece)
    down = "<transpose><chromatic>-2</chromatic><octave-change>-1</octave-change></transpose>"
    assert [pitch for *_, pitch in spans(read_musicxml(score(note("C", 4, 2), down), "a"))] == [46]


def bar(*marks: str) -> str:
    return "".join(f"<barline>{mark}</barline>" for mark in marks)


FORWARD, BACK = "<repeat direction='forward'/>", "<repeat direction='backward'/>"


def ending(number: str, kind: str = "start") -> str:
    return f"<ending number='{number}' type='{kind}'/>"


@pytest.mark.parametrize(
    ("measures", "expected"),
    [
        (["", bar(BACK), ""], "CDCDE"),
        (["", bar(FORWARD), bar(BACK), ""], "CDEDEF"),
        ([bar(FORWARD, BACK), bar(FORWARD, BACK.replace("/>", " times='3'/>"))], "CCDDD"),
        (["", bar(BACK), bar(BACK)], "CDCDEE"),
        (
            ["", bar(ending("1"), ending("1", "stop") + BACK), bar(ending("2"), ending("2", "stop")), ""],
            "CDCEF",
        ),
        (
            [
                "",
                bar(ending("1, 2"), ending("1, 2", "stop") + BACK),
                bar(ending("3"), ending("3", "discontinue")),
            ],
            "CDCDCE",
        ),
        (
            [
                bar(FORWARD),
                bar(ending("1")),
                bar(ending("1", "stop") + BACK),
                bar(ending("2"), ending("2", "stop")),
            ],
            "CDECF",
        ),
        (
            [
                "",
                bar(ending("1"), ending("1", "stop") + BACK),
                bar(ending("2"), ending("2", "stop") + BACK),
                "",
            ],
            "CDCEF",
        ),
        (
            [
                "",
                bar(ending("1"), ending("1", "stop") + BACK),
                bar(ending("2"), ending("2", "stop")),
                bar(BACK),
            ],
            "CDCEFF",
        ),
    ],
)
def test_repeats_of_musicxml(measures: list[str], expected: str) -> None:
    """Each measure a letter; one part says of the repeats, a second one says nothing and is repeated with it."""
    own = "</measure><measure>".join(note("CDEF"[at], 4, 4) + more for at, more in enumerate(measures))
    other = "</measure><measure>".join(note("CDEF"[at], 2, 4) for at in range(len(measures)))
    piece = read_musicxml(score(f"{own}</measure></part><part id='P2'><measure>{HEAD_2}{other}"), "a")
    letters = dict(zip((0, 2, 4, 5), "CDEF", strict=True))
    for octave in (60, 36):
        found = [letters[one.pitch - octave] for one in piece.notes if 0 <= one.pitch - octave < 12]
        assert "".join(found) == expected
    assert piece.length == 2 * len(expected)


HEAD_2 = "<attributes><divisions>2</divisions></attributes>"


def test_divisions_of_a_repeat_and_ties_that_lead_nowhere() -> None:
    tied, halves = "<tie type='start'/>", "<attributes><divisions>4</divisions></attributes>"
    piece = read_musicxml(
        score(f"{note('C', 4, 2)}</measure><measure>{halves}{note('D', 4, 4, tied)}{bar(BACK)}"), "a"
    )
    assert spans(piece) == [(0, 1, 60), (1, 2, 62), (2, 3, 60), (3, 4, 62)]
    unended = (
        note("C", 4, 2, tied)
        + note("C", 4, 2)
        + note("C", 4, 2, tied)
        + note("D", 4, 2)
        + note("C", 4, 2, tied)
    )
    assert spans(read_musicxml(score(unended), "a")) == [(0, 2, 60), (2, 3, 60), (3, 4, 62), (4, 5, 60)]
    jump = "<direction><sound dacapo='yes'/></direction>"
    piece = read_musicxml(score(note("C", 4, 2, tied) + note("D", 4, 2) + note("C", 4, 2) + jump), "a")
    assert spans(piece) == [(0, 1, 60), (1, 2, 62), (2, 3, 60)]
    assert piece.remarks == ["jumps (da capo, dal segno), which are not followed"]


def test_percussion_of_musicxml() -> None:
    drum = "<note><unpitched/><duration>2</duration><instrument id='D'/></note>"
    assert read_musicxml(score(drum), "a").notes == [Note(0, 1, 36, 80, drum=True)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"what", "no XML"),
        (b"<html/>", "no MusicXML"),
        (b"<score-timewise/>", "by time"),
        (score(""), "without notes"),
        (b"PK what", "damaged packed"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><score-partwise/>", "defines entities"),
    ],
)
def test_why_a_score_gives_nothing(data: bytes, reason: str) -> None:
    with pytest.raises(FaultError, match=reason):
        read_musicxml(data, "a")


NOTES = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 150), st.integers(36, 84), st.booleans()),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(NOTES, st.integers(30, 200))
def test_what_is_notated_is_what_is_read(drawn: list[tuple[int, int, int, bool]], tempo: int) -> None:
    """Notes of one pitch that do not overlap come back, whatever bars and lengths they cross."""
    notes, free = [], dict.fromkeys([(p, d) for p in range(128) for d in (False, True)], 0)
    for start, length, pitch, drum in sorted(drawn):
        if start >= free[pitch, drum]:
            notes.append(Note(start / 24, (start + length) / 24, pitch, 80, drum=drum))
            free[pitch, drum] = start + length
    piece = read_musicxml(musicxml_of(notes, "a & b", tempo=tempo).encode(), "a")
    assert piece.name == "a & b"

    def plain(found: list[Note]) -> list[tuple[int, int, int, bool]]:
        return sorted((round(n.start * 24), round(n.end * 24), n.pitch, n.drum) for n in found)

    assert plain(piece.notes) == plain(notes)
    assert 60 / piece.tempo[0][1] == pytest.approx(tempo)


def test_a_score_has_its_key_and_spelling() -> None:
    scale = [Note(t, t + 1, 63 + step) for t, step in enumerate((0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0))]
    text = musicxml_of(scale, "flat")
    assert "<fifths>-3</fifths>" in text
    assert "<step>E</step><alter>-1</alter><octave>4</octave>" in text
    moved = [note._replace(pitch=note.pitch - 1) for note in scale]
    assert "<fifths>2</fifths>" in musicxml_of(moved, "sharp")
    assert read_musicxml(text.encode(), "a").key == "Eb major"


def test_where_a_sound_font_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from elman.data.music import audio

    monkeypatch.setattr(audio, "FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(audio, "find_spec", lambda name: None)
    monkeypatch.delenv(audio.VARIABLE, raising=False)
    with pytest.raises(UserError, match="no sound font is found"):
        sound_font()
    with pytest.raises(UserError, match="pip install --no-deps tinysoundfont"):
        check_sound()
    (tmp_path / "b.sf2").write_bytes(b"")
    assert sound_font() == tmp_path / "b.sf2"
    monkeypatch.setenv(audio.VARIABLE, str(tmp_path / "c.sf2"))
    with pytest.raises(UserError, match="ELMAN_SOUND_FONT"):
        sound_font()
    with pytest.raises(UserError, match="--sound-font none: no such file"):
        sound_font("none")


def test_sound() -> None:
    """The pitch that is heard is the one that is written. Needs tinysoundfont and a sound font."""
    import wave

    import numpy as np

    pytest.importorskip("tinysoundfont")
    try:
        font = check_sound()
    except UserError as error:
        pytest.skip(str(error))
    data = wav_bytes([Note(0, 2, 69)], font, seconds_a_quarter=0.5)
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 44100)
        sound = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")[::2].astype(float)
    spectrum = np.abs(np.fft.rfft(sound[:44100] * np.hanning(44100)))
    assert abs(int(spectrum[300:600].argmax()) + 300 - 440) <= 3
