"""The language model from file to text: what it learns, what it says, what it reads back."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman as package
from command import TINY, elman, verse
from elman.config import UserError, build
from elman.data.batching import training_streams, whole_text
from elman.data.corpus import CorpusSettings, read_corpus
from elman.nn.networks import LanguageModel
from elman.tasks.base import find
from elman.tasks.language_model import Config, ModelSettings, build_model, mean_loss
from elman.tasks.session import TaskLearner

DATA = Path(os.environ.get("ELMAN_DATA", "../shared/data"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, and a run of each kind of token."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(verse(80))
    (folder / "other.txt").write_text(verse(9))
    for kind in ("characters", "bytes", "words", "bpe"):
        flags = [*TINY, "--tokens", kind, *(["--vocabulary", 270] if kind == "bpe" else [])]
        done = elman("train", "language-model", "--data", folder / "text.txt", "--run", folder / kind, *flags)
        assert done.code == 0, done.err
    return folder


def learner(text: str, **values: Any) -> TaskLearner:
    """The learner of a text; values: `section__name`."""
    settings = {name.replace("__", "."): value for name, value in values.items()}
    config = build(Config, {"model.engine": "torch", **settings})
    path = Path("learner.txt")
    path.write_text(text)
    config = build(
        Config,
        {
            "model.engine": "torch",
            **settings,
            "data.train": [str(path)],
            "data.valid_share": 0,
            "data.test_share": 0,
        },
    )
    return TaskLearner(find("language-model"), config, read_corpus(config.data))


# The model


@pytest.mark.parametrize("engine", ["elman", "torch"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_model_is_its_equations(engine: Any, cell: Any) -> None:
    model = LanguageModel(11, 4, 5, 2, cell=cell, norm=True, engine=engine)
    reference = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell](4, 5, num_layers=2)
    reference.load_state_dict(model.recurrent.state_dict())
    tokens = torch.randint(11, (6, 3))
    logits, state = model(tokens, model.initial_state(3))
    hidden, expected_state = reference(model.embedding.weight[tokens])
    expected = torch.nn.functional.layer_norm(hidden, (5,)) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state, expected_state, rtol=1e-5, atol=1e-6)


def test_pieces_with_the_state_carried_are_the_whole() -> None:
    model = LanguageModel(7, 4, 4, engine="torch")
    tokens = torch.randint(7, (9, 2))
    whole = model(tokens, model.initial_state(2)).logits
    first, state = model(tokens[:4], model.initial_state(2))
    torch.testing.assert_close(torch.cat([first, model(tokens[4:], state).logits]), whole)


def test_a_tied_model_has_one_table() -> None:
    model = LanguageModel(7, 4, 4, tied=True, engine="torch")
    assert model.head.weight is model.embedding.weight
    assert model.embedding.weight.abs().max() <= 0.5
    with pytest.raises(ValueError, match="embedding == hidden"):
        LanguageModel(7, 3, 4, tied=True, engine="torch")


def test_init_draws_all_parameters() -> None:
    model = LanguageModel(50, 20, 20, 2, init=0.1, engine="torch")
    for name, parameter in model.named_parameters():
        assert parameter.abs().max() <= 0.1, name
        assert parameter.std() > 0.04, name


def test_dropout_is_where_it_says() -> None:
    model = LanguageModel(7, 50, 50, 2, dropout=0.5, engine="torch").train()
    seen: dict[str, torch.Tensor] = {}
    model.recurrent.register_forward_pre_hook(lambda _, given: seen.update(stack=given[0]))
    model.head.register_forward_pre_hook(lambda _, given: seen.update(head=given[0]))
    model(torch.randint(7, (5, 4)), model.initial_state(4))
    assert model.recurrent.dropout == 0.5
    for name in ("stack", "head"):
        assert 0.3 < (seen[name] == 0).float().mean() < 0.7
    model.eval()
    model(torch.randint(7, (5, 4)), model.initial_state(4))
    assert (seen["stack"] == 0).sum() == 0


EXTRAS = [
    {"recurrent_dropout": 0.5},
    {"zoneout": 0.5},
    {"sequence_dropout": True, "dropout": 0.5},
    {"residual": True},
    {"layer_norm": "separate"},
    {"layer_norm": "sum"},
    {"forget_bias": 3.0},
    {"word_dropout": 0.5},
    {"weight_dropout": 0.5},
    {"input_norm": "layer"},
    {"input_norm": "batch"},
    {"norm": True},
    {"batch_norm": True},
    {"projection": 3},
    {"cell": "peephole-lstm"},
    {"cell": "minimal-gated"},
]


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: "-".join(f"{k}={v}" for k, v in extra.items()))
@pytest.mark.filterwarnings("ignore::elman.engine.EngineWarning")
def test_every_extra_of_the_layers_changes_what_is_learnt(extra: dict[str, Any]) -> None:
    tokens = torch.randint(7, (6, 2))

    def gradient(settings: ModelSettings) -> torch.Tensor:
        torch.manual_seed(0)
        model = build_model(settings, 7)
        model(tokens, model.initial_state(2)).logits.square().sum().backward()
        assert model.embedding.weight.grad is not None
        return model.embedding.weight.grad

    plain = ModelSettings(hidden=6, layers=2, dropout=extra.get("dropout", 0.0))
    changed = gradient(ModelSettings(hidden=6, layers=2, **extra))
    assert torch.isfinite(changed).all()
    assert not torch.allclose(changed, gradient(plain))


# The loss


def test_the_loss_is_the_mean_or_the_sum_over_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = verse(5)
    found = {}
    for kind in ("mean", "sum_over_time"):
        torch.manual_seed(0)
        trained = learner(text, data__batch=3, data__steps=7, optimizer__loss=kind, model__hidden=4)
        found[kind] = trained.loss(1, 0, trained.initial_state())
    assert found["mean"].predictions == 21
    assert found["mean"].total == pytest.approx(21 * found["mean"].objective.item(), rel=1e-5)
    assert found["sum_over_time"].objective.item() == pytest.approx(
        7 * found["mean"].objective.item(), rel=1e-5
    )


@pytest.mark.parametrize(("streams", "steps"), [(1, 1), (1, 1000), (3, 7)])
def test_the_loss_of_a_whole_text_is_the_sum_over_its_tokens(streams: int, steps: int) -> None:
    model = LanguageModel(5, 4, 4, engine="torch").eval()
    tokens = torch.randint(5, (40,)).numpy()
    loss, count = mean_loss(model, whole_text(tokens, streams, steps))
    assert count == 39
    rows = np.array_split(np.arange(39), streams) if streams > 1 else [np.arange(39)]
    total = 0.0
    with torch.no_grad():
        for row in rows:
            logits = model(torch.from_numpy(tokens[row])[:, None], model.initial_state(1)).logits[:, 0]
            total -= float(logits.log_softmax(-1)[range(len(row)), tokens[row + 1]].sum())
    assert loss == pytest.approx(total / 39, rel=1e-5)


def test_the_first_step_is_that_of_a_loop_written_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of SGD with the state carried, against the same in plain torch."""
    monkeypatch.chdir(tmp_path)
    from elman.training.loop import Trainer
    from elman.training.progress import Silent
    from elman.training.run import stage
    from elman.training.settings import OptimizerSettings, TrainingSettings

    text = "abcde" * 5
    torch.manual_seed(0)
    trained = learner(text, data__batch=2, data__steps=5, optimizer__loss="sum_over_time", model__hidden=3)
    twin = LanguageModel(6, 3, 3, engine="torch")
    twin.load_state_dict(trained.model.state_dict())
    settings = OptimizerSettings(optimizer="sgd", rate=0.5, clip=1.5, loss="sum_over_time")
    with stage(tmp_path / "run", "toy", {}, {}, overwrite=False) as run:
        pass
    Trainer(trained, settings, TrainingSettings(epochs=1), run, Silent()).fit()

    tokens = torch.tensor(["abcde".index(letter) + 1 for letter in text])[:24].view(2, 12).T
    optimizer, state = torch.optim.SGD(twin.parameters(), lr=0.5), None
    for start in (0, 5):
        hidden, state = twin.recurrent(twin.embedding(tokens[start : start + 5]), state)
        state = tuple(part.detach() for part in state)
        chances = twin.head(hidden).log_softmax(-1)
        loss = -chances.gather(-1, tokens[start + 1 : start + 6].unsqueeze(-1)).sum() / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.5)
        optimizer.step()
    for (name, a), b in zip(trained.model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


# From file to text


@pytest.mark.parametrize("kind", ["characters", "bytes", "words", "bpe"])
def test_a_run_is_safetensors_and_json_and_pictures(folder: Path, kind: str) -> None:
    names = {path.name for path in (folder / kind).iterdir()}
    assert names == {
        ".lock",
        "baselines.json",
        "best.safetensors",
        "last.safetensors",
        "learning_curve.png",
        "learning_curve.svg",
        "log.jsonl",
        "report.html",
        "run.json",
        "scores.json",
        "tokenizer.json",
    }


@pytest.mark.parametrize("kind", ["characters", "bytes", "words", "bpe"])
def test_generate_writes_on_from_a_prompt(folder: Path, kind: str) -> None:
    run = folder / kind
    words = ["generate", run, "--prompt", "line 3 says", "--length", 30]
    first, second = elman(*words, "--seed", 1), elman(*words, "--seed", 1)
    assert first.code == 0, first.err
    assert first.out == second.out
    assert first.out != elman(*words, "--seed", 2).out
    assert first.out.startswith("line 3 says")
    trained = package.load(run)
    assert (
        first.out
        == "line 3 says" + trained.generate("line 3 says", length=30, temperature=0.8, seed=1) + "\n"
    )
    if kind == "characters":
        assert len(first.out) == len("line 3 says") + 30 + 1


def test_generate_without_a_prompt_and_with_every_option(folder: Path) -> None:
    done = elman(
        "generate",
        folder / "words",
        "--temperature",
        1.3,
        "--top-k",
        5,
        "--top-p",
        0.9,
        "--length",
        12,
        "--seed",
        0,
    )
    assert done.code == 0, done.err
    assert 0 < len(done.out.split()) <= 12
    assert "<unk>" not in done.out
    greedy = [elman("generate", folder / "bytes", "--temperature", 0, "--length", 9).out for _ in range(2)]
    assert greedy[0] == greedy[1]


def test_text_comes_token_by_token_in_constant_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from elman.nn.networks import Tagger, TaggerStream

    read, steps = [], []
    whole, step = Tagger._run, TaggerStream.__call__
    monkeypatch.setattr(Tagger, "_run", lambda self, x, *rest: read.append(x.shape) or whole(self, x, *rest))
    monkeypatch.setattr(TaggerStream, "__call__", lambda self, x: steps.append(len(x)) or step(self, x))
    trained = package.load(folder / "characters")
    pieces = trained.stream("line", length=5, seed=0)
    # The start mark and all of the prompt but its last letter.
    assert (read, steps) == ([(4, 1)], [])
    assert len(next(pieces)) == 1
    assert steps == [1]
    list(pieces)
    assert (read, steps) == ([(4, 1)], 5 * [1])


def test_carried_generation_is_the_same_as_reading_all_again(folder: Path) -> None:
    trained = package.load(folder / "characters")
    text = trained.generate("line ", length=20, temperature=0)
    tokens = [trained.tokenizer.start, *trained.tokenizer.encode("line ").tolist()]
    for letter in text:
        with torch.no_grad():
            logits = trained.model(torch.tensor(tokens)[:, None], trained.model.initial_state(1)).logits[
                -1, 0
            ]
        logits[trained.tokenizer.unknown] = -torch.inf
        tokens.append(int(logits.argmax()))
        assert trained.tokenizer.decode(tokens[-1:]) == letter


def test_a_prompt_with_an_unknown_character_is_refused_before_anything_is_printed(folder: Path) -> None:
    done = elman("generate", folder / "characters", "--prompt", "línea")
    assert (done.code, done.out) == (2, "")
    assert "the prompt has 'í', a character that the model has never seen" in done.err
    assert elman("generate", folder / "words", "--prompt", "línea", "--length", 3).code == 0
    assert elman("generate", folder / "bytes", "--prompt", "línea", "--length", 3).code == 0


def test_evaluate_measures_the_run_and_other_files(folder: Path) -> None:
    run = folder / "characters"
    done = elman("evaluate", run)
    assert done.out.startswith("test data: loss ")
    assert "bits per character" in done.out
    values = json.loads(elman("evaluate", run, "--data", folder / "other.txt", "--json").out)
    length = len((folder / "other.txt").read_text())
    assert values["tokens"] == length - 1
    assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))
    assert values["bits_per_character"] == pytest.approx(values["loss"] / math.log(2))
    assert values["unknown"] == 0
    valid = json.loads(elman("evaluate", run, "--part", "valid", "--streams", 16, "--json").out)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert valid["loss"] == pytest.approx(
        next(event["loss"] for event in log if event["event"] == "valid"), rel=1e-5
    )


