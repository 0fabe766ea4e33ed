"""Trains the phantom profile's reader (`Gemma3ForConditionalGeneration`) on one thread, in three steps.

    python training/train_reader.py --text-only --minutes 12 --out build/runs/reader_text
    python training/train_reader.py --features
    python training/train_reader.py --minutes 30 --start-from build/runs/reader_text \
        --export src/trauma_api/checkpoints/reader

The first learns to answer and to write sections, and needs no phantom. The second lets the tower that
`train_reader_tower.py` made see the phantoms once. The third learns to read as well, and exports. The first and third
go on after a stop with --resume; ``--resume --minutes 0 --export DIR`` exports what a run has reached.

The tower is frozen; the projector and the language model learn. Prompts are the service's own.
While it trains, a linear head, dropped afterwards, tells from the end of each picture what the picture shows.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch

from reader_data import (
    Batch,
    Views,
    Written,
    batches_of,
    chosen_varied,
    no_view,
)
from reader_eyes import Eyes, write_features
from reader_run import Progress, Run, cooled, start_folder
from reader_text import conversation, prose, reading, seeded
from reader_tower import read_weights
from reader_validation import check_export, choose_temperature, validate_answers, validate_reading
from trauma_api.engines.checkpoints import Metadata
from trauma_api.engines.device import silence_libraries
from trauma_api.settings import PACKAGED_CHECKPOINTS
from write_untrained_checkpoints import READER_SLICES, write_metadata

BUILD = Path(__file__).parents[1] / "build"
REFRESH_S, SAVE_S, LOG_S = 120.0, 180.0, 30.0
TEXT_WEIGHT = 0.5
"""Of the loss of answers and sections beside that of a reading."""
_POOL = 64
_CONVERSATION_SHARE = 0.75


def text_batches(run: Run, random: Random, most_tokens: int, picture_share: float, views: Views) -> Iterator[Batch]:
    """Conversations and sections; ``picture_share`` of the conversations have pictures, which they do not depend on."""
    while True:
        pool = []
        for _ in range(_POOL):
            if random.random() > _CONVERSATION_SHARE:
                pool.append(Written(run.writer.said(prose(random)), None))
                continue
            chosen = None
            if random.random() < picture_share:
                seen = views.views
                chosen = chosen_varied(random, random.choice(seen)) if seen else no_view(random, run.width)
                chosen = chosen._replace(findings=chosen.findings[:, :0])
            said = run.writer.said(conversation(random, 0 if chosen is None else len(chosen.features)))
            pool.append(Written(said, chosen))
        batches = batches_of(pool, most_tokens)
        random.shuffle(batches)
        yield from batches


def reading_batches(run: Run, random: Random, most_tokens: int, views: Views) -> Iterator[Batch]:
    """Readings of all phantoms that there are, each once before any comes again."""
    while True:
        order = random.sample(views.views, len(views.views))
        for start in range(0, len(order), _POOL):
            pool = []
            for view in order[start : start + _POOL]:
                chosen = chosen_varied(random, view)
                pieces = run.writer.form(reading(random, len(chosen.features)), view.truth)
                pool.append(Written(pieces, chosen))
            batches = batches_of(pool, most_tokens)
            random.shuffle(batches)
            yield from batches


def train(run: Run, arguments: argparse.Namespace) -> None:
    """Train until ``minutes`` of the run are over, in sum over its resumptions."""
    budget_s, before_s, began = arguments.minutes * 60.0, run.progress.elapsed_s, time.monotonic()
    # a resumed run goes on with other examples than it began with
    random = seeded(arguments.seed + run.progress.step)
    torch.manual_seed(arguments.seed + run.progress.step)
    views, held_out = Views(arguments.set, arguments.twins), Views(arguments.validation_set)
    if not arguments.text_only and not views.refresh():
        raise FileNotFoundError(f"no phantom in {arguments.set} has features; make them with --features")
    texts = text_batches(run, random, arguments.text_tokens, 0.2 if arguments.text_only else 0.7, views)
    readings = None if arguments.text_only else reading_batches(run, random, arguments.reading_tokens, views)
    refreshed = saved = validated = logged = before_s
    since: dict[str, float] = {}
    while (now := run.progress.elapsed_s) < budget_s:
        if now - refreshed > REFRESH_S and not arguments.text_only:
            refreshed = now
            run.log(phantoms=views.refresh())
        if now - saved > SAVE_S:
            saved = now
            run.save()
        if now - validated > 60 * arguments.validate_minutes:
            validated = now
            validate(run, held_out, arguments)
        batches = [(next(texts), 1.0 if readings is None else TEXT_WEIGHT)]
        if readings is not None:
            batches.append((next(readings), 1.0))
        losses = run.step(batches, now / budget_s)
        for name, value in zip(("text", "reading"), losses, strict=False):
            since[name] = 0.97 * since.get(name, value) + 0.03 * value
        tokens = run.progress.tokens + sum(batch.tokens for batch, _ in batches)
        run.progress = Progress(run.progress.step + 1, tokens, before_s + time.monotonic() - began)
        if now - logged > LOG_S:
            run.log(**{name: round(value, 4) for name, value in since.items()}, tokens=tokens)
            logged = now
    # an export beside a run that is still going must not put an older state in its place
    if run.progress.elapsed_s > before_s:
        run.save()
        validate(run, held_out, arguments)


def validate(run: Run, held_out: Views, arguments: argparse.Namespace) -> None:
    """Measure the averaged weights as the engine would use them, and log it."""
    run.swap_average()
    run.model.eval()
    report: dict[str, Any] = validate_answers(run, arguments.conversations)
    if not arguments.text_only and held_out.refresh():
        report |= validate_reading(run, held_out)
    run.model.train()
    run.swap_average()
    run.log(**report)


def export(run: Run, arguments: argparse.Namespace) -> None:
    """Write the averaged weights with the tower as a checkpoint in 16 bit, and use it through the engine."""
    held_out, training = Views(arguments.validation_set), Views(arguments.set)
    phantoms = training.refresh()
    run.swap_average()
    run.model.eval()
    report: dict[str, Any] = {}
    if held_out.refresh():
        report = validate_reading(run, held_out)
        temperature = choose_temperature(run, held_out)
        cool(run.model, temperature)
        report["temperature"] = temperature
    put_tower(run.model, arguments.tower)
    run.model.half().save_pretrained(arguments.export)
    run.writer.processor.save_pretrained(arguments.export)
    # safetensors writes files that only their owner may read; a package's files are for everyone
    (arguments.export / "model.safetensors").chmod(0o644)
    trained_on = (
        f"{phantoms} synthetic CT phantoms of trauma_api.phantom, and questions and report sections made from random "
        "findings; no patient's CT"
    )
    metadata = Metadata(
        role="reader",
        architecture="Gemma3ForConditionalGeneration",
        trained_on=trained_on,
        slice_budget=READER_SLICES,
    )
    write_metadata(arguments.export, metadata)
    run.log(exported=arguments.export.name, **report, **check_export(arguments.export))


def cool(model: Any, temperature: float) -> None:
    """Divide all logits by ``temperature``."""
    with torch.no_grad():
        weight = model.model.language_model.norm.weight
        weight.copy_(cooled(weight, temperature))


def put_tower(model: Any, tower: Path) -> None:
    """Load the weights that `train_reader_tower` exported."""
    target = model.model.vision_tower
    getattr(target, "vision_model", target).load_state_dict(read_weights(tower))


def make_features(arguments: argparse.Namespace) -> None:
    """Let the tower see all phantoms, those of the validation first; go on when new ones have come meanwhile."""
    eyes = Eyes(arguments.triage, arguments.tower)
    part, parts = arguments.part
    for folder in (arguments.validation_set, arguments.set):
        truths = sorted(folder.glob("[0-9]*/truth.json"))[part::parts]
        for number, truth in enumerate(truths, start=1):
            write_features(truth.parent, eyes)
            if number % 50 == 0 or number == len(truths):
                print(f"{folder.name}: {number} of {len(truths)}", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, default=BUILD / "phantom_set")
    parser.add_argument("--validation-set", type=Path, default=BUILD / "phantom_set_val")
    parser.add_argument("--triage", type=Path, default=PACKAGED_CHECKPOINTS / "triage", help="which selects slices")
    parser.add_argument("--tower", type=Path, default=BUILD / "runs" / "tower" / "tower.safetensors")
    parser.add_argument("--twins", type=Path, help="a further set, of painted twins")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help="of the features: which, of how many")
    parser.add_argument("--out", type=Path, default=BUILD / "runs" / "reader")
    parser.add_argument("--features", action="store_true", help="let the tower see the phantoms, and end")
    parser.add_argument("--text-only", action="store_true")
    parser.add_argument("--start-from", type=Path, help="a run or a checkpoint whose weights to begin with")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--reading-tokens", type=int, default=3500)
    parser.add_argument("--text-tokens", type=int, default=2000)
    parser.add_argument("--validate-minutes", type=float, default=4.0, help="between looks at the validation set")
    parser.add_argument("--conversations", type=int, default=20, help="of three turns each, in a validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--export", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    silence_libraries()
    torch.set_num_threads(1)
    if arguments.features:
        make_features(arguments)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    known = None if arguments.start_from is None else start_folder(arguments.start_from) / "tokenizer.json"
    run = Run(arguments.out, arguments.rate, arguments.seed, known)
    if arguments.resume:
        run.load()
    elif run.has_state:
        raise FileExistsError(f"there is a run in {arguments.out}; go on with it by --resume, or name another --out")
    elif arguments.start_from:
        run.start_from(arguments.start_from)
    train(run, arguments)
    if arguments.export:
        export(run, arguments)


if __name__ == "__main__":
    main()
