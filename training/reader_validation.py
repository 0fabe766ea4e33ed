"""What a reader is worth: readings of held-out phantoms, and answers, both decoded as the engine decodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reader_data import View, Views, chosen_as_served
from reader_run import Run
from reader_text import SENTENCES, Example, plain_conversation, prose, reading, seeded
from reader_truth import form_values
from roc import area_under_roc
from trauma_api.engines.base import GenerationRequest, Turn
from trauma_api.engines.constrained import Grammars, choice_probabilities
from trauma_api.engines.decoding import write_prose
from trauma_api.engines.gemma import GemmaReader, ignore_text, never
from trauma_api.engines.streaming import TextStream
from trauma_api.services.analysis import FORM, FORM_MAX_TOKENS
from trauma_api.services.faithfulness import NOT_DERIVABLE
from write_untrained_checkpoints import READER_IMAGE_PIXELS

ANSWER_TOKENS = 96
RSNA_WEIGHTS: dict[str, tuple[float, ...]] = {
    "bowel_and_mesentery": (1, 2),
    "active_extravasation": (1, 6),
    "kidneys": (1, 2, 4),
    "liver": (1, 2, 4),
    "spleen": (1, 2, 4),
}
"""Of RSNA 2023, by class of truth, in the order of the form's values; "any injury" weighs 1 and 6."""
_SMALLEST = 5e-5
_TEMPERATURES = np.round(np.geomspace(0.6, 2.5, 25), 3)
Chances = dict[str, NDArray[np.float64]]
"""By field: probabilities (phantoms, values)."""


def read_form(run: Run, view: View) -> dict[str, dict[str, float]]:
    """The probabilities of each closed field, each decided after those before it, as `fill_form` does it."""
    chosen = chosen_as_served(view)
    prompt = run.writer.prompt(reading(seeded(0), len(chosen.features)).turns)
    state = run.state_after(prompt, torch.from_numpy(chosen.features))
    found: dict[str, dict[str, float]] = {}
    lead, pending = "{", list[int]()
    with torch.inference_mode():
        for name, values in FORM.choices.items():
            state.advance([*pending, *run.writer.encode(f'{lead}"{name}":"')])
            found[name] = choice_probabilities(state, values, run.writer.encode)
            pending = run.writer.encode(max(values, key=found[name].__getitem__))
            lead = '",'
    return found


def chances_of(run: Run, views: Sequence[View]) -> tuple[Chances, dict[str, NDArray[np.intp]]]:
    """Probabilities and the index of the true value, by field."""
    read = [read_form(run, view) for view in views]
    truths = [form_values(view.truth) for view in views]
    chances = {
        name: np.array([[one[name][v] for v in values] for one in read]) for name, values in FORM.choices.items()
    }
    true = {
        name: np.array([values.index(one[name]) for one in truths], np.intp) for name, values in FORM.choices.items()
    }
    return chances, true


def validate_reading(run: Run, held_out: Views) -> dict[str, Any]:
    """Macro-F1 by field and over the organs' grades, AUROC of extravasation, and the RSNA 2023 loss."""
    chances, true = chances_of(run, held_out.views)
    by_field = {name: macro_f1(true[name], chances[name].argmax(axis=1)) for name in FORM.choices}
    known = true["active_extravasation"] < 2
    bleeding = chances["active_extravasation"][known]
    return {
        "phantoms": len(held_out.views),
        "f1": by_field,
        "organ_f1": round(float(np.mean([by_field[name] for name in ("liver", "spleen", "kidneys")])), 3),
        "extravasation_auroc": area_under_roc(
            bleeding[:, 1] / bleeding[:, :2].sum(axis=1), true["active_extravasation"][known] == 1
        ),
        "rsna_loss": round(rsna_loss(chances, true), 4),
        "log_loss": round(log_loss(chances, true), 4),
    }


def macro_f1(true: NDArray[np.intp], picked: NDArray[np.intp]) -> float:
    """Mean F1 over the classes that occur."""
    scores = []
    for value in np.unique(true):
        both = int(((true == value) & (picked == value)).sum())
        scores.append(2.0 * both / max(int((true == value).sum() + (picked == value).sum()), 1))
    return round(float(np.mean(scores)), 3)


def rsna_loss(chances: Chances, true: dict[str, NDArray[np.intp]]) -> float:
    """The mean of the five weighted log losses and that of any injury, as the evaluation has it."""
    losses, healthy, injured = [], [], []
    for name, weights in RSNA_WEIGHTS.items():
        count = len(weights)
        known = true[name] < count
        clipped = np.clip(chances[name][:, :count], _SMALLEST, 1.0)
        share = clipped / clipped.sum(axis=1, keepdims=True)
        losses.append(_weighted(share[known], true[name][known], weights))
        healthy.append(np.where(known, share[:, 0], 1.0))
        injured.append(known & (true[name] > 0))
    any_healthy = np.min(healthy, axis=0)
    share = np.clip(np.stack([any_healthy, 1.0 - any_healthy], axis=1), _SMALLEST, 1.0)
    losses.append(_weighted(share, np.any(injured, axis=0).astype(np.intp), (1, 6)))
    return float(np.mean(losses))


