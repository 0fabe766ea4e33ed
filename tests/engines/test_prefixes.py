"""Prompts are gone on from instead of read again, and what is written is the same to the letter."""

import numpy as np
import pytest
import torch
from tests.support.passes import passes
from transformers import DynamicCache

from trauma_api.engines.base import GenerationRequest
from trauma_api.engines.gemma import GemmaReader
from trauma_api.engines.prefixes import ByteBudget, Prefixes, picture_digest
from trauma_api.imaging.volume import PictureStack
from trauma_api.services.prompts import answer_opening, answer_turns
from trauma_api.settings import Settings

STATEMENTS = (
    "Liver: no injury seen (model probability 93%).",
    "Spleen: high-grade injury (AAST IV or V) (model probability 61%).",
    "Hemorrhage volume: 412.7 mL (380.1 mL to 450.9 mL), an unvalidated estimate.",
)
SLOTS = ("liver", "spleen", "volume_ml", "volume_low_ml", "volume_high_ml")
QUESTIONS = ("Is the spleen injured?", "How much blood is there?", "And the liver?", "Is the pancreas torn?")


@pytest.fixture(scope="module")
def pictures() -> PictureStack:
    """More than the sliding window's positions, with the facts."""
    draw = np.random.default_rng(3)
    return PictureStack(draw.integers(0, 255, (7, 40, 40, 3), dtype=np.uint8))


def load(kept_bytes: int) -> GemmaReader:
    """The shipped reader, keeping so much."""
    reader = GemmaReader.load(str(Settings().reader_source), device="cpu")
    return GemmaReader(reader._model, reader._prompts._processor, reader.info, kept_bytes=kept_bytes)


@pytest.fixture(scope="module")
def keeping() -> GemmaReader:
    """A reader that keeps what it has seen."""
    return load(2**28)


@pytest.fixture(scope="module")
def forgetting() -> GemmaReader:
    """One that keeps nothing."""
    return load(0)


def request(
    pictures: PictureStack, history: list[tuple[str, str]], question: str, *, indices: tuple[int, ...] = tuple(range(7))
) -> GenerationRequest:
    """A question of a conversation."""
    turns = answer_turns(pictures, indices, STATEMENTS, SLOTS, history, question)
    return GenerationRequest(
        turns, max_new_tokens=40, use_adapter=False, slots=SLOTS, shared_text=answer_opening(STATEMENTS, SLOTS)
    )


class TestConversation:
    def test_every_answer_is_the_same_as_without(
        self, keeping: GemmaReader, forgetting: GemmaReader, pictures: PictureStack
    ) -> None:
        history: list[tuple[str, str]] = []
        for question in QUESTIONS:
            with_it = keeping.generate(request(pictures, history, question))
            without = forgetting.generate(request(pictures, history, question))
            assert with_it == without
            history.append((question, without.text))
        assert keeping._prefixes.held_bytes > 0
        assert forgetting._prefixes.held_bytes == 0

    def test_the_first_question_reads_pictures_and_facts_once_and_the_next_ones_do_not(
        self, pictures: PictureStack
    ) -> None:
        reader = load(2**28)
        prompt = reader.generate(request(pictures, [], QUESTIONS[0])).prompt_tokens
        assert prompt > 512  # beyond the sliding window
        for question in QUESTIONS[1:]:
            with passes(reader) as seen:
                reader.generate(request(pictures, [], question))
            assert seen[0][0] < 40
            assert all(count == 0 for _, count in seen)

    def test_a_follow_up_goes_on_from_the_answer(self, pictures: PictureStack) -> None:
        reader = load(2**28)
        first = reader.generate(request(pictures, [], QUESTIONS[0]))
        history = [(QUESTIONS[0], first.text)]
        with passes(reader) as seen:
            reader.generate(request(pictures, history, QUESTIONS[1]))
        # the end of the turn, the next question, and the opening of the answer
        assert seen[0][0] < 45

    def test_other_pictures_or_facts_are_read_anew(self, pictures: PictureStack) -> None:
        reader = load(2**28)
        reader.generate(request(pictures, [], QUESTIONS[0]))
        with passes(reader) as seen:
            reader.generate(request(pictures, [], QUESTIONS[0], indices=(0, 1, 2, 3, 4, 6, 5)))
        assert sum(count for _, count in seen) == 7
        turns = answer_turns(pictures, range(7), STATEMENTS[:2], SLOTS, [], QUESTIONS[0])
        other = GenerationRequest(
            turns, 40, use_adapter=False, slots=SLOTS, shared_text=answer_opening(STATEMENTS[:2], SLOTS)
        )
        with passes(reader) as seen:
            with_it = reader.generate(other)
        assert sum(count for _, count in seen) == 7
        assert with_it == load(0).generate(other)

    def test_a_picture_that_was_seen_does_not_go_through_the_tower_again(self, pictures: PictureStack) -> None:
        reader = load(2**28)
        reader.generate(request(pictures, [], QUESTIONS[0]))
        towered: list[int] = []
        handle = reader._model.model.vision_tower.register_forward_pre_hook(
            lambda _model, args, named: towered.append(len(named.get("pixel_values", args[0] if args else ()))),
            with_kwargs=True,
        )
        reader.generate(request(pictures, [], QUESTIONS[0], indices=(6, 5, 4)))
        handle.remove()
        assert towered == []

    def test_a_cancelled_question_leaves_what_is_kept_whole(
        self, forgetting: GemmaReader, pictures: PictureStack
    ) -> None:
        reader = load(2**28)
        reader.generate(request(pictures, [], QUESTIONS[0]))
        calls = iter([False, False, False, True])
        reader.generate(request(pictures, [], QUESTIONS[1]), cancelled=lambda: next(calls, True))
        again = request(pictures, [], QUESTIONS[1])
        assert reader.generate(again) == forgetting.generate(again)


