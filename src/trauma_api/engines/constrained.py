"""What the reader may write: prose without digits, and JSON forms, both under XGrammar grammars."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import xgrammar

from trauma_api.engines.base import EngineError, JsonForm
from trauma_api.engines.decoding import FinishReason, ModelState, Writable
from trauma_api.engines.streaming import TextStream

# Listed, not "anything but digits": Unicode has hundreds of digits, superscripts, fractions and number words in other
# scripts, and only a list of plain ASCII keeps every way of writing a number out. No < or > either, which open markup.
PROSE_CHARACTERS = r"""[A-Za-z \n.,;:!?'"()/%+*&-]"""
# A token that is best without the grammar and allowed by it is best under it. Asking for a few tokens takes
# microseconds; the mask of Gemma's 262,208 takes up to 0.2 s in a bounded string, so it comes second.
_TRIED_FIRST = 8
_SLOT_NAME = re.compile(r"[a-z][a-z_]*")
_CHARACTER_CLASS = re.compile(r"\[(?:\\.|[^\]\\])*\]|\\.")
_UNBOUNDED_REPEAT = re.compile(r"[*+]|\{\d*,\}")


class TokenGuide:
    """One walk through a grammar. Single use."""

    def __init__(
        self, grammar: xgrammar.CompiledGrammar, vocabulary: int, forbidden: torch.Tensor, *, stops_by_itself: bool
    ) -> None:
        self._matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=stops_by_itself)
        self._bits = xgrammar.allocate_token_bitmask(1, vocabulary)
        self._forbidden = forbidden

    @property
    def finished(self) -> bool:
        """Whether the grammar has come to its end."""
        return bool(self._matcher.is_terminated())

    def pick(self, logits: torch.Tensor) -> int:
        """The most probable token that the grammar allows, taken as said; ``logits`` is float32 (vocabulary,)."""
        allowed = logits.clone()
        allowed[self._forbidden.to(logits.device)] = -torch.inf
        for token in allowed.topk(_TRIED_FIRST).indices.tolist():
            if self._matcher.accept_token(token):
                return int(token)
        self._matcher.fill_next_token_bitmask(self._bits)
        # the Triton kernel that is the default on CUDA needs a C compiler at run time
        backend = "cpu" if logits.device.type == "cpu" else "torch_native"
        xgrammar.apply_token_bitmask_inplace(allowed[None], self._bits.to(logits.device), backend=backend)
        token = int(allowed.argmax())
        if not self._matcher.accept_token(token):
            raise EngineError("The grammar refuses every token of the reader's vocabulary.")
        return token

    def forced_text(self) -> str:
        """The text that must come next, "" where there is a choice; it is taken as said."""
        text = str(self._matcher.find_jump_forward_string())
        if text:
            self.accept_text(text)
        return text

    def accept_text(self, text: str) -> None:
        """Take ``text`` as said. Raises EngineError where the grammar does not allow it."""
        if not self._matcher.accept_string(text):
            raise EngineError(f"The form's grammar does not allow {text!r}.")


class Grammars:
    """Compiles grammars for one tokenizer, each once."""

    def __init__(self, tokenizer: Any, vocabulary: int, stop_tokens: Sequence[int]) -> None:
        """``vocabulary`` is the number of the model's logits, which may be more than the tokenizer's tokens."""
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocabulary, stop_token_ids=list(stop_tokens)
        )
        # XGrammar's own cache fails on a bounded pattern ("per_rule_fsm_hashes", 0.2.8), so grammars are kept here.
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=2, cache_enabled=False)
        self._compiled: dict[str, xgrammar.CompiledGrammar] = {}
        self._vocabulary = vocabulary
        specials = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        # XGrammar takes a special token for its letters ("<bos>"), which a string in a form could spell
        self._forbidden = torch.tensor(sorted(specials - set(stop_tokens)), dtype=torch.long)

    def prose(self, slots: tuple[str, ...]) -> TokenGuide:
        """Text that begins with a letter or a slot. Raises EngineError for a slot's name that is no plain word."""
        for slot in slots:
            if not _SLOT_NAME.fullmatch(slot):
                raise EngineError(f"The slot {slot!r} is not named in small letters and underscores.")
        # In this shape a mask takes 15 microseconds, as one repeated alternative 0.2 s (Gemma's vocabulary).
        if slots:
            names = " | ".join(json.dumps(slot) for slot in slots)
            text = f"([A-Za-z] | slot) {PROSE_CHARACTERS}* (slot {PROSE_CHARACTERS}*)*"
            ebnf = f'root ::= {text}\nslot ::= "{{" ({names}) "}}"'
        else:
            ebnf = f"root ::= [A-Za-z] {PROSE_CHARACTERS}*"
        return self._guide(ebnf, lambda: self._compiler.compile_grammar(ebnf), stops_by_itself=False)

    def form(self, form: JsonForm) -> TokenGuide:
        """The whole JSON object of ``form``, without white space. Raises EngineError where it has no longest text."""
        _require_bounded(form.free_schema)
        schema = json.dumps(object_schema(form))
        return self._guide(
            schema,
            lambda: self._compiler.compile_json_schema(schema, any_whitespace=False, separators=(",", ":")),
            stops_by_itself=True,
        )

    def _guide(
        self, key: str, compile_it: Callable[[], xgrammar.CompiledGrammar], *, stops_by_itself: bool
    ) -> TokenGuide:
        if key not in self._compiled:
            try:
                self._compiled[key] = compile_it()
            except RuntimeError as error:
                raise EngineError("XGrammar cannot compile this grammar.") from error
        return TokenGuide(self._compiled[key], self._vocabulary, self._forbidden, stops_by_itself=stops_by_itself)


