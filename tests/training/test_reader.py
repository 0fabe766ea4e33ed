"""What the reader is trained on is what the service asks and the engine writes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from reader_data import Chosen, Writer, Written, batches_of
from reader_eyes import pooled_patches
from reader_questions import HELD_OUT, all_wordings
from reader_run import Run, encoded
from reader_text import SENTENCES, conversation, prose, random_facts, reading, section_text, seeded
from reader_truth import form_values, free_texts, severity
from train_reader import cool
from trauma_api.engines.constrained import Grammars, fill_form
from trauma_api.engines.decoding import ModelState
from trauma_api.engines.gemma import ignore_text, never
from trauma_api.engines.streaming import TextStream
from trauma_api.evaluation.questions import HELD_OUT_WORDINGS
from trauma_api.phantom.truth import ExtravasationTruth, OrganTruth, PhantomTruth
from trauma_api.services.analysis import FORM
from trauma_api.services.faithfulness import NOT_DERIVABLE, check
from write_untrained_checkpoints import READER_IMAGE_PIXELS

HEALTHY = OrganTruth(aast=0, rsna="healthy", criteria=())
LOW = OrganTruth(aast=3, rsna="low", criteria=("",))
HIGH = OrganTruth(aast=4, rsna="high", criteria=("",))
CLEAN = PhantomTruth(
    seed=0,
    scenario="random",
    phase="portal",
    aorta_hu=150.0,
    slice_count=4,
    spacing_zyx_mm=(3.0, 1.5, 1.5),
    liver=HEALTHY,
    spleen=HEALTHY,
    left_kidney=HEALTHY,
    right_kidney=HEALTHY,
    kidneys=HEALTHY,
    bowel_injury=False,
    extravasation=False,
    extravasation_sites=(),
    hemoperitoneum="none",
    total_ml=0.0,
    compartments_ml={},
    slices=(),
    distractors=(),
)
BLEEDING = CLEAN.model_copy(
    update={
        "spleen": HIGH,
        "liver": LOW,
        "extravasation": True,
        "extravasation_sites": (
            ExtravasationTruth(site="left_kidney", centre_zyx=(1, 2, 3), volume_ml=1.0, mean_hu=200.0),
        ),
        "hemoperitoneum": "large",
        "total_ml": 800.0,
        "bowel_injury": True,
    }
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training at its start."""
    return Run(tmp_path_factory.mktemp("run"), 1e-3, 0)


@pytest.fixture(scope="module")
def writer(run: Run) -> Writer:
    return run.writer


class Oracle(ModelState):
    """Writes what it was told, token by token."""

    def __init__(self, tokens: list[int], vocabulary: int) -> None:
        self._tokens, self._vocabulary, self._at = tokens, vocabulary, 0

    @property
    def logits(self) -> torch.Tensor:  # type: ignore[override]
        return self.logits_after([])

    def advance(self, tokens: list[int]) -> None:  # type: ignore[override]
        assert self._tokens[self._at : self._at + len(tokens)] == tokens
        self._at += len(tokens)

    def logits_after(self, tokens: list[int]) -> torch.Tensor:  # type: ignore[override]
        logits = torch.zeros(self._vocabulary)
        logits[self._tokens[self._at + len(tokens)]] = 10.0
        return logits