def _weighted(share: NDArray[np.float64], true: NDArray[np.intp], weights: tuple[float, ...]) -> float:
    weight = np.array(weights)[true]
    return float(-(weight * np.log(share[np.arange(len(true)), true])).sum() / weight.sum())


def log_loss(chances: Chances, true: dict[str, NDArray[np.intp]]) -> float:
    """Mean over all fields."""
    return float(
        np.mean(
            [
                -np.log(np.clip(chances[name][np.arange(len(rows)), rows], _SMALLEST, 1.0)).mean()
                for name, rows in true.items()
            ]
        )
    )


def choose_temperature(run: Run, held_out: Views) -> float:
    """What to divide the logits by, so that the log loss of organs and bleeding is least.

    Of these alone: the severity is right in two of three phantoms, and its loss would outweigh all others.
    """
    chances, truths = chances_of(run, held_out.views)
    true = {name: truths[name] for name in RSNA_WEIGHTS}
    logs = {name: np.log(np.clip(chances[name], 1e-9, 1.0)) for name in true}

    def loss(temperature: float) -> float:
        tempered = {name: np.exp(values / temperature) for name, values in logs.items()}
        return log_loss({name: values / values.sum(axis=1, keepdims=True) for name, values in tempered.items()}, true)

    return float(min(_TEMPERATURES, key=loss))


def written_by(run: Run, grammars: Grammars, turns: tuple[Turn, ...], slots: tuple[str, ...]) -> str:
    """What the model writes under the grammar, greedily."""
    stream = TextStream(run.writer.tokenizer.backend_tokenizer, ignore_text)
    stops = frozenset({run.writer.end_of_turn, run.writer.tokenizer.eos_token_id})
    with torch.inference_mode():
        state = run.state_after(run.writer.prompt(turns), None)
        write_prose(state, grammars.prose(slots), stream, stops, ANSWER_TOKENS, never)
    return stream.text.strip()


def validate_answers(run: Run, conversations: int) -> dict[str, Any]:
    """Shares of answers and sections that are written to the letter, three turns deep, each after its own history."""
    stops = [run.writer.tokenizer.eos_token_id, run.writer.end_of_turn]
    grammars = Grammars(run.writer.tokenizer, run.model.config.get_text_config().vocab_size, stops)
    report: dict[str, Any] = {}
    wrong: list[str] = []
    for wordings in ("training", "held_out"):
        random, right = seeded(9), []
        for _ in range(conversations):
            example = plain_conversation(random, 0, "training" if wordings == "training" else "held_out")
            right += _held(run, grammars, example, wrong)
        report[f"answers_{wordings}"] = round(float(np.mean(right)), 3)
    random = seeded(9)
    sections = [prose(random) for _ in range(max(1, conversations // 2))]
    said = [written_by(run, grammars, one.turns, one.slots) == one.answers[0] for one in sections]
    return {**report, "sections": round(float(np.mean(said)), 3), "wrong": wrong[:4]}


def _held(run: Run, grammars: Grammars, example: Example, wrong: list[str]) -> list[bool]:
    right = []
    turns = list(example.turns)
    users = [place for place, turn in enumerate(turns) if turn.role == "user"]
    for place, answer in zip(users, example.answers, strict=True):
        said = written_by(run, grammars, tuple(turns[: place + 1]), example.slots)
        right.append(said == answer)
        if said != answer:
            wrong.append(f"{str(turns[place].parts[-1]).splitlines()[-1]} {said}")
        if place + 1 < len(turns):
            turns[place + 1] = Turn("assistant", (said,))
    return right


def check_export(folder: Path) -> dict[str, Any]:
    """Load a checkpoint as the service does, and fill in a form and answer a question with it.

    Raises CheckpointError or EngineError where it cannot, and ValueError where what it writes is no sense.
    """
    reader = GemmaReader.load(str(folder), device="cpu")
    picture = np.zeros((READER_IMAGE_PIXELS, READER_IMAGE_PIXELS, 3), np.uint8)
    (turn,) = reading(seeded(0), 2).turns
    turns = (Turn("user", tuple(part if isinstance(part, str) else picture for part in turn.parts)),)
    form = reader.generate(GenerationRequest(turns, FORM_MAX_TOKENS, use_adapter=True, form=FORM))
    example = plain_conversation(seeded(1), 0, "training")
    answer = reader.generate(GenerationRequest(example.turns, ANSWER_TOKENS, use_adapter=False, slots=example.slots))
    if form.finish_reason != "stop" or not set(example.answers) <= {
        *SENTENCES.values(),
        NOT_DERIVABLE,
    }:
        raise ValueError("the exported reader does not end its form")
    return {"form": form.text, "answer": answer.text, "prompt_tokens": form.prompt_tokens}