def test_bits_per_character_count_characters_and_not_tokens(folder: Path) -> None:
    text = (folder / "other.txt").read_text()
    result = package.load(folder / "bpe").evaluate([str(folder / "other.txt")])
    found = result.figures
    assert found["tokens"] < len(text) / 1.2
    assert found["bits_per_character"] == pytest.approx(
        found["loss"] / math.log(2) * (found["tokens"] + 1) / len(text), rel=1e-6
    )
    words = package.load(folder / "words").evaluate([str(folder / "other.txt")])
    assert words.figures["bits_per_character"] is None


def test_unknown_words_are_counted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("zebra line zebra\n")
    result = package.load(folder / "words").evaluate([str(tmp_path / "new.txt")])
    assert result.figures["unknown"] == 0.5


def test_score_adds_up(folder: Path) -> None:
    trained = package.load(folder / "characters")
    score = trained.score("line 4")
    assert score.tokens == 6
    tokens = torch.tensor([trained.tokenizer.start, *trained.tokenizer.encode("line 4").tolist()])
    with torch.no_grad():
        logits = trained.model(tokens[:-1, None], trained.model.initial_state(1)).logits[:, 0].log_softmax(-1)
    expected = -logits[range(6), tokens[1:]].sum().item()
    assert score.nats == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match="empty text"):
        trained.score("")