class TestTokens:
    @pytest.mark.parametrize("truth", [CLEAN, BLEEDING])
    def test_a_form_has_the_tokens_that_the_engine_writes(self, writer: Writer, truth: PhantomTruth) -> None:
        (_, _), *pieces = writer.form(reading(seeded(0), 1), truth)
        target = [token for tokens, _ in pieces for token in tokens]
        vocabulary = len(writer.tokenizer)
        guide = Grammars(writer.tokenizer, vocabulary, [writer.end_of_turn]).form(FORM)
        stream = TextStream(writer.tokenizer.backend_tokenizer, ignore_text)
        finish, chances = fill_form(Oracle(target, vocabulary), FORM, guide, stream, writer.encode, never)
        assert finish == "stop"
        assert stream.token_count == len(target)
        assert stream.text == writer.tokenizer.decode(target)
        assert {name: max(shares, key=shares.__getitem__) for name, shares in chances.items()} == form_values(truth)

    def test_what_counts_in_a_form_is_what_the_model_decides(self, writer: Writer) -> None:
        (_, read), *pieces = writer.form(reading(seeded(0), 1), CLEAN)
        decided = "".join(writer.tokenizer.decode(tokens) for tokens, weight in pieces if weight > 0)
        assert read == 0
        assert decided == 'nonenonenoneabsentabsentnoneno_injurynoneno bleeding is seen"]'

    def test_a_prompt_has_the_tokens_of_the_processor(self, writer: Writer) -> None:
        for example in (conversation(seeded(3), 2), prose(seeded(4)), reading(seeded(5), 3)):
            picture = np.zeros((8, 8, 3), np.uint8)
            messages = [
                {
                    "role": turn.role,
                    "content": [
                        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": picture}
                        for part in turn.parts
                    ],
                }
                for turn in example.turns
            ]
            served = writer.processor.apply_chat_template(
                messages,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                sanitize_control_tokens=True,
            )
            assert writer.prompt(example.turns) == served["input_ids"][0].tolist()

    def test_all_answers_of_a_conversation_count_and_nothing_else(self, writer: Writer) -> None:
        for seed in range(20):
            example = conversation(seeded(seed), 0)
            counted = [writer.tokenizer.decode(tokens) for tokens, weight in writer.said(example) if weight > 0]
            assert counted == [f"{answer}<end_of_turn>" for answer in example.answers]

    def test_values_of_a_field_differ_in_their_first_token(self, writer: Writer) -> None:
        for values in FORM.choices.values():
            assert len({writer.encode(value)[0] for value in values}) == len(values)


class TestBatches:
    def test_a_batch_holds_its_pictures_in_the_order_of_its_rows(self, writer: Writer) -> None:
        def one(count: int, level: float) -> Written:
            chosen = Chosen(np.full((count, 64, 4), level, np.float32), np.full((count, 6), level, np.float32))
            return Written(writer.form(reading(seeded(0), count), CLEAN), chosen)

        (batch,) = batches_of([one(3, 3.0), one(1, 1.0)], 10_000)
        assert batch.features is not None
        assert batch.features[:, 0, 0].tolist() == [1.0, 3.0, 3.0, 3.0]
        assert (batch.ids == writer.image_token).sum(dim=1).tolist() == [64, 192]
        assert batch.mask.sum(dim=1).tolist() == sorted(batch.mask.sum(dim=1).tolist())

    def test_cached_features_give_what_the_model_sees_by_itself(self, run: Run, writer: Writer) -> None:
        tower = run.model.model.vision_tower
        pixels = torch.rand(2, 3, READER_IMAGE_PIXELS, READER_IMAGE_PIXELS) * 2 - 1
        with torch.inference_mode():
            seen = tower(pixel_values=pixels).last_hidden_state
            there = run.model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
            here = encoded(run.model, pooled_patches(seen))["image"].pooler_output
        torch.testing.assert_close(here, there)

    def test_a_step_lowers_the_loss_and_a_saved_run_goes_on(self, run: Run, tmp_path: Path) -> None:
        chosen = Chosen(np.ones((1, 64, run.width), np.float32), np.ones((1, 6), np.float32))
        pieces = run.writer.form(reading(seeded(0), 1), BLEEDING)
        (batch,) = batches_of([Written(pieces, chosen)], 10_000)
        before = run.losses(batch)
        assert set(before) == {"written", "told"}
        for _ in range(8):
            run.step([(batch, 1.0)], 0.0)
        assert run.losses(batch)["written"] < before["written"]
        run.save()
        again = Run(run.folder, 1e-3, 5)
        again.load()
        torch.testing.assert_close(again.losses(batch)["written"], run.losses(batch)["written"])

    def test_a_temperature_divides_all_logits(self, run: Run) -> None:
        prompt = run.writer.prompt(prose(seeded(0)).turns)
        before = run.state_after(prompt, None).logits
        cool(run.model, 2.0)
        torch.testing.assert_close(run.state_after(prompt, None).logits, before / 2.0, rtol=1e-3, atol=1e-3)
        cool(run.model, 0.5)