class TestByteBudget:
    def test_what_was_not_used_for_longest_goes_first(self) -> None:
        kept: ByteBudget[str, int] = ByteBudget(10)
        for name in "abc":
            kept.put(name, ord(name), 3)
        assert kept.get("a") == ord("a")
        kept.put("d", 4, 3)
        assert kept.keys() == ["c", "a", "d"]
        assert kept.held_bytes == 9
        kept.put("huge", 0, 11)
        assert kept.get("huge") is None
        assert kept.keys() == ["c", "a", "d"]
        kept.put("c", 5, 4)
        assert (kept.get("c"), kept.held_bytes) == (5, 10)
        kept.clear()
        assert (kept.keys(), kept.held_bytes) == ([], 0)


class TestPrefixes:
    def test_a_prompt_is_not_its_own_prefix_and_keys_keep_apart(self) -> None:
        prefixes = Prefixes(2**20)
        cache = DynamicCache()
        cache.update(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2), 0)
        prefixes.keep(False, ("x",), [1, 2, 3], cache)
        assert prefixes.longest(False, ("x",), [1, 2, 3]) is None
        assert prefixes.longest(False, ("x",), [1, 2, 4, 5]) is None
        assert prefixes.longest(True, ("x",), [1, 2, 3, 4]) is None
        assert prefixes.longest(False, ("y",), [1, 2, 3, 4]) is None
        found = prefixes.longest(False, ("x",), [1, 2, 3, 4])
        assert found is not None
        assert found[0] == 3

    def test_going_on_from_a_fork_leaves_the_kept_one_as_it_was(self) -> None:
        prefixes = Prefixes(2**20)
        cache = DynamicCache()
        cache.update(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2), 0)
        prefixes.keep(False, (), [1, 2, 3], cache)
        for _ in range(2):
            found = prefixes.longest(False, (), [1, 2, 3, 4])
            assert found is not None
            found[1].update(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), 0)
            assert found[1].get_seq_length() == 5
        again = prefixes.longest(False, (), [1, 2, 3, 4])
        assert again is not None
        assert again[1].get_seq_length() == 3

    def test_what_has_no_room_on_the_device_is_found_again_in_the_hosts_memory(self) -> None:
        prefixes = Prefixes(200, 200)  # each of the caches has 96 bytes, so that two fit
        for value in range(5):
            cache = DynamicCache()
            cache.update(torch.full((1, 1, 3, 2), value), torch.full((1, 1, 3, 2), value), 0)  # int64
            prefixes.keep(False, (), [value, 0, 0], cache)
        assert (prefixes.held_bytes, prefixes.host_bytes) == (192, 192)
        assert prefixes.longest(False, (), [0, 0, 0, 9]) is None
        found = prefixes.longest(False, (), [2, 0, 0, 9])
        assert found is not None
        assert torch.equal(found[1].layers[0].keys, torch.full((1, 1, 3, 2), 2))
        assert (prefixes.held_bytes, prefixes.host_bytes) == (192, 192)
        prefixes.clear()
        assert (prefixes.held_bytes, prefixes.host_bytes) == (0, 0)

    def test_pictures_differ_by_shape_and_pixels(self) -> None:
        flat = np.zeros((2, 3, 3), np.uint8)
        assert picture_digest(flat) == picture_digest(flat.copy())
        assert picture_digest(flat) != picture_digest(flat.reshape(3, 2, 3))
        assert picture_digest(flat) != picture_digest(flat + 1)