def test_draw_makes_the_pictures(folder: Path, tmp_path: Path) -> None:
    done = elman("draw", folder / "words", "--to", tmp_path / "pictures", "--steps", 3)
    assert done.code == 0, done.err
    assert {Path(line).suffix for line in done.out.splitlines()} == {".svg", ".png"}
    assert all(Path(line).stat().st_size > 1000 for line in done.out.splitlines())


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_drawing_counts_every_parameter(folder: Path, cell: Any, tied: bool) -> None:
    from dataclasses import replace

    trained = package.load(folder / "characters")
    settings = ModelSettings(cell=cell, hidden=6, layers=2, tied=tied, norm=True, dropout=0.1, engine="torch")
    trained.config = replace(trained.config, model=settings)
    trained.model = model = build_model(settings, trained.tokenizer.size)
    drawing = trained.task.describe(trained, steps=4)
    assert drawing.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert drawing.shape == "many to many"


def test_a_learnt_text_is_predicted(tmp_path: Path) -> None:
    (tmp_path / "abc.txt").write_text("abcabc" * 200)
    run = tmp_path / "run"
    flags = [
        "--hidden",
        12,
        "--batch",
        4,
        "--steps",
        10,
        "--rate",
        0.03,
        "--epochs",
        12,
        "--quiet",
        "--threads",
        1,
    ]
    done = elman("train", "language-model", "--data", tmp_path / "abc.txt", "--run", run, *flags)
    assert done.code == 0, done.err
    trained = package.load(run)
    assert trained.generate("abca", length=12, temperature=0) == "bcabcabcabca"
    assert trained.score("abcabcabc").perplexity < trained.score("acbacbacb").perplexity
    assert trained.evaluate().figures["perplexity"] < 1.2