def object_schema(form: JsonForm) -> dict[str, Any]:
    """The JSON Schema of the whole object: the closed fields in their order, then the free ones; all are required."""
    closed = {name: {"type": "string", "enum": list(values)} for name, values in form.choices.items()}
    properties = {**closed, **form.free_schema.get("properties", {})}
    return {
        **form.free_schema,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _require_bounded(schema: object) -> None:
    """Refuse a schema of which a text could go on without end: then cutting it would be the only way to stop."""
    if isinstance(schema, Mapping):
        if "enum" not in schema and "const" not in schema and not _is_bounded(schema):
            raise EngineError(f"A form's {schema.get('type')} needs a bound (maxLength, a bounded pattern, maxItems).")
        for part in schema.values():
            _require_bounded(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            _require_bounded(part)


def _is_bounded(schema: Mapping[str, Any]) -> bool:
    match schema.get("type"):
        case "string" if "pattern" in schema:
            # XGrammar ignores maxLength beside a pattern
            return not _UNBOUNDED_REPEAT.search(_CHARACTER_CLASS.sub("x", schema["pattern"]))
        case "string":
            return "maxLength" in schema
        case "array":
            return "maxItems" in schema
        case "number" | "integer":
            return False
        case _:
            return True


def fill_form(
    state: ModelState,
    form: JsonForm,
    guide: TokenGuide,
    stream: TextStream,
    encode: Callable[[str], list[int]],
    cancelled: Callable[[], bool],
    writing: Callable[[ModelState], AbstractContextManager[Writable]] = nullcontext,
) -> tuple[FinishReason, dict[str, dict[str, float]]]:
    """Write the form's object, and return the probabilities of each closed field that was decided.

    The object's fixed text is tokenized on its own, and so is each value of a closed field: ``{"liver":"`` ``none``
    ``","spleen":"`` ... Training must write its targets in the same pieces. The free fields are written to their
    bounded end, whatever the number of tokens, so the text is valid JSON unless it was cancelled. They are written from
    what ``writing`` makes of the state.
    """
    probabilities: dict[str, dict[str, float]] = {}
    pending: list[int] = []
    lead = "{"
    for name, values in form.choices.items():
        if cancelled():
            return "cancelled", probabilities
        pending += _write_fixed(f'{lead}{json.dumps(name)}:"', guide, stream, encode)
        state.advance(pending)
        probabilities[name] = choice_probabilities(state, values, encode)
        chosen = max(values, key=probabilities[name].__getitem__)
        pending = _write_fixed(_escaped(chosen), guide, stream, encode)
        lead = '",'
    with writing(state) as writable:
        return _write_free(writable, guide, stream, encode, pending, cancelled), probabilities


def choice_probabilities(
    state: ModelState, values: Sequence[str], encode: Callable[[str], list[int]]
) -> dict[str, float]:
    """How probable each value is as the next text under a grammar that allows these alone; sums to 1.

    Values that begin with the same tokens share their way to where they part, and at each parting only the tokens that
    lead on to a value are weighed against each other. So a value is no less probable for being spelled in more tokens.
    Raises EngineError where a value is the beginning of another.
    """
    for value in values:
        if any(other.startswith(value) for other in values if other is not value):
            raise EngineError(f"The value {value!r} is the beginning of another value of its field.")
    shares = _shares(state, {value: encode(_escaped(value)) for value in values}, [])
    return {value: shares[value] for value in values}


def _shares(state: ModelState, spelled: Mapping[str, Sequence[int]], said: list[int]) -> dict[str, float]:
    """Probability of each value, all of which begin with the tokens ``said``."""
    if len(spelled) == 1:
        return dict.fromkeys(spelled, 1.0)
    branches: dict[int, dict[str, Sequence[int]]] = {}
    for value, tokens in spelled.items():
        branches.setdefault(tokens[len(said)], {})[value] = tokens
    weights = [1.0]
    if len(branches) > 1:
        weights = state.logits_after(said)[list(branches)].double().softmax(dim=0).tolist()
    return {
        value: weight * share
        for (token, branch), weight in zip(branches.items(), weights, strict=True)
        for value, share in _shares(state, branch, [*said, token]).items()
    }


def _escaped(value: str) -> str:
    return json.dumps(value)[1:-1]


def _write_fixed(text: str, guide: TokenGuide, stream: TextStream, encode: Callable[[str], list[int]]) -> list[int]:
    guide.accept_text(text)
    tokens = encode(text)
    stream.push(tokens)
    return tokens


def _write_free(
    state: Writable,
    guide: TokenGuide,
    stream: TextStream,
    encode: Callable[[str], list[int]],
    pending: list[int],
    cancelled: Callable[[], bool],
) -> FinishReason:
    while not guide.finished:
        if cancelled():
            return "cancelled"
        if forced := encode(guide.forced_text()):
            stream.push(forced)
            pending += forced
        else:
            state.advance(pending)
            pending = [guide.pick(state.logits)]
            stream.push(pending)
    return "stop"