class TestTexts:
    def test_answers_use_slots_that_exist_and_never_a_digit(self) -> None:
        for seed in range(300):
            example = conversation(seeded(seed), 0)
            for answer in (*example.answers, *prose(seeded(seed)).answers):
                assert not re.search(r"\d", answer)
            for answer in example.answers:
                assert set(re.findall(r"{(\w+)}", answer)) <= set(example.slots)
                assert answer == NOT_DERIVABLE or "{" in answer

    def test_every_slot_has_a_sentence(self) -> None:
        slots = set().union(*(random_facts(seeded(seed)).slots for seed in range(200)))
        assert {name for text in SENTENCES.values() for name in re.findall(r"{(\w+)}", text)} == slots

    def test_findings_stand_in_the_order_of_the_facts(self) -> None:
        for seed in range(100):
            facts = random_facts(seeded(seed))
            named = re.findall(r"{(\w+)}", section_text(facts, "findings"))
            in_order = [name for name in facts.slots if name in named]
            assert [name for name in named if not name.startswith("volume")] == [
                name for name in in_order if not name.startswith("volume")
            ]

    def test_no_wording_of_the_training_is_one_that_the_evaluation_holds_back(self) -> None:
        def bare(text: str) -> str:
            return re.sub(r"[^a-z ]", "", text.lower()).strip()

        held = {bare(text) for texts in HELD_OUT_WORDINGS.values() for text in texts}
        held |= {bare(text) for texts in HELD_OUT.values() for text in texts}
        assert not held & {bare(text) for text in all_wordings()}
        asked = set()
        for seed in range(3000):
            example = conversation(seeded(seed), 0)
            said = [str(turn.parts[-1]) for turn in example.turns if turn.role == "user"]
            asked |= {bare(text.rsplit("Question: ", 1)[-1]) for text in said}
        assert not held & asked

    def test_every_sentence_that_is_learnt_passes_the_services_check(self) -> None:
        random = seeded(5)
        seen = set()
        for _ in range(100):
            facts = random_facts(random)
            for name, sentence in SENTENCES.items():
                if name in facts.slots:
                    verdict = check(sentence, facts)
                    assert (verdict.reasons, name in verdict.topics) == ((), True), sentence
                    seen.add(name)
        assert seen == set(SENTENCES)
        assert check(NOT_DERIVABLE, facts).reasons == ()


class TestTruth:
    def test_a_clean_study(self) -> None:
        assert form_values(CLEAN) == {
            **dict.fromkeys(("liver", "spleen", "kidneys"), "none"),
            "bowel_and_mesentery": "absent",
            "active_extravasation": "absent",
            "hemoperitoneum": "none",
            "injury_pattern": "no_injury",
            "severity": "none",
        }
        assert free_texts(CLEAN) == ("no bleeding is seen", [])

    def test_several_injuries(self) -> None:
        values = form_values(BLEEDING)
        assert (values["liver"], values["spleen"], values["severity"]) == ("low_grade", "high_grade", "critical")
        assert (values["injury_pattern"], values["hemoperitoneum"]) == ("multiple_organs", "large")

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"extravasation": False}, "severe"),
            ({"spleen": LOW}, "severe"),
            ({"spleen": LOW, "extravasation": None}, "severe"),
            ({"spleen": LOW, "extravasation": None, "hemoperitoneum": "small"}, "moderate"),
            (
                {"spleen": LOW, "extravasation": None, "hemoperitoneum": "small", "bowel_injury": False},
                "mild",
            ),
        ],
    )
    def test_severity_by_rule(self, changes: dict[str, object], expected: str) -> None:
        assert severity(BLEEDING.model_copy(update=changes)) == expected

    def test_without_contrast_extravasation_is_not_assessed(self) -> None:
        assert form_values(CLEAN.model_copy(update={"extravasation": None}))["active_extravasation"] == "not_assessed"

    def test_every_value_is_one_of_the_form(self) -> None:
        for truth in (CLEAN, BLEEDING):
            assert all(value in FORM.choices[name] for name, value in form_values(truth).items())