def test_without_data_it_learns_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from elman.data import text

    monkeypatch.setattr(
        text,
        "standard_library",
        lambda: [f"import os\n\ndef f{i}(x):\n    return x + {i}\n" * 9 for i in range(30)],
    )
    done = elman("train", "language-model", "--run", tmp_path / "run", *TINY)
    assert done.code == 0, done.err
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert config["data"]["train"] == []
    assert package.load(tmp_path / "run").tokenizer.mark == 1


def test_valid_and_test_files_are_used_as_they_are(tmp_path: Path, folder: Path) -> None:
    config = build(
        CorpusSettings,
        {"train": [str(folder / "text.txt")], "valid": [str(folder / "other.txt")], "batch": 2, "steps": 5},
    )
    corpus = read_corpus(config)
    assert corpus.tokenizer.decode(corpus.train.tokens) == (folder / "text.txt").read_text()
    assert corpus.tokenizer.decode(corpus.valid.tokens) == (folder / "other.txt").read_text()
    assert len(corpus.test.tokens) == 0


def test_the_run_works_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "text.txt").write_text(verse())
    monkeypatch.chdir(tmp_path / "a")
    assert elman("train", "language-model", "--data", "text.txt", "--run", "run", *TINY).code == 0
    monkeypatch.chdir(tmp_path)
    assert elman("evaluate", "a/run").code == 0


def damage(run: Path, how: str) -> None:
    if how == "no run.json":
        (run / "run.json").unlink()
    elif how == "no tokenizer":
        (run / "tokenizer.json").unlink()
    elif how == "other tokenizer":
        (run / "tokenizer.json").write_text('{"kind": "bytes", "marked": false}')
    elif how == "broken tokenizer":
        (run / "tokenizer.json").write_text('{"kind": "words", "words": 3}')
    elif how == "cut weights":
        (run / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes()[:-9])
    elif how == "newer":
        (run / "run.json").write_text((run / "run.json").read_text().replace('"format": 2', '"format": 3'))
    elif how == "unknown task":
        (run / "run.json").write_text(
            (run / "run.json").read_text().replace('"language-model"', '"telepathy"')
        )
    elif how == "unknown key":
        (run / "run.json").write_text((run / "run.json").read_text().replace('"hidden"', '"hiden"'))
    elif how == "no weights":
        (run / "best.safetensors").unlink()
        (run / "last.safetensors").unlink()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no run.json", "is not a run folder: it has no run.json"),
        ("no tokenizer", "is damaged: tokenizer.json is missing"),
        ("other tokenizer", "does not fit the model of its run.json: embedding.weight is"),
        ("broken tokenizer", "tokenizer.json is damaged"),
        ("cut weights", "best.safetensors is damaged"),
        ("newer", "was written by a newer Elman (format 3"),
        ("unknown task", "unknown task 'telepathy'"),
        ("unknown key", "unknown key 'hiden' in [model]; did you mean 'hidden'?"),
        ("no weights", "has no last.safetensors"),
    ],
)
def test_a_damaged_run_is_one_clear_line(folder: Path, tmp_path: Path, how: str, says: str) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(folder / "characters", run)
    damage(run, how)
    for command in (["generate", run], ["evaluate", run]):
        done = elman(*command)
        assert done.code == 2
        assert says in done.err
        assert len(done.err.splitlines()) == 1
    with pytest.raises(UserError):
        package.load(run)


def test_an_existing_run_is_not_overwritten_by_chance(folder: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(folder / "characters", run)
    before = (run / "last.safetensors").read_bytes()
    words = ["train", "language-model", "--data", folder / "text.txt", "--run", run, *TINY, "--seed", 9]
    done = elman(*words)
    assert done.code == 2
    assert "already holds a run: continue it by --resume, replace it by --overwrite" in done.err
    bad = elman(*words, "--overwrite", "--hidden", "none")
    assert bad.code == 2
    assert (run / "last.safetensors").read_bytes() == before
    assert elman(*words, "--overwrite").code == 0
    assert (run / "last.safetensors").read_bytes() != before


@pytest.mark.data
def test_penn_treebank_is_read_as_published() -> None:
    files = {name: DATA / "penn_treebank" / f"{name}.txt" for name in ("train", "valid", "test")}
    if not all(path.exists() for path in files.values()):
        pytest.skip(f"no Penn Treebank under {DATA}: set ELMAN_DATA to the folder that holds penn_treebank/")
    paths = {name: [str(path)] for name, path in files.items()}
    corpus = read_corpus(build(CorpusSettings, {**paths, "tokens": "words", "batch": 20, "steps": 20}))
    assert corpus.tokenizer.size == 10_000
    assert [len(part.tokens) for part in corpus[1:]] == [929_589, 73_760, 82_430]
    assert len(training_streams(corpus.train.tokens, 20, 20)) == 2323
